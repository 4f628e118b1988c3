"""Whether an answer may be given again: only while nothing has changed that it hangs on."""

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import pytest

from fhir_server.access.caller import Caller
from fhir_server.access.consent_policy import ConsentPolicy
from fhir_server.access.decisions import TableDecisions
from fhir_server.access.facts import remaking
from fhir_server.access.glass import memo
from fhir_server.access.policy import ClosedPolicy, OpenPolicy, Policy, Rule
from fhir_server.access.session import Basis, Session
from fhir_server.search.ast import Chain, Has, IdIn, Not, Or, Query, Search, TokenIs
from fhir_server.search.parameters import Definition
from fhir_server.storage.audited import AuditRow
from fhir_server.storage.clock import system_clock
from fhir_server.storage.interface import Memo, Unit
from fhir_server.storage.sqlite.at_once import AtOnce
from fhir_server.storage.sqlite.changed import _MOST, mended
from fhir_server.storage.sqlite.check import check
from fhir_server.storage.sqlite.connect import connect
from fhir_server.storage.sqlite.store import SqliteStore
from tests.access.deciding import about
from tests.access.following import delete, write
from tests.access.people import NOW, at, child, consent, episode, member, somebody, team
from tests.storage.test_remaking import define

pytestmark = pytest.mark.sqlite_alone
NURSE: Final = somebody("Practitioner/nurse", "X1")
WORDS: Final = map(str, itertools.count())
"""Other ones each time, as what is not changed is not written."""
GOALS: Final = Query("Goal")
OF_THE_NAMED: Final = Query(
    "Goal", Or((Not(Chain("subject", "Patient", ("Patient/",), TokenIs("active", None, "x"))),))
)
"""Goals by what Patients say."""
NAMED: Final = Query("Patient", Has("Goal", "subject", ("Patient/",), IdIn(("g",))))
"""Patients by what Goals say."""


Answer = Callable[[Session], Awaitable[object]]


class World:
    """One process's caches, another process's store, and a clock that stands until it is moved."""

    def __init__(self, store: SqliteStore, other: SqliteStore) -> None:
        self.store: Final = store
        self.other: Final = other
        self.now = NOW
        self._decisions: Final = TableDecisions()

    def session(self, caller: Caller | None = None, policy: Policy | Rule | None = None) -> Session:
        """As the short way has them; where no policy is given, by consent."""
        asked = caller or NURSE
        reader = AtOnce(self.store)
        by_consent = ConsentPolicy(self._decisions, asked, lambda: self.now)
        found = Session(reader, asked, policy or by_consent)
        found.epochs = found.watched = reader
        return found

    def open(self) -> Session:
        return self.session(policy=OpenPolicy())

    async def made(self, session: Session, answer: Answer) -> Basis:
        """What an answer hangs on that was asked for before, in the general way too."""
        policy = ConsentPolicy(self._decisions, session.caller, lambda: self.now)
        general = Session(self.store, session.caller, policy)
        general.epochs = self.store
        await general.search(GOALS, 1)
        basis = await session.basis()
        assert basis is not None
        await answer(session)
        assert await basis.complete()
        assert await basis.holds()
        return basis


def found(query: Search) -> Answer:
    return lambda session: session.answering().search(query, 10)


def counted(query: Search) -> Answer:
    return lambda session: session.answering().total(query)


def read(session: Session) -> Awaitable[object]:
    return session.answering().read("Goal", "g")


def vread(session: Session) -> Awaitable[object]:
    return session.answering().vread("Goal", "g", 1)


def referring(session: Session) -> Awaitable[object]:
    reader: Any = session.answering()
    told: Awaitable[object] = reader.referring(["Goal"], "subject", ["Patient/1"])
    return told


ANSWERS: Final = (found(GOALS), counted(GOALS), read, vread)
NAMES: Final = ("found", "counted", "read", "vread")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    store = SqliteStore(tmp_path / "fhir.db")
    await remaking.ensure(store)
    await write(store, child(), about("Goal", "g", "1"), consent())
    await write(store, episode(None, team=[{"reference": "CareTeam/t"}]))
    await write(store, team(member("Practitioner/nurse")))
    other = SqliteStore(tmp_path / "fhir.db")
    yield World(store, other)
    await other.close()
    await store.close()


@pytest.mark.parametrize("answer", ANSWERS, ids=NAMES)
async def test_a_write_of_its_type_ends_it_whoever_writes(world: World, answer: Answer) -> None:
    for session in (world.open(), world.session()):
        for store in (world.store, world.other):
            basis = await world.made(session, answer)
            await write(store, about("Goal", "g", "1", description={"text": next(WORDS)}))
            assert not await basis.holds()
            basis = await world.made(session, answer)
            await write(store, about("Goal", "h", "1"))
            assert not await basis.holds()
            basis = await world.made(session, answer)
            await delete(store, "Goal", "h")
            assert not await basis.holds()


@pytest.mark.parametrize("answer", ANSWERS[:3], ids=NAMES[:3])
async def test_a_write_of_another_type_leaves_it(world: World, answer: Answer) -> None:
    for session in (world.open(), world.session()):
        basis = await world.made(session, answer)
        for store in (world.store, world.other):
            await write(store, about("Task", "t", "1", status="ready"))
            assert await basis.holds()
            await delete(store, "Task", "t")
            assert await basis.holds()


@pytest.mark.parametrize("answer", [found(OF_THE_NAMED), counted(NAMED)], ids=["chain", "has"])
async def test_a_write_of_what_it_is_led_through_ends_it(world: World, answer: Answer) -> None:
    session = world.open()
    for resource in (child("2"), about("Goal", "other", "2")):
        basis = await world.made(session, answer)
        await write(world.other, about("Basic", "b", "1"))
        assert await basis.holds()
        await write(world.other, resource)
        assert not await basis.holds()


