"""Faults of the SQLite file: a refusal that may pass, nothing lost, and no restart afterwards.

Every fault is a real one of SQLite or of the file system.
"""

import asyncio
import shutil
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from fhir_server.errors import FhirError, Kind
from fhir_server.storage.interface import HistoryOf, Memo, Unit
from fhir_server.storage.sqlite.store import SqliteStore
from tests.storage.questions import found, patient, put, query

READS: Final[dict[str, Callable[[SqliteStore], Awaitable[Any]]]] = {
    "read": lambda store: store.read("Patient", "a"),
    "vread": lambda store: store.vread("Patient", "a", 1),
    "history": lambda store: store.history(HistoryOf("Patient", "a"), 10),
    "search": lambda store: store.search(query("Patient?family=ash"), 10),
    "total": lambda store: store.total(query("Patient?family=ash")),
    "changes": lambda store: store.changes(0, 10),
    "memo": lambda store: store.memo("space", "key"),
    "memos": lambda store: store.memos("space"),
    "parameters": lambda store: store.parameters(),
    "secret": lambda store: store.secret("pages"),
    "ready": lambda store: store.ready(),
    "write": lambda store: put(store, patient("b")),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(path, write_patience=0.2)
    yield opened
    await opened.close()


async def refused(attempt: Awaitable[Any]) -> str:
    """The text of the refusal, which says that it may pass, and nothing of files and tables."""
    with pytest.raises(FhirError) as caught:
        await attempt
    assert caught.value.kind is Kind.UNAVAILABLE
    text = str(caught.value)
    assert "store.db" not in text
    assert "malformed" not in text
    return text


def writer(store: SqliteStore) -> sqlite3.Connection:
    return store._place.last.writer


@contextmanager
def damaged(path: Path) -> Iterator[None]:
    """Every page of the file is noise, and the log is empty; afterwards they are as before."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    whole = path.read_bytes()
    try:
        with path.open("r+b") as file:
            file.write(b"\xa5" * len(whole))
        yield
    finally:
        with path.open("r+b") as file:
            file.write(whole)


@contextmanager
def full(store: SqliteStore) -> Iterator[None]:
    """SQLite may not make the file larger: what a full disk says, SQLITE_FULL."""
    connection = writer(store)
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (usual,) = connection.execute("PRAGMA max_page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")
    try:
        yield
    finally:
        connection.execute(f"PRAGMA max_page_count = {usual}")


def move(one: Path, other: Path) -> None:
    one.rename(other)


def there(path: Path) -> bool:
    return path.exists()


def content(path: Path) -> bytes:
    return path.read_bytes()


def fill(path: Path, whole: bytes) -> None:
    path.unlink()
    path.write_bytes(whole)


def remove_log(path: Path) -> None:
    for name in ("store.db-wal", "store.db-shm"):
        path.with_name(name).unlink()


def bulky(resource_id: str) -> dict[str, Any]:
    return patient(resource_id, "Birch", text={"status": "generated", "div": "x" * 100_000})


@pytest.mark.parametrize("name", READS)
async def test_a_read_that_the_file_does_not_give_is_refused_and_given_afterwards(
    path: Path, name: str
) -> None:
    before = SqliteStore(path)
    await put(before, patient("a", "Ash"))
    await before.close()
    store = SqliteStore(path)
    try:
        with damaged(path):
            await refused(READS[name](store))
        await READS[name](store)
        assert await found(store, "Patient?family=ash") == ["a"]
    finally:
        await store.close()


async def test_a_full_disk_refuses_what_does_not_fit_and_loses_nothing(store: SqliteStore) -> None:
    await put(store, patient("a", "Ash"))
    with full(store):
        assert "cannot write now" in await refused(put(store, bulky("b")))
        assert await found(store, "Patient") == ["a"]
    await put(store, bulky("b"))
    assert await found(store, "Patient?family=birch") == ["b"]


async def test_of_a_group_on_a_full_disk_each_is_answered_by_what_is_on_disk(
    store: SqliteStore, path: Path
) -> None:
    await put(store, patient("a", "Ash"))
    with full(store):
        results = await asyncio.gather(
            *(put(store, bulky(f"b{n}")) for n in range(10)), return_exceptions=True
        )
    made = {f"b{n}" for n, result in enumerate(results) if not isinstance(result, BaseException)}
    other = SqliteStore(path)
    try:
        assert {*await found(other, "Patient?family=birch")} == made
    finally:
        await other.close()
    assert all(isinstance(r, FhirError) for r in results if isinstance(r, BaseException))


async def test_it_is_not_ready_while_it_cannot_write(store: SqliteStore, path: Path) -> None:
    await store.ready()
    with closing(sqlite3.connect(path, isolation_level=None)) as locker:
        locker.execute("BEGIN IMMEDIATE")
        await refused(put(store, patient("a")))
        await refused(store.ready())
        assert await store.read("Patient", "a") is None  # reads go on
        locker.execute("ROLLBACK")
    await store.ready()
    with full(store):
        await refused(put(store, bulky("b")))
        await put(store, patient("little"))  # what is small may still fit
    await store.ready()


async def test_nothing_is_served_from_a_file_that_is_gone_until_it_is_back(
    store: SqliteStore, path: Path
) -> None:
    await put(store, patient("a", "Ash"))
    away = path.with_name("away")
    move(path, away)
    for name in READS:
        assert "is not where it was" in await refused(READS[name](store))
    assert not there(path), "an empty file in its place would be taken for the store"
    move(away, path)
    await store.ready()
    await put(store, patient("b", "Birch"))
    assert await found(store, "Patient?_sort=_id") == ["a", "b"]


async def test_a_commit_into_a_file_that_goes_meanwhile_is_not_acknowledged(
    store: SqliteStore, path: Path
) -> None:
    await put(store, patient("a", "Ash"))

    async def work(unit: Unit) -> None:
        await unit.keep(Memo("space", "key", b"lost"))
        move(path, path.with_name("away"))

    await refused(store.commit(work))


async def test_another_file_in_its_place_is_served_without_a_restart(
    store: SqliteStore, path: Path, tmp_path: Path
) -> None:
    other = SqliteStore(tmp_path / "other.db")
    await put(other, patient("theirs", "Birch"))
    await other.close()
    await put(store, patient("ours", "Ash"))
    patiently = store.patient(60.0)
    remove_log(path)
    move(tmp_path / "other.db", path)
    results = await asyncio.gather(*(found(store, "Patient?family=birch") for _ in range(5)))
    assert results == [["theirs"]] * 5
    assert await found(patiently, "Patient") == ["theirs"]
    assert await store.read("Patient", "ours") is None
    await put(store, patient("new", "Cedar"))
    assert await found(store, "Patient?_sort=_id") == ["new", "theirs"]


async def test_another_file_beside_the_old_log_is_not_spoilt_by_it(
    store: SqliteStore, path: Path, tmp_path: Path
) -> None:
    other = SqliteStore(tmp_path / "other.db")
    await put(other, patient("theirs", "Birch"))
    await other.close()
    whole = content(tmp_path / "other.db")
    await put(store, patient("ours", "Ash"))
    move(tmp_path / "other.db", path)
    assert "-wal" in await refused(store.ready())
    assert content(path) == whole
    remove_log(path)
    assert await found(store, "Patient") == ["theirs"]


async def test_what_is_no_store_is_not_served_until_the_store_is_back(
    store: SqliteStore, path: Path
) -> None:
    await put(store, patient("a", "Ash"))
    writer(store).execute("PRAGMA wal_checkpoint(TRUNCATE)")
    copied = path.with_name("copied")
    shutil.copy(path, copied)
    remove_log(path)
    fill(path, b"no database " * 1000)
    assert "cannot be opened" in await refused(store.ready())
    assert "cannot be opened" in await refused(put(store, patient("lost")))
    move(copied, path)
    assert await found(store, "Patient") == ["a"]


async def test_a_log_that_is_taken_away_loses_nothing(store: SqliteStore, path: Path) -> None:
    await put(store, patient("a", "Ash"))
    remove_log(path)
    await put(store, patient("b", "Birch"))
    other = SqliteStore(path)
    try:
        assert await found(other, "Patient?_sort=_id") == ["a", "b"]
    finally:
        await other.close()


async def test_a_transaction_that_cannot_be_ended_does_not_end_the_store(
    store: SqliteStore,
) -> None:
    await put(store, patient("a", "Ash"))

    def never_end(action: int, first: str | None, *_: str | None) -> int:
        ends = action == sqlite3.SQLITE_TRANSACTION and first in ("COMMIT", "ROLLBACK")
        return sqlite3.SQLITE_DENY if ends else sqlite3.SQLITE_OK

    writer(store).set_authorizer(never_end)
    await refused(put(store, patient("b", "Birch")))
    await put(store, patient("c", "Cedar"))
    assert await found(store, "Patient?_sort=_id") == ["a", "c"]


async def test_a_runner_that_is_cancelled_amid_a_commit_answers_by_what_is_on_disk(
    store: SqliteStore, path: Path
) -> None:
    """The COMMIT is held up in its thread, where the loop cannot stop it."""
    held, let_go = threading.Event(), threading.Event()

    def hold(statement: str) -> None:
        if statement == "COMMIT":
            held.set()
            let_go.wait(10)

    writer(store).set_trace_callback(hold)
    writing = [asyncio.create_task(put(store, patient(f"p{n}"))) for n in range(3)]
    await asyncio.to_thread(held.wait, 10)
    behind = asyncio.create_task(put(store, patient("behind")))
    await asyncio.sleep(0)
    runner = store._place.last.committer._groups._runner
    assert runner is not None
    runner.cancel()
    await asyncio.sleep(0.05)
    assert not any(one.done() for one in writing), "nobody knows yet what becomes of it"
    let_go.set()
    made = await asyncio.gather(*writing, behind, return_exceptions=True)
    assert [isinstance(one, asyncio.CancelledError) for one in made] == [False] * 3 + [True]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM resource").fetchone() == (3,)
    assert await found(store, "Patient") == ["p0", "p1", "p2"]
