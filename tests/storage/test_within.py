"""What searches are put within is kept as rows, which are never those of another moment."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest

from fhir_server.fhir.json import Resource
from fhir_server.search.ast import (
    And,
    Everything,
    IdIn,
    Missing,
    Narrowed,
    Node,
    Not,
    Nothing,
    Query,
    ReferenceTo,
    SortKey,
    TokenIs,
)
from fhir_server.storage.interface import Page
from fhir_server.storage.sqlite import within
from fhir_server.storage.sqlite.reader import ConnectionReader
from fhir_server.storage.sqlite.sql import THOUSANDS
from fhir_server.storage.sqlite.store import SqliteStore
from fhir_server.storage.sqlite.within import FIRST, Rows, Within
from tests.access.deciding import chances
from tests.storage.questions import delete, put

pytestmark = pytest.mark.sqlite_alone
OFTEN: Final = 5
"""Times in a row that make any rows be kept."""
PATIENTS: Final = tuple(f"Patient/p{number}" for number in range(6))
FEW: Final = ReferenceTo("patient", PATIENTS[:3])
MANY: Final = And(
    (
        ReferenceTo("patient", (*PATIENTS, *(f"Patient/x{n}" for n in range(THOUSANDS)))),
        Not(Not(TokenIs("status", None, "active"))),
    )
)
"""As a policy has it: of so many patients that the names do not lead."""
NEWEST: Final = (SortKey("_lastUpdated", "date", descending=True),)
BY_CODE: Final = (SortKey("code", "token"),)
_words: Final = count()


def flag(number: int, patient: str, **rest: Any) -> Resource:
    return {
        "resourceType": "Flag",
        "id": f"f{number}",
        "status": "active",
        "code": {"coding": [{"code": f"c{next(_words)}"}]},
        "subject": {"reference": patient},
        **rest,
    }


def narrowed(asked: Node, to: Node, sort: tuple[SortKey, ...] = ()) -> Query:
    """As a policy makes it."""
    made = Narrowed.to(asked, to)
    return Query("Flag", made.where, sort, made)


class Told:
    """How many pages were told of rows that were kept."""

    def __init__(self) -> None:
        self.pages = 0


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    made, found = ConnectionReader._page_among, Told()

    def counted(*asked: Any) -> Page | None:
        page = made(*asked)
        found.pages += page is not None
        return page

    monkeypatch.setattr(ConnectionReader, "_page_among", counted)
    return found


@pytest.fixture
def stores(tmp_path: Path) -> tuple[SqliteStore, ...]:
    """One file, as two processes have it."""
    return tuple(SqliteStore(tmp_path / "store.db") for _ in range(2))


@pytest.fixture
async def store(stores: tuple[SqliteStore, ...]) -> AsyncIterator[SqliteStore]:
    await put(stores[0], *(flag(number, PATIENTS[number % 6]) for number in range(12)))
    yield stores[0]
    for one in stores:
        await one.close()


async def as_without(store: SqliteStore, query: Query, most: int = 100) -> Page:
    """The page, which is that of a search of which it is not told what it is put within."""
    page = await store.search(query, most)
    plain = await store.search(Query(query.resource_type, query.where, query.sort), most)
    assert (page.matches, page.after) == (plain.matches, plain.after)
    return page


async def often(store: SqliteStore, query: Query, most: int = 100) -> Page:
    for _ in range(OFTEN):
        page = await as_without(store, query, most)
    return page


def anew() -> Node:
    """What leaves nobody out, in other words each time."""
    return Not(IdIn((f"x{next(_words)}",)))


ASKED: Final = (
    Everything(),
    Nothing(),
    IdIn(("f1", "f2")),
    TokenIs("status", None, "inactive"),
    Not(TokenIs("status", None, "active")),
    And((Missing("author", "reference"), TokenIs("status", None, "active"))),
    ReferenceTo("patient", PATIENTS[:1]),
)


@pytest.mark.parametrize("within_whom", [FEW, MANY], ids=["few", "many"])
async def test_whoever_writes_a_page_is_of_now(
    stores: tuple[SqliteStore, ...], store: SqliteStore, told: Told, within_whom: Node
) -> None:
    random = chances(7)
    for _ in range(60):
        await change(random, random.choice(stores))
        for _ in range(OFTEN):
            asked = random.choice((*ASKED, anew(), anew()))
            sort = random.choice(((), (), NEWEST, BY_CODE))
            await as_without(store, narrowed(asked, within_whom, sort), random.choice((2, 3, 100)))
    assert told.pages, "else nothing here is tried"


async def change(random: Random, store: SqliteStore) -> None:
    """Some flag is another's from then on, or ends, or is no more, or is as it was."""
    one = flag(random.randrange(12), random.choice(PATIENTS))
    written = random.choice((one, {**one, "status": "inactive"}, {**one, "resourceType": "Goal"}))
    if random.random() < 0.2:
        current = await store.read("Flag", one["id"])
        if current is not None and not current.deleted:
            await delete(store, "Flag", one["id"])
    elif random.random() < 0.8:
        await put(store, written)


