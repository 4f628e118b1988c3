"""Every backend finds what `match` says, in the order that the sort says, page by page.

Hypothesis draws resources of one type and searches as they stand in an address; see
`generate.py`. `HYPOTHESIS_PROFILE=nightly` tries far more.
"""

import asyncio
import json as stdlib_json
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from functools import total_ordering
from pathlib import Path
from random import Random
from typing import Any, Final, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from fhir_server.errors import FhirError
from fhir_server.fhir import json
from fhir_server.fhir.definitions import resource_types
from fhir_server.fhir.json import Resource
from fhir_server.search.ast import Queries, Query, Search, SortKey
from fhir_server.search.extract import extract
from fhir_server.search.match import Others, match, others
from fhir_server.search.parse import parse, parse_several
from fhir_server.search.values import (
    CompositeValue,
    ContainedValue,
    DateValue,
    IndexValue,
    NumberValue,
    PositionValue,
    QuantityValue,
    ReferenceValue,
    StringValue,
    TextValue,
    TokenValue,
    UriValue,
)
from fhir_server.storage.interface import Position, Store
from fhir_server.terminology.resolve import resolved
from tests.search import ask, generate
from tests.search.shelf import Shelf
from tests.storage.backends import BACKENDS
from tests.storage.questions import BASE, NOW, put

COMMON: Final = (
    "Patient",
    "CarePlan",
    "Goal",
    "Flag",
    "Consent",
    "EpisodeOfCare",
    "Encounter",
    "Observation",
    "Task",
    "RiskAssessment",
    "Condition",
    "ChargeItem",
    "ValueSet",
    "Location",
)
EXAMPLES: Final = {"default": 300, "nightly": 20_000}[
    os.environ.get("HYPOTHESIS_PROFILE", "default")
]
SEEDS: Final = st.integers(0, 2**32)


def random_of(seed: int) -> Random:
    return Random(seed)  # noqa: S311 - test data


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


_seen: Final[Counter[str]] = Counter()
_failed: Final[set[str]] = set()


def run_share(
    runner: asyncio.Runner, backend: str, compare: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    """Compare one example in so many on a slow server; all of them where one has failed."""
    test = os.environ["PYTEST_CURRENT_TEST"]
    _seen[test] += 1
    if (_seen[test] - 1) % BACKENDS[backend].share and test not in _failed:
        return
    try:
        runner.run(compare())
    except BaseException:
        _failed.add(test)
        raise


@pytest.mark.parametrize("backend", sorted(BACKENDS))
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=EXAMPLES == 300,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    resource_type=st.sampled_from(COMMON) | st.sampled_from(resource_types()),
    resource_seeds=st.lists(SEEDS, min_size=1, max_size=25, unique=True),
    query_seeds=st.lists(SEEDS, min_size=10, max_size=25, unique=True),
)
def test_a_backend_finds_what_the_query_means(
    runner: asyncio.Runner,
    backend: str,
    resource_type: str,
    resource_seeds: list[int],
    query_seeds: list[int],
) -> None:
    resources = [
        generate.resource(resource_type, f"r{number}", random_of(seed))
        for number, seed in enumerate(resource_seeds)
    ]
    run_share(runner, backend, lambda: compare(backend, resource_type, resources, query_seeds))


async def compare(
    backend: str, resource_type: str, resources: Sequence[Resource], query_seeds: Sequence[int]
) -> None:
    with tempfile.TemporaryDirectory() as place:
        store = await BACKENDS[backend].open(Path(place))
        try:
            stored = await write(store, resources)
            for seed in query_seeds:
                await compare_one(store, resource_type, stored, random_of(seed))
        finally:
            await store.close()


async def write(store: Store, resources: Sequence[Resource]) -> list[Resource]:
    """As they are stored, with `meta`; some were something else before."""
    await put(store, *(resource | {"implicitRules": "urn:old"} for resource in resources[::3]))
    await put(store, *resources[::2])
    versions = [(await put(store, resource))[0] for resource in resources[1::2]]
    for resource in resources[::2]:
        found = await store.read(resource["resourceType"], resource["id"])
        assert found is not None
        versions.append(found)
    return [json.decode_resource(version.body) for version in versions]