async def test_what_is_asked_of_references_counts_too(world: World) -> None:
    basis = await world.made(world.open(), referring)
    await write(world.store, about("Goal", "h", "2"))
    assert not await basis.holds()


async def test_what_asks_the_store_for_nothing_hangs_on_no_type(world: World) -> None:
    async def nothing(session: Session) -> object:
        return session

    basis = await world.made(world.open(), nothing)
    await write(world.store, about("Goal", "h", "2"))
    assert await basis.holds()


async def test_what_the_audit_and_others_keep_leaves_it(world: World) -> None:
    async def work(unit: Unit) -> None:
        await unit.audit(AuditRow("nurse", "read"))
        await unit.keep(Memo("space", "key", b"value"))

    basis = await world.made(world.session(), found(GOALS))
    for store in (world.store, world.other, world.store):
        await store.commit(work)
        assert await basis.holds()


async def test_many_writes_at_once_end_it_whatever_they_are(world: World) -> None:
    basis = await world.made(world.open(), found(GOALS))
    await write(world.other, *(about("Task", str(n), "1") for n in range(_MOST)))
    assert not await basis.holds()
    basis = await world.made(world.open(), found(GOALS))
    await write(world.other, about("Task", "1", "1", status="ready"))
    assert await basis.holds()


@pytest.mark.parametrize("of_other", [False, True])
async def test_what_changes_who_sees_it_ends_it(world: World, of_other: bool) -> None:
    store = world.other if of_other else world.store
    session = world.session()
    for change in (
        consent(status="inactive"),
        consent(),
        team(member("Practitioner/other")),
        team(member("Practitioner/nurse")),
    ):
        basis = await world.made(session, found(GOALS))
        await write(store, change)
        assert not await basis.holds()


async def test_it_ends_when_consent_does(world: World) -> None:
    basis = await world.made(world.session(), found(GOALS))
    open_to_all = await world.made(world.open(), found(GOALS))
    end = at("2027-03-02")  # the first moment after the last day of the provision
    world.now = end - 1
    assert await basis.holds()
    world.now = end
    assert not await basis.holds()
    assert await open_to_all.holds()


async def test_it_ends_when_the_caller_breaks_the_glass(world: World) -> None:
    session = world.session()
    basis = await world.made(session, found(GOALS))

    async def broken(caller: Caller) -> None:
        until = system_clock() + 3_600_000_000
        own = Session(world.other, caller, OpenPolicy())
        await own.commit("break", lambda unit: unit.keep(memo(caller, "1", "Heard", until)))

    await broken(somebody("Practitioner/other", "X1"))
    assert await basis.holds()
    await broken(NURSE)
    assert not await basis.holds()


async def test_a_commit_while_it_is_made_leaves_nothing_to_hold(world: World) -> None:
    for session in (world.open(), world.session()):
        await world.made(session, found(GOALS))
        basis = await session.basis()
        assert basis is not None
        await found(GOALS)(session)
        await write(world.other, about("Task", "t", "1", description=next(WORDS)))
        assert not await basis.complete()


async def test_search_parameters_that_change_end_it(world: World) -> None:
    asked = Definition("urn:order", "order", "token", "Goal.identifier", ("Goal",))
    for definition in (asked, None):
        basis = await world.made(world.open(), found(GOALS))
        await define(world.other, definition)
        assert not await basis.holds()


async def test_an_index_that_is_mended_ends_it(world: World, tmp_path: Path) -> None:
    basis = await world.made(world.open(), found(GOALS))
    path = tmp_path / "fhir.db"

    def looked(*, repair: bool) -> int:
        told = check(path, repair=repair, told=lambda *_, **__: None, progress=lambda *_: None)
        return told.mended

    assert looked(repair=True) == 0
    assert await basis.holds()
    connection = connect(path)
    connection.execute("UPDATE resource SET updated = updated + 1 WHERE type = 'Goal'")
    connection.close()
    assert looked(repair=True) == 1
    assert not await basis.holds()


async def test_each_mending_is_told(world: World, tmp_path: Path) -> None:
    connection = connect(tmp_path / "fhir.db")
    for _ in range(2):
        basis = await world.made(world.open(), found(GOALS))
        mended(connection)
        assert not await basis.holds()
    connection.close()


async def test_a_number_that_is_given_again_is_seen(world: World, tmp_path: Path) -> None:
    """Where the newest version was taken out, the next one has its number."""
    await write(world.store, about("Basic", "last", "1"))
    basis = await world.made(world.open(), found(GOALS))
    connection = connect(tmp_path / "fhir.db")
    connection.execute("DELETE FROM version WHERE seq = (SELECT max(seq) FROM version)")
    connection.execute("DELETE FROM resource WHERE type = 'Basic'")
    connection.close()
    await write(world.store, about("Goal", "new", "1"))
    assert not await basis.holds()


async def test_it_does_not_hold_where_the_file_is_gone_or_another(
    world: World, tmp_path: Path
) -> None:
    basis = await world.made(world.open(), found(GOALS))
    path = tmp_path / "fhir.db"
    moved = path.rename(tmp_path / "moved.db")
    assert not await basis.holds()
    moved.rename(path)
    assert await basis.holds()


async def test_what_cannot_be_watched_has_no_basis(world: World) -> None:
    unwatched = world.session()
    unwatched.watched = None
    assert await unwatched.basis() is None
    assert await world.session(policy=ClosedPolicy()).basis() is None
    assert await world.session(somebody("Practitioner/kw", "X1")).basis() is None  # no terms yet
