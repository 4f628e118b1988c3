"""Retention: what may go goes, in runs from the first version on; what must stay stays."""

import asyncio
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from fhir_server.storage.audited import AuditRow
from fhir_server.storage.interface import HistoryOf, Memo, Unit
from fhir_server.storage.sqlite import prune as pruning
from fhir_server.storage.sqlite.prune import Pruned, Retention, prune
from fhir_server.storage.sqlite.store import SqliteStore
from tests.storage.kept import rows
from tests.storage.questions import delete, found, patient, put, versions
from tests.storage.test_check import examined

DAY: Final = 24 * 60 * 60 * 1_000_000


class Clock:
    """One write a day."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Days 1 to 5: five versions of `a`; `b` deleted on 3 and made again; `c` deleted on 2."""
    path = tmp_path / "store.db"
    asyncio.run(_fill(path))
    return path


async def _fill(path: Path) -> None:
    clock = Clock()
    store = SqliteStore(path, clock=clock)
    try:
        for day in range(1, 6):
            clock.now = day * DAY
            await put(store, patient("a", f"Name{day}"))
            await _of_day(store, day)
            await store.commit(_audited)
    finally:
        await store.close()


async def _of_day(store: SqliteStore, day: int) -> None:
    if day in (1, 4, 5):
        await put(store, patient("b", f"Name{day}"))
    if day == 3:
        await delete(store, "Patient", "b")
    if day == 1:
        await put(store, patient("c", "Cedar"))
    if day == 2:
        await delete(store, "Patient", "c")


async def _audited(unit: Unit) -> None:
    await unit.audit(AuditRow("caller", "update", "r", ("Patient/a",)))
    await unit.keep(Memo("space", "key", b"value"))


def quietly(_done: int, _total: int) -> None:
    """Progress that nobody is told."""


def kept(path: Path, resource_id: str) -> list[int]:
    """Versions by the history, the newest first; each can be read by its number too."""
    return asyncio.run(_kept(path, resource_id))


async def _kept(path: Path, resource_id: str) -> list[int]:
    store = SqliteStore(path)
    try:
        history = await store.history(HistoryOf("Patient", resource_id), 100)
        for number in range(1, 7):
            there = await store.vread("Patient", resource_id, number)
            assert (there is not None) == (number in versions(history))
        return versions(history)
    finally:
        await store.close()


@pytest.mark.parametrize(
    ("retention", "left"),
    [
        (Retention(), {"a": [5, 4, 3, 2, 1], "b": [4, 3, 2, 1], "c": [2, 1]}),
        # Superseded before day 4: versions that had a successor on day 3 at the latest. The
        # deletion of b on day 3 had one on day 4.
        (Retention(4 * DAY), {"a": [5, 4, 3], "b": [4, 3, 2], "c": [2]}),
        # The deletion of b is old enough by now, but what comes after it stays.
        (Retention(5 * DAY), {"a": [5, 4], "b": [4, 3, 2], "c": [2]}),
        (Retention(99 * DAY), {"a": [5], "b": [4], "c": [2]}),
        (Retention(99 * DAY, newest=3), {"a": [5, 4, 3], "b": [4, 3, 2], "c": [2, 1]}),
        (Retention(4 * DAY, newest=4), {"a": [5, 4, 3, 2], "b": [4, 3, 2, 1], "c": [2, 1]}),
        # Number 5 is the deletion of c, and nobody has been told of what comes after it: what
        # that took the place of stays too, for whoever is told to look at.
        (Retention(99 * DAY, delivered=5), {"a": [5, 4, 3, 2], "b": [4, 3, 2, 1], "c": [2]}),
        (Retention(99 * DAY, delivered=0), {"a": [5, 4, 3, 2, 1], "b": [4, 3, 2, 1], "c": [2, 1]}),
    ],
)
def test_versions_that_may_go_go(
    path: Path, retention: Retention, left: dict[str, list[int]]
) -> None:
    before = sum(map(len, (kept(path, one) for one in left)))
    pruned = prune(path, retention, quietly)
    assert {one: kept(path, one) for one in left} == left
    assert pruned.versions == before - sum(map(len, left.values()))
    assert examined(path)[1] == []
    assert prune(path, retention, quietly) == Pruned()
    assert rows(path, "SELECT count(*) FROM audit") == [(5,)]
    assert rows(path, "SELECT value FROM memo") == [(b"value",)]