async def compare_one(
    store: Store, resource_type: str, stored: Sequence[Resource], random: Random
) -> None:
    await compare_asked(
        store, resource_type, ask.parameters(resource_type, random), stored, {}, random
    )


async def compare_asked(
    store: Store,
    resource_type: str,
    parameters: Sequence[tuple[str, str]],
    stored: Sequence[Resource],
    world: Others,
    random: Random,
) -> None:
    asked = [(name, with_times(value, stored, random)) for name, value in parameters]
    try:
        query = await told(parse(resource_type, asked, base=BASE, now=NOW).query)
    except FhirError:
        event("refused")
        return
    count = random.randint(1, 7)
    found = await pages(store, query, count)
    expected = {resource["id"] for resource in stored if match(query.where, resource, world)}
    assert sorted(found) == sorted(expected), f"{resource_type}?{asked} by {count}: {stored}"
    assert await store.total(query) == len(expected), f"{resource_type}?{asked}"
    by_id = {resource["id"]: resource for resource in stored}
    assert_sorted([by_id[resource_id] for resource_id in found], query.sort)
    event("some" if expected else "none")


@pytest.mark.parametrize("backend", sorted(BACKENDS))
@settings(
    max_examples=EXAMPLES // 3,
    deadline=None,
    derandomize=EXAMPLES == 300,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    resource_seeds=st.lists(SEEDS, min_size=8, max_size=40, unique=True),
    query_seeds=st.lists(SEEDS, min_size=20, max_size=40, unique=True),
)
def test_a_backend_finds_by_chains_what_they_mean(
    runner: asyncio.Runner, backend: str, resource_seeds: list[int], query_seeds: list[int]
) -> None:
    resources = [
        linked_resource(number, random_of(seed)) for number, seed in enumerate(resource_seeds)
    ]
    run_share(runner, backend, lambda: compare_chains(backend, resources, query_seeds))


@pytest.mark.parametrize("backend", sorted(BACKENDS))
@settings(
    max_examples=EXAMPLES // 5,
    deadline=None,
    derandomize=EXAMPLES == 300,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    resource_type=st.sampled_from(("Condition", "Observation", "Location", "CarePlan", "ValueSet")),
    resource_seeds=st.lists(SEEDS, min_size=5, max_size=25, unique=True),
    query_seeds=st.lists(SEEDS, min_size=10, max_size=25, unique=True),
)
def test_a_backend_finds_codes_that_are_looked_up_and_places(
    runner: asyncio.Runner,
    backend: str,
    resource_type: str,
    resource_seeds: list[int],
    query_seeds: list[int],
) -> None:
    resources = [
        generate.resource(resource_type, f"r{number}", random_of(seed), 0.8)
        for number, seed in enumerate(resource_seeds)
    ]
    run_share(
        runner,
        backend,
        lambda: compare_looked_up(backend, resource_type, resources, query_seeds),
    )


async def compare_looked_up(
    backend: str, resource_type: str, resources: Sequence[Resource], query_seeds: Sequence[int]
) -> None:
    with tempfile.TemporaryDirectory() as place:
        store = await BACKENDS[backend].open(Path(place))
        try:
            stored = await write(store, resources)
            for seed in query_seeds:
                random = random_of(seed)
                asked = [ask.looked_up(resource_type, random) for _ in range(random.choice((1, 2)))]
                await compare_asked(store, resource_type, asked, stored, {}, random)
        finally:
            await store.close()


