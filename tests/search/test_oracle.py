"""Every backend finds what `match` says, in the order that the sort says, page by page.

Hypothesis draws resources of one type and searches as they stand in an address; see
`generate.py`. `HYPOTHESIS_PROFILE=nightly` tries far more.
"""

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhir_server.fhir.definitions import resource_types
from fhir_server.fhir.json import Resource
from fhir_server.storage.interface import Store
from tests.search import ask, generate
from tests.search.comparing import (
    COMMON,
    EXAMPLES,
    SEEDS,
    compare_asked,
    random_of,
    run_share,
    write,
)
from tests.storage.backends import BACKENDS


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


async def compare_one(
    store: Store, resource_type: str, stored: Sequence[Resource], random: Random
) -> None:
    await compare_asked(
        store, resource_type, ask.parameters(resource_type, random), stored, {}, random
    )


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
