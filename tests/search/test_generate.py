"""What `generate` and `ask` draw: searches that mostly find something."""

import asyncio

import pytest

from fhir_server.errors import FhirError
from fhir_server.search.match import match, others
from fhir_server.search.parse import parse
from tests.search import ask, generate
from tests.search.comparing import COMMON, linked_resource, random_of, told
from tests.storage.questions import BASE, NOW


def test_the_searches_that_are_generated_mostly_find_something(
    runner: asyncio.Runner,
) -> None:
    """Otherwise the oracle would agree about nothing but emptiness."""
    outcomes = {"refused": 0, "some": 0, "none": 0, "all": 0}
    for seed in range(600):
        random = random_of(seed)
        resource_type = random.choice(COMMON)
        resources = [generate.resource(resource_type, f"r{n}", random) for n in range(12)]
        asked = [pair for pair in ask.parameters(resource_type, random) if "@" not in pair[1]]
        try:
            query = runner.run(told(parse(resource_type, asked, base=BASE, now=NOW).query))
        except FhirError:
            outcomes["refused"] += 1
            continue
        hits = sum(match(query.where, {"meta": {}, **resource}, {}) for resource in resources)
        outcomes[{0: "none", 12: "all"}.get(hits, "some")] += 1
    assert outcomes["some"] > 120, outcomes
    assert outcomes["refused"] < 200, outcomes


def test_codes_and_places_that_are_looked_up_are_often_found(runner: asyncio.Runner) -> None:
    outcomes = {"refused": 0, "some": 0, "none": 0, "all": 0}
    for seed in range(200):
        random = random_of(seed)
        resource_type = random.choice(("Condition", "Observation", "Location", "CarePlan"))
        resources = [generate.resource(resource_type, f"r{n}", random, 0.8) for n in range(12)]
        name, value = ask.looked_up(resource_type, random)
        try:
            search = parse(resource_type, [(name, value)], base=BASE, now=NOW)
            query = runner.run(told(search.query))
        except FhirError:
            outcomes["refused"] += 1
            continue
        hits = sum(match(query.where, {"meta": {}, **resource}) for resource in resources)
        outcomes[{0: "none", 12: "all"}.get(hits, "some")] += 1
    assert outcomes["some"] > 50, outcomes
    assert outcomes["refused"] < 40, outcomes


def test_the_chains_that_are_generated_often_find_something(runner: asyncio.Runner) -> None:
    outcomes = {"refused": 0, "some": 0, "none": 0}
    for seed in range(60):
        random = random_of(seed)
        resources = [{"meta": {}, **linked_resource(number, random)} for number in range(36)]
        world = others(resources)
        for _ in range(20):
            resource_type = random.choice(generate.WORLD)
            name, value = ask.chained(resource_type, random)
            try:
                query = runner.run(
                    told(parse(resource_type, [(name, value)], base=BASE, now=NOW).query)
                )
            except FhirError:
                outcomes["refused"] += 1
                continue
            hits = [
                resource
                for resource in resources
                if resource["resourceType"] == resource_type and match(query.where, resource, world)
            ]
            outcomes["some" if hits else "none"] += 1
    assert outcomes["some"] > 200, outcomes
    assert outcomes["refused"] < 400, outcomes


@pytest.mark.parametrize("name", ["_filter", "_text", "_content"])
def test_the_expressions_that_are_generated_often_find_something(name: str) -> None:
    outcomes = {"refused": 0, "some": 0, "none": 0}
    for seed in range(400):
        random = random_of(seed)
        resource_type = random.choice(COMMON)
        resources = [generate.resource(resource_type, f"r{n}", random, 0.6) for n in range(12)]
        value = ask.filtered(resource_type, random) if name == "_filter" else ask.worded(random)
        try:
            query = parse(resource_type, [(name, value)], base=BASE, now=NOW).query
        except FhirError:
            outcomes["refused"] += 1
            continue
        hits = sum(match(query.where, {"meta": {}, **resource}, {}) for resource in resources)
        outcomes["some" if 0 < hits < 12 else "none"] += 1
    assert outcomes["some"] > 80, outcomes
    assert outcomes["refused"] < 100, outcomes
