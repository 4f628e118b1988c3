"""Every backend finds what `match` says of resources that refer to each other or contain others,
and in several types together: as in `test_oracle.py`.
"""

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from fhir_server.errors import FhirError
from fhir_server.fhir.json import Resource
from fhir_server.search.ast import Queries
from fhir_server.search.match import Others, match, others
from fhir_server.search.parse import parse, parse_several
from fhir_server.storage.interface import Store
from tests.search import ask, generate
from tests.search.comparing import (
    COMMON,
    EXAMPLES,
    SEEDS,
    assert_sorted,
    compare_asked,
    linked_resource,
    pages,
    random_of,
    run_share,
    told,
    with_times,
    write,
)
from tests.storage.backends import BACKENDS
from tests.storage.questions import BASE, NOW


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