def test_a_dry_run_counts_and_takes_nothing_out(path: Path) -> None:
    terms = Retention(99 * DAY, audit_before=99 * DAY)
    before = rows(path, "SELECT * FROM version")
    expected = prune(path, terms, quietly, dry=True)
    assert (expected.versions, expected.audit_rows) == (8, 4)
    assert expected.bytes > 500
    assert rows(path, "SELECT * FROM version") == before
    assert rows(path, "SELECT count(*) FROM audit") == [(5,)]
    assert prune(path, terms, quietly) == expected


@pytest.mark.parametrize(("days", "left"), [(1, 5), (3, 3), (99, 1)])
def test_audit_rows_go_by_their_age_and_the_newest_stays(path: Path, days: int, left: int) -> None:
    pruned = prune(path, Retention(audit_before=days * DAY), quietly)
    assert pruned == Pruned(audit_rows=5 - left)
    told = int(left < 5)  # that rows were taken out, and up to which
    assert rows(path, "SELECT count(*), max(number) FROM audit") == [(left + told, 5 + told)]
    assert kept(path, "a") == [5, 4, 3, 2, 1]


def test_what_is_pruned_is_written_and_searched_on(path: Path) -> None:
    prune(path, Retention(99 * DAY), quietly)
    asyncio.run(_go_on(path))
    assert kept(path, "a") == [6, 5]
    assert kept(path, "c") == [3, 2]
    assert examined(path)[1] == []
    prune(path, Retention(9_000_000 * DAY), quietly)
    assert kept(path, "a") == [6]
    assert examined(path)[1] == []


async def _go_on(path: Path) -> None:
    store = SqliteStore(path)
    try:
        assert await found(store, "Patient?family=name5&_sort=_id") == ["a", "b"]
        await put(store, patient("a", "Alder"), patient("c", "Cedar"))
    finally:
        await store.close()


async def test_the_first_version_that_stays_is_told_as_what_it_was(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    await _fill(path)
    prune(path, Retention(5 * DAY), quietly)
    store = SqliteStore(path)
    try:
        history = await store.history(HistoryOf("Patient"), 100)
    finally:
        await store.close()
    created = {(one.stored.id, one.stored.version) for one in history if one.created}
    assert created == {("b", 3)}  # not the oldest of a, which was an update


def test_a_version_that_is_lost_is_still_found_among_those_that_were_pruned(path: Path) -> None:
    prune(path, Retention(4 * DAY), quietly)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DELETE FROM version WHERE rid = 1 AND version = 3")
    told = examined(path)[1]
    assert any(one.startswith("Patient/a: version 3 is missing") for one in told), told


def test_what_is_taken_out_is_not_left_in_the_file(path: Path) -> None:
    assert b"Name2" in path.read_bytes()
    prune(path, Retention(99 * DAY), quietly)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    raw = path.read_bytes()
    assert b"Name2" not in raw
    assert b"Name5" in raw


def test_many_small_commits_beside_a_writer(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "_RESOURCES", 1)
    stop = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(_write(path, stop)))
    thread.start()
    told: list[tuple[int, int]] = []
    try:
        for _ in range(5):
            prune(path, Retention(9_000_000 * DAY), lambda done, total: told.append((done, total)))
    finally:
        stop.set()
        thread.join()
    prune(path, Retention(9_000_000 * DAY), quietly)
    assert rows(path, "SELECT count(*) FROM version") == rows(path, "SELECT count(*) FROM resource")
    assert examined(path)[1] == []
    assert [one for one in told if one[0] == 1]


async def _write(path: Path, stop: threading.Event) -> None:
    store = SqliteStore(path)
    number = 0
    try:
        while not stop.is_set():
            number += 1
            await put(store, patient(f"p{number % 10}", f"Name{number}"))
    finally:
        await store.close()
