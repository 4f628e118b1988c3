"""Searches by terms that were made before: never a page of another state than its terms."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from fhir_server.access.caller import Caller, Grant, Role
from fhir_server.access.consent_policy import ConsentPolicy
from fhir_server.access.consent_terms import ConsentTerms, every_scope
from fhir_server.access.decisions import TableDecisions
from fhir_server.access.facts import remaking
from fhir_server.access.kept_terms import _MOST_CALLERS, KeptTerms, TermsAtHand
from fhir_server.access.session import Session
from fhir_server.search.ast import KeptQuery, Query, ReferenceTo, Search
from fhir_server.storage.interface import Page, Position
from fhir_server.storage.sqlite.store import SqliteStore
from tests.access.deciding import about
from tests.access.following import delete, write
from tests.access.people import NOW, child, consent, episode, member, somebody, team

NURSE: Final = somebody("Practitioner/nurse", "X1")
ALL: Final = Query("Goal")
OF_ONE: Final = Query("Goal", ReferenceTo("patient", ("Patient/1",)))


class Meanwhile:
    """A store to which something happens just before it is searched."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self.happens: list[Callable[[], Awaitable[None]]] = []
        self.asked = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def search(
        self, query: Search, count: int, after: Position | None = None, until: Any = None
    ) -> Page:
        await self._before()
        return await self._store.search(query, count, after, until)

    async def total(self, query: Search) -> int:
        await self._before()
        return await self._store.total(query)

    async def _before(self) -> None:
        self.asked += 1
        if self.happens:
            await self.happens.pop()()


class World:
    def __init__(self, store: SqliteStore, clock: Callable[[], int] = lambda: NOW) -> None:
        self.store = Meanwhile(store)
        self._decisions = TableDecisions()
        self._clock = clock

    def session(self, caller: Caller = NURSE) -> Session:
        store: Any = self.store
        policy = ConsentPolicy(self._decisions, caller, self._clock)
        found = Session(store, caller, policy)
        found.epochs = store
        return found

    async def ids(self, query: Query = ALL) -> list[str]:
        return [one.id for one in (await self.session().search(query, 10)).matches]

    @property
    def kept(self) -> int:
        return len(self._decisions.terms_at_hand._known)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(tmp_path / "fhir.db")
    yield opened
    await opened.close()


@pytest.fixture
async def world(store: SqliteStore) -> World:
    await remaking.ensure(store)
    await write(store, child(), about("Goal", "g", "1"), consent())
    await write(store, episode(None, team=[{"reference": "CareTeam/t"}]))
    await write(store, team(member("Practitioner/nurse")))
    found = World(store)
    for _ in range(3):
        assert await found.ids() == ["g"]
    assert found.kept == 1, "else nothing here is tried"
    return found


async def withdrawn(store: SqliteStore) -> None:
    """What is written after the withdrawal would be seen by terms of before."""
    await write(store, consent(status="inactive"))
    await write(store, about("Goal", "late", "1"))


@pytest.mark.parametrize("query", [ALL, OF_ONE])
async def test_what_is_found_while_consent_is_withdrawn_is_forgotten(
    world: World, store: SqliteStore, query: Query
) -> None:
    await world.ids(query)
    world.store.happens = [lambda: withdrawn(store)]
    assert await world.ids(query) == []
    assert await world.ids(query) == []


async def test_what_is_counted_meanwhile_is_forgotten_too(world: World, store: SqliteStore) -> None:
    assert await world.session().total(ALL) == 1
    world.store.happens = [lambda: withdrawn(store)]
    assert await world.session().total(ALL) == 0


async def test_a_withdrawal_while_terms_are_made_anew_counts_as_well(
    world: World, store: SqliteStore
) -> None:
    """Each time something changes: the third answer is by what was decided just before."""
    await write(store, consent(dateTime="2026-03-03"))
    world.store.happens = [lambda: withdrawn(store)]
    await world.ids()
    world.store.happens = [lambda: withdrawn(store)]
    assert await world.ids() == []


async def test_another_process_withdraws(world: World, store: SqliteStore) -> None:
    other = SqliteStore(store._path)
    try:
        await write(other, consent(status="inactive"))
        assert await world.ids() == []
        await write(other, consent())
        assert await world.ids() == ["g"]
        world.store.happens = [lambda: withdrawn(other)]
        assert await world.ids() == []
    finally:
        await other.close()


async def test_a_commit_that_changes_nothing_that_decides_costs_no_second_search(
    world: World, store: SqliteStore
) -> None:
    await write(store, about("Goal", "h", "1"))
    before = world.store.asked
    assert await world.ids() == ["g", "h"]
    assert world.store.asked == before + 1


async def test_facts_that_change_all_the_time_hold_nobody_up(
    world: World, store: SqliteStore
) -> None:
    async def other() -> None:
        await write(store, child("2"))
        await delete(store, "Patient", "2")

    world.store.happens = [other] * 10
    before = world.store.asked
    assert await world.ids() == ["g"]
    assert world.store.asked == before + 3


# Whose terms they are

OTHER: Final = replace(
    NURSE, roles=frozenset({Role.AUDITOR}), grants=(Grant("user", "Goal", frozenset("rs")),)
)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"user": "Practitioner/other"},
        {"organisation": "X2"},
        {"purpose": "ETREAT"},
        {"patient": "1"},
        {"roles": OTHER.roles},
        {"grants": OTHER.grants},
    ],
    ids=lambda one: next(iter(one)),
)
def test_terms_are_of_one_caller_alone(change: dict[str, Any]) -> None:
    at_hand = TermsAtHand()
    at_hand.keep(terms(NURSE))
    assert at_hand.find(NURSE, every_scope, 5) is not None
    assert at_hand.find(NURSE.asking("another request"), every_scope, 5) is not None
    assert at_hand.find(replace(NURSE, **change), every_scope, 5) is None
    assert at_hand.find(NURSE, lambda *_: every_scope(*_), 5) is None


def test_terms_have_their_time() -> None:
    at_hand = TermsAtHand()
    at_hand.keep(terms(NURSE))
    found = [at_hand.find(NURSE, every_scope, now) is not None for now in (-1, 0, 9, 10)]
    assert found == [False, True, True, False]


def test_terms_that_are_kept_are_bounded() -> None:
    at_hand = TermsAtHand()
    for number in range(_MOST_CALLERS + 10):
        at_hand.keep(terms(replace(NURSE, name=str(number))))
    assert len(at_hand._known) <= _MOST_CALLERS


def terms(caller: Caller) -> KeptTerms:
    return KeptTerms(ConsentTerms(caller, every_scope), b"", 0, 10, object())


# What the store tells


async def test_the_store_tells_that_somebody_has_committed(store: SqliteStore) -> None:
    await write(store, about("Goal", "g", "1"))
    first = store.epoch()
    assert first is not None
    assert store.epoch() is first
    asked = KeptQuery("Goal")
    assert (await store.search(asked, 10)).epoch is first
    assert (await store.search(ALL, 10)).epoch is first
    other = SqliteStore(store._path)
    try:
        assert other.epoch() is not first
        await write(other, about("Goal", "h", "1"))
    finally:
        await other.close()
    assert (await store.search(asked, 10)).epoch is not first
    second = store.epoch()
    await write(store, about("Goal", "i", "1"))
    assert store.epoch() not in (first, second)