@pytest.mark.parametrize("backend", sorted(BACKENDS))
@settings(
    max_examples=EXAMPLES // 15,
    deadline=None,
    derandomize=EXAMPLES == 300,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    phases=[Phase.generate],
)
@given(
    types=st.lists(st.sampled_from(generate.WORLD), min_size=1, max_size=3, unique=True),
    resource_seeds=st.lists(SEEDS, min_size=5, max_size=20, unique=True),
    query_seeds=st.lists(SEEDS, min_size=10, max_size=20, unique=True),
)
def test_a_backend_finds_contained_resources(
    runner: asyncio.Runner,
    backend: str,
    types: list[str],
    resource_seeds: list[int],
    query_seeds: list[int],
) -> None:
    resources = [
        containing(types, f"r{number}", random_of(seed))
        for number, seed in enumerate(resource_seeds)
    ]
    run_share(runner, backend, lambda: compare_contained(backend, types, resources, query_seeds))


def containing(types: Sequence[str], resource_id: str, random: Random) -> Resource:
    """A resource that may contain others of the types."""
    resource = generate.resource(random.choice(types), resource_id, random)
    inner = [
        generate.resource(random.choice(types), f"r{number}", random, 0.6)
        for number in range(random.choice((0, 1, 1, 2, 3)))
    ]
    return resource | {"contained": inner} if inner else resource


async def compare_contained(
    backend: str, types: list[str], resources: Sequence[Resource], query_seeds: Sequence[int]
) -> None:
    with tempfile.TemporaryDirectory() as place:
        store = await BACKENDS[backend].open(Path(place))
        try:
            stored = await write(store, resources)
            world = others(stored)
            for seed in query_seeds:
                await compare_one_contained(store, types, stored, world, random_of(seed))
        finally:
            await store.close()


async def compare_one_contained(
    store: Store, types: list[str], stored: Sequence[Resource], world: Others, random: Random
) -> None:
    resource_type, other = random.choice(types), random.choice(generate.WORLD)
    asked = [("_contained", random.choice(("true", "both")))]
    asked += [
        (name, with_times(value, stored, random))
        for name, value in ask.parameters(resource_type, random)
        if name != "_sort"
    ]
    if random.random() < 0.3:
        asked = [*asked[:1], ask.chained(resource_type, random)]
    try:
        search = await told(parse(resource_type, asked, base=BASE, now=NOW).asked)
    except FhirError:
        event("refused")
        return
    assert isinstance(search, Queries)
    parts = {part.resource_type: part.where for part in search.parts}
    assert other in parts
    expected = [one["id"] for one in stored if match(parts[one["resourceType"]], one, world)]
    found = await pages(store, search, random.randint(1, 7))
    assert sorted(found) == sorted(expected), f"{resource_type}?{asked}: {stored}"
    assert await store.total(search) == len(expected)
    event("some" if expected else "none")