async def test_a_search_in_other_words_is_told_of_rows_that_are_kept(
    store: SqliteStore, told: Told
) -> None:
    for number in range(10):
        page = await as_without(store, narrowed(anew(), FEW), 4)
        assert len(page.matches) == 4
        assert told.pages == max(0, number - 1)
    await as_without(store, narrowed(anew(), FEW, NEWEST))
    assert told.pages == 9
    following = await store.search(narrowed(Everything(), FEW), 4, page.after)
    assert [one.id for one in following.matches] == ["f7", "f8"]


async def test_what_is_written_meanwhile_is_not_told_of_rows_from_before(
    tmp_path: Path, store: SqliteStore, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flag becomes another's after it was looked whose they are, and before it is read."""
    await often(store, narrowed(anew(), FEW))
    pages, look = told.pages, Within.find

    def late(self: Within, *asked: Any) -> Rows | None:
        found = look(self, *asked)
        elsewhere(tmp_path / "store.db", flag(0, PATIENTS[5]))
        return found

    monkeypatch.setattr(Within, "find", late)
    page = await store.search(narrowed(anew(), FEW), 100)
    assert [one.id for one in page.matches] == ["f1", "f2", "f6", "f7", "f8"]
    assert told.pages == pages


def elsewhere(path: Path, resource: Resource) -> None:
    """Another process writes, and has done so when this returns."""

    async def work() -> None:
        other = SqliteStore(path)
        await put(other, resource)
        await other.close()

    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, work()).result()


async def test_what_is_said_of_other_criteria_is_ignored(store: SqliteStore, told: Told) -> None:
    query = narrowed(anew(), FEW)
    await often(store, query)
    pages = told.pages
    other = replace(query, where=ReferenceTo("patient", PATIENTS[5:]))
    assert [one.id for one in (await often(store, other)).matches] == ["f5", "f11"]
    assert told.pages == pages


async def test_of_thousands_the_first_rows_are_kept_and_tell_what_they_can(
    store: SqliteStore, told: Told
) -> None:
    await put(store, *(flag(number, PATIENTS[number % 6]) for number in range(FIRST + 40)))
    await often(store, narrowed(anew(), MANY), 20)
    for query, most in (
        (narrowed(anew(), MANY), FIRST),
        (narrowed(Not(IdIn(tuple(f"f{n}" for n in range(FIRST)))), MANY), 20),
        (narrowed(anew(), MANY, NEWEST), 20),
        (narrowed(TokenIs("status", None, "active"), MANY), 20),
    ):
        pages = told.pages
        assert len((await as_without(store, query, most)).matches) == most
        assert told.pages == pages
    await as_without(store, narrowed(anew(), MANY), FIRST - 1)
    assert told.pages == pages + 1


async def test_what_is_not_found_in_a_moment_is_not_looked_for_again(
    store: SqliteStore, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Query] = []

    def none(self: ConnectionReader, query: Query) -> Rows:  # noqa: ARG001
        asked.append(query)
        return within.UNTOLD

    monkeypatch.setattr(ConnectionReader, "_found_within", none)
    await often(store, narrowed(anew(), FEW))
    await often(store, narrowed(anew(), FEW))
    assert (len(asked), told.pages) == (1, 0)


async def test_what_is_kept_is_bounded(
    stores: tuple[SqliteStore, ...], store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(within, "_MOST", 20)
    several = [ReferenceTo("patient", PATIENTS[number : number + 2]) for number in range(5)]
    for one in several:
        for _ in range(2):
            await put(stores[1], flag(0, PATIENTS[0]))
            await often(store, narrowed(anew(), one))
    opened = store._place.at_hand()
    assert opened is not None
    kept = opened.reader()._within
    assert kept is not None
    assert sum(one.size for one in kept._kept.values()) == kept._size <= 20
    assert id(several[-1]) in kept._kept
    assert id(several[0]) not in kept._kept
