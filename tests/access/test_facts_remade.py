"""Facts that are followed are those that are made anew, whatever happens on the way."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_server.access.decisions import TableDecisions
from fhir_server.access.facts import kept, remaking
from fhir_server.fhir.json import Resource
from fhir_server.storage.interface import Memo, Store, Unit
from fhir_server.storage.sqlite.store import SqliteStore
from tests.access.following import KEYWORKER, TERMS, WORKED, delete, rows, started, write
from tests.access.people import NOW, somebody
from tests.access.worlds import likely_worlds
from tests.storage.backends import Backend

_orders = st.lists(
    st.tuples(likely_worlds(), st.integers(0, 3), st.booleans()), min_size=1, max_size=4
)
_CALLERS: Final = (
    somebody("Practitioner/a", "C1"),
    somebody("Practitioner/b", "H1"),
    somebody("", "W1"),
    somebody("", "E1"),
    somebody("RelatedPerson/mum"),
    somebody("Patient/1"),
)


async def _told(decisions: TableDecisions, store: Store) -> list[Any]:
    answers: list[Any] = []
    for caller in _CALLERS:
        known = await decisions.known(store, caller, NOW)
        about = await decisions.about(store, caller, "1", NOW)
        assert ("1" in known.get(about, ())) is bool(about.reads or about.writes)
        answers += [known, about]
    return answers


async def _dump(store: Store) -> list[Memo]:
    return [
        memo
        for space in (kept.ORIGIN, kept.PART, kept.GRANTEE)
        for memo in await store.memos(space, "", 10_000)
    ]


async def _happen(store: Store, world: Sequence[Resource], deleted: int) -> None:
    await write(store, *world)
    for resource in world[:deleted]:
        await delete(store, resource["resourceType"], resource["id"])


@settings(max_examples=40)
@given(_orders)
async def test_following_comes_to_what_remaking_comes_to(
    tmp_path_factory: pytest.TempPathFactory,
    order: list[tuple[list[Resource], int, bool]],
) -> None:
    """And what is kept at hand to what is decided anew."""
    store = SqliteStore(tmp_path_factory.mktemp("facts") / "store.db")
    try:
        await remaking.ensure(store)
        long_there = TableDecisions(TERMS)
        for world, deleted, asked in order:
            await _happen(store, world, deleted)
            if asked:
                assert await _told(long_there, store) == await _told(TableDecisions(TERMS), store)
        followed, told = await _dump(store), await _told(long_there, store)
        assert [ref async for ref in remaking.differences(store)] == []
        await remaking.remake(store)
        assert await _dump(store) == followed
        assert await _told(TableDecisions(TERMS), store) == told
        assert await _told(long_there, store) == told
    finally:
        await store.close()


async def test_several_processes_may_complete_the_facts_at_once(
    store: Store, backend: Backend, tmp_path: Path
) -> None:
    """Neither forgets what the other has made since, and each ends with all of it."""
    decisions = await started(store, *WORKED)

    async def spoil(unit: Unit) -> None:
        await unit.forget(kept.STATE, "")

    await store.commit(spoil)
    other = await backend.open(tmp_path)
    try:
        await asyncio.gather(remaking.ensure(store), remaking.ensure(other), remaking.ensure(store))
        assert await rows(decisions, store, KEYWORKER) == {"1": 2}
        assert [ref async for ref in remaking.differences(store)] == []
    finally:
        await other.close()


async def test_a_remaking_that_another_has_overtaken_is_not_the_end(store: Store) -> None:
    await started(store, *WORKED)
    first = await store.commit(lambda unit: kept.begin_anew(unit, whole=True))
    joined = await store.commit(lambda unit: kept.begin_anew(unit, whole=False))
    second = await store.commit(lambda unit: kept.begin_anew(unit, whole=True))
    assert first == joined
    assert not await store.commit(lambda unit: kept.complete(unit, first))
    assert not (await kept.state(store)).usable
    assert await store.commit(lambda unit: kept.complete(unit, second))


async def test_a_fact_that_belongs_to_nothing_is_found(store: Store) -> None:
    await started(store, *WORKED)
    key = "Practitioner/thief>Patient/1>Consent/c>"

    async def graft(unit: Unit) -> None:
        await unit.keep(Memo(kept.GRANTEE, key, b"-"))

    await store.commit(graft)
    assert [ref async for ref in remaking.differences(store)] == ["Consent/c"]