def linked_resource(number: int, random: Random) -> Resource:
    """One whose id others are likely to refer to."""
    resource_type = generate.WORLD[number % len(generate.WORLD)]
    return generate.linked(resource_type, str(1 + number // len(generate.WORLD)), random, 3)


async def compare_chains(
    backend: str, resources: Sequence[Resource], query_seeds: Sequence[int]
) -> None:
    with tempfile.TemporaryDirectory() as place:
        store = await BACKENDS[backend].open(Path(place))
        try:
            stored = await write(store, resources)
            world = others(stored)
            for seed in query_seeds:
                await compare_chain(store, stored, world, random_of(seed))
        finally:
            await store.close()


async def compare_chain(
    store: Store, stored: Sequence[Resource], world: Others, random: Random
) -> None:
    resource_type = random.choice(generate.WORLD)
    asked = [ask.chained(resource_type, random)]
    if random.random() < 0.3:
        asked += ask.parameters(resource_type, random)
    among = [resource for resource in stored if resource["resourceType"] == resource_type]
    if among:
        await compare_asked(store, resource_type, asked, among, world, random)


@pytest.mark.parametrize("backend", sorted(BACKENDS))
@settings(
    max_examples=EXAMPLES // 10,
    deadline=None,
    derandomize=EXAMPLES == 300,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    types=st.lists(st.sampled_from(COMMON), min_size=1, max_size=4, unique=True),
    resource_seeds=st.lists(SEEDS, min_size=1, max_size=20, unique=True),
    query_seeds=st.lists(SEEDS, min_size=10, max_size=20, unique=True),
)
def test_a_backend_finds_in_several_types_what_each_query_means(
    runner: asyncio.Runner,
    backend: str,
    types: list[str],
    resource_seeds: list[int],
    query_seeds: list[int],
) -> None:
    resources = [
        generate.resource(types[number % len(types)], f"r{number}", random_of(seed))
        for number, seed in enumerate(resource_seeds)
    ]
    run_share(runner, backend, lambda: compare_several(backend, types, resources, query_seeds))


async def compare_several(
    backend: str, types: list[str], resources: Sequence[Resource], query_seeds: Sequence[int]
) -> None:
    with tempfile.TemporaryDirectory() as place:
        store = await BACKENDS[backend].open(Path(place))
        try:
            stored = await write(store, resources)
            for seed in query_seeds:
                await compare_together(store, types, stored, random_of(seed))
        finally:
            await store.close()


async def compare_together(
    store: Store, types: list[str], stored: Sequence[Resource], random: Random
) -> None:
    asked = [
        (name, with_times(value, stored, random))
        for name, value in ask.parameters(random.choice(types), random)
    ]
    try:
        search = await told(parse_several(types, asked, base=BASE, now=NOW).asked)
    except FhirError:
        event("refused")
        return
    found = await pages(store, search, random.randint(1, 7))
    queries = search.parts if isinstance(search, Queries) else (search,)
    parts = {part.resource_type: part.where for part in queries}
    by_id = {resource["id"]: resource for resource in stored}
    expected = [name for name, one in by_id.items() if match(parts[one["resourceType"]], one, {})]
    assert sorted(found) == sorted(expected), f"{types}?{asked}: {stored}"
    assert await store.total(search) == len(expected)
    assert_sorted([by_id[name] for name in found], search.sort)
    event("some" if expected else "none")


Asked = TypeVar("Asked", Query, Search)


async def told(search: Asked) -> Asked:
    """The search with the codes of the value sets in it."""
    found: Any = await resolved(search, Shelf(generate.TERMINOLOGY))
    return found  # type: ignore[no-any-return]


def with_times(text: str, stored: Sequence[Resource], random: Random) -> str:
    """`@3` is about the time when the third resource was written."""
    before, at, number = text.partition("@")
    if not at:
        return text
    written: str = stored[int(number) % len(stored)]["meta"]["lastUpdated"]
    return before + random.choice((written, written[:-4] + "Z", written[:-8] + "Z", written[:10]))


async def pages(store: Store, query: Search, count: int) -> list[str]:
    found: list[str] = []
    after: Position | None = None
    while True:
        page = await store.search(query, count, after)
        found += [match.id for match in page.matches]
        if page.after is None:
            return found
        assert len(page.matches) == count
        # Through JSON, as in a link.
        after = tuple(stdlib_json.loads(stdlib_json.dumps(page.after, allow_nan=False)))


# The sort, said once more in other words


@total_ordering
class Backwards:
    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Backwards) and self.value == other.value

    def __lt__(self, other: "Backwards") -> bool:
        return bool(other.value < self.value)


def assert_sorted(resources: Sequence[Resource], sort: Sequence[SortKey]) -> None:
    places = [[place(resource, key) for key in sort] for resource in resources]
    assert places == sorted(places), sort


def place(resource: Resource, key: SortKey) -> tuple[Any, ...]:
    if key.code == "_id":
        values: list[Any] = [resource["id"]]
    else:
        values = [
            comparable(value)[key.descending]
            for code, value in extract(resource)
            if code == key.code
        ]
    if not values:
        return (1,)
    return (0, Backwards(max(values))) if key.descending else (0, min(values))


def comparable(value: IndexValue) -> tuple[Any, Any]:
    """What stands for the value ascending, and descending."""
    match value:
        case StringValue(text) | TokenValue(code=text) | ReferenceValue(text) | UriValue(text):
            return text, text
        case DateValue(low, high) | NumberValue(low, high) | QuantityValue(low, high):
            return low, high
        case CompositeValue() | TextValue() | PositionValue() | ContainedValue():
            raise TypeError(f"nothing is sorted by {value!r}")


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
