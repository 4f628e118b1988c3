"""Groups of commits in SQLite: who fails takes nothing with it, and costs the others little.

A group has no savepoints until somebody fails who has written; it is run again then.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from fhir_server.errors import FhirError, Kind
from fhir_server.storage.audited import AuditQuery, AuditRow
from fhir_server.storage.interface import Draft, Unit
from fhir_server.storage.sqlite import committer
from fhir_server.storage.sqlite.store import SqliteStore
from tests.storage.questions import found, patient

Work = Callable[[Unit], Awaitable[None]]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(tmp_path / "store.db")
    yield opened
    await opened.close()


class Works:
    """Works of one group, and how often each has run."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    def good(self, name: str) -> Work:
        async def work(unit: Unit) -> None:
            self.ran.append(name)
            await unit.put(Draft(patient(name, name)), "PUT")
            await unit.audit(AuditRow(caller=name, action="create", request_id="1"))

        return work

    def bad(self, name: str) -> Work:
        """Fails once it has written."""

        async def work(unit: Unit) -> None:
            await self.good(name)(unit)
            raise FhirError(Kind.BUSINESS_RULE, name)

        return work

    def refused(self, name: str) -> Work:
        """Fails and has only read."""

        async def work(unit: Unit) -> None:
            self.ran.append(name)
            await unit.read("Patient", name)
            raise FhirError(Kind.CONFLICT, name)

        return work


async def outcome(store: SqliteStore, *works: Work) -> list[str]:
    """Of works that are committed as one group: '' or why it failed."""
    results = await asyncio.gather(*map(store.commit, works), return_exceptions=True)
    assert all(result is None or isinstance(result, FhirError) for result in results)
    return ["" if result is None else str(result) for result in results]


async def stored(store: SqliteStore) -> list[str]:
    names = await found(store, "Patient?_sort=_id")
    rows = await store.audited(AuditQuery(), 100)
    assert sorted(entry.row.caller for entry in rows) == names  # each once, of whom is there
    for name in names:
        assert await found(store, f"Patient?family={name}") == [name]
    return names


async def test_who_fails_after_writing_takes_nothing_with_it(store: SqliteStore) -> None:
    made = Works()
    asked = (made.good("a"), made.good("b"), made.bad("c"), made.good("d"))
    assert await outcome(store, *asked) == ["", "", "c", ""]
    assert await stored(store) == ["a", "b", "d"]
    assert made.ran == ["a", "b", "c", "a", "b", "c", "d"]


async def test_who_fails_without_writing_has_nobody_run_again(store: SqliteStore) -> None:
    made = Works()
    asked = (made.good("a"), made.refused("b"), made.good("c"), made.refused("d"))
    assert await outcome(store, *asked) == ["", "b", "", "d"]
    assert await stored(store) == ["a", "c"]
    assert made.ran == ["a", "b", "c", "d"]


async def test_who_fails_as_the_first_that_writes_is_run_once(store: SqliteStore) -> None:
    made = Works()
    asked = (made.refused("a"), made.bad("b"), made.good("c"), made.good("d"), made.bad("e"))
    assert await outcome(store, *asked) == ["a", "b", "", "", "e"]
    assert await stored(store) == ["c", "d"]
    assert made.ran == ["a", "b", "c", "d", "e", "a", "b", "c", "d", "e"]


async def test_after_a_failure_the_next_have_savepoints(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committer, "WARY", 4)
    made = Works()
    await outcome(store, made.good("a"), made.bad("b"))
    made.ran.clear()
    assert await outcome(store, made.good("c"), made.bad("d"), made.good("e")) == ["", "d", ""]
    assert made.ran == ["c", "d", "e"]  # nobody again: two of four were left
    assert await outcome(store, made.good("f"), made.bad("g")) == ["", "g"]
    assert made.ran == ["c", "d", "e", "f", "g", "f", "g"]
    assert await stored(store) == ["a", "c", "e", "f"]


async def test_what_has_written_much_is_not_run_again(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committer, "MOST_REDONE", 3)
    made = Works()
    assert await outcome(store, made.good("a"), made.bad("b"), made.good("c")) == ["", "b", ""]
    assert made.ran == ["a", "b", "c"]
    assert await stored(store) == ["a", "c"]
