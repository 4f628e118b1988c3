"""The SQLite backend: one file, WAL, every acknowledged commit on disk.

`synchronous=FULL` makes each commit survive power loss (https://www.sqlite.org/pragma.html).
"""

import asyncio
import copy
import os
import queue
import sqlite3
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

from fhir_server.errors import FhirError, Kind
from fhir_server.search.ast import Search
from fhir_server.search.parameters import ParameterSet
from fhir_server.storage.interface import (
    HistoryEntry,
    HistoryOf,
    Memo,
    Page,
    Position,
    StoredVersion,
    Unit,
)
from fhir_server.storage.sqlite.committer import Committer
from fhir_server.storage.sqlite.entries import EntryWriter, ParameterNumbers, keyed_hash
from fhir_server.storage.sqlite.reader import ConnectionReader
from fhir_server.storage.sqlite.reindex import bring_up_to_date
from fhir_server.storage.sqlite.schema import migrate
from fhir_server.storage.sqlite.unit import SqliteUnit

T = TypeVar("T")
Clock = Callable[[], int]

_READERS: Final = 4
_PATIENT_READERS: Final = 2
_PATIENCE_INSIDE: Final = 1.0
"""Seconds that a search within a commit may take: every other request waits for it."""
_STATEMENTS: Final = 256
_BUSY_WAIT: Final = 0.005
_SETTING: Final = "SELECT value FROM setting WHERE name = ?"


def system_clock() -> int:
    """Microseconds since the epoch."""
    return time.time_ns() // 1000


class SqliteStore:
    """The `Store` of one SQLite file; several processes may have it open.

    Args:
        path: the file; it and its folder are made when they are not there.
        clock: microseconds since the epoch.
        patience: seconds that a search may take.
        write_patience: seconds that a commit waits for another process's.

    Raises:
        RuntimeError: when a newer release has written the file.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Clock = system_clock,
        patience: float = 10.0,
        write_patience: float = 10.0,
    ) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._clock = clock
        self._write_patience = write_patience
        self._writer, secret = _prepared(path)
        # From here on, waiting is the committer's: it must not hold up the loop.
        self._writer.execute("PRAGMA busy_timeout = 0")
        hashed = keyed_hash(secret)

        def open_reader(patience: float) -> ConnectionReader:
            connection = _connect(path, read_only=True)
            return ConnectionReader(connection, hashed, ParameterNumbers(), patience)

        self._open: Callable[[float], ConnectionReader] = open_reader
        self._here = self._open(patience)
        self._readers = _Readers(_READERS, lambda: open_reader(patience))
        self._further: list[_Readers] = []
        numbers = ParameterNumbers()
        entries = EntryWriter(hashed, numbers)
        inside = ConnectionReader(self._writer, hashed, numbers, min(patience, _PATIENCE_INSIDE))
        self._committer = Committer(
            self._writer,
            lambda: SqliteUnit(self._writer, inside, entries, self._clock()),
            inside.forget,
            write_patience,
        )

    async def read(self, resource_type: str, resource_id: str) -> StoredVersion | None:
        return self._here.read(resource_type, resource_id)

    async def vread(
        self, resource_type: str, resource_id: str, version: int
    ) -> StoredVersion | None:
        return self._here.vread(resource_type, resource_id, version)

    async def history(
        self, scope: HistoryOf, count: int, before: int | None = None
    ) -> Sequence[HistoryEntry]:
        return await self._elsewhere(lambda reader: reader.history(scope, count, before))

    async def search(
        self,
        query: Search,
        count: int,
        after: Position | None = None,
        until: Position | None = None,
    ) -> Page:
        return await self._elsewhere(lambda reader: reader.search(query, count, after, until))

    async def total(self, query: Search) -> int:
        return await self._elsewhere(lambda reader: reader.total(query))

    async def parameters(self) -> ParameterSet:
        return self._here.parameters()

    async def changes(self, after: int, count: int) -> Sequence[tuple[int, StoredVersion]]:
        return await self._elsewhere(lambda reader: reader.changes(after, count))

    async def memo(self, space: str, key: str) -> Memo | None:
        return self._here.memo(space, key, self._clock())

    async def memos(
        self, space: str, prefix: str = "", count: int = 100, after: str = ""
    ) -> Sequence[Memo]:
        now = self._clock()
        return await self._elsewhere(lambda reader: reader.memos(space, prefix, count, after, now))

    async def commit(self, work: Callable[[Unit], Awaitable[T]]) -> T:
        result: T = await self._committer.commit(work)
        return result

    async def secret(self, name: str) -> bytes:
        try:
            return await asyncio.to_thread(_secret_of_file, self._path, name, self._write_patience)
        except sqlite3.OperationalError as error:
            raise FhirError(Kind.UNAVAILABLE, f"The store cannot write now: {error}") from None

    def patient(self, patience: float) -> "SqliteStore":
        other = copy.copy(self)
        other._readers = _Readers(_PATIENT_READERS, lambda: self._open(patience))
        self._further.append(other._readers)
        return other

    async def ready(self) -> None:
        try:
            await self.read("Patient", "ready")
        except sqlite3.Error as error:
            raise FhirError(Kind.UNAVAILABLE, f"The store cannot be read: {error}") from None

    async def close(self) -> None:
        await self._committer.close()
        for readers in self._further:
            readers.interrupt()
        for readers in (self._readers, *self._further):
            readers.close()
        self._here.close()
        self._writer.close()

    async def _elsewhere(self, job: Callable[[ConnectionReader], T]) -> T:
        return await self._readers.run(job)


class _Readers:
    """Searches run in threads with connections of their own, so that the loop goes on."""

    def __init__(self, most: int, open_reader: Callable[[], ConnectionReader]) -> None:
        self._open = open_reader
        self._pool: queue.SimpleQueue[ConnectionReader] = queue.SimpleQueue()
        self._opened: list[ConnectionReader] = []
        self._threads = ThreadPoolExecutor(most, thread_name_prefix="search")

    async def run(self, job: Callable[[ConnectionReader], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._pooled, job)

    def interrupt(self) -> None:
        """End what is still being searched, which may take long."""
        for reader in self._opened:
            reader.interrupt()

    def close(self) -> None:
        self._threads.shutdown()
        while not self._pool.empty():
            self._pool.get().close()

    def _pooled(self, job: Callable[[ConnectionReader], T]) -> T:
        try:
            reader = self._pool.get_nowait()
        except queue.Empty:
            reader = self._open()
            self._opened.append(reader)
        try:
            return job(reader)
        finally:
            self._pool.put(reader)


def _connect(
    path: Path, *, read_only: bool = False, busy_timeout_ms: int = 5_000
) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, cached_statements=_STATEMENTS
    )
    pragmas: list[tuple[str, Any]] = [
        ("busy_timeout", busy_timeout_ms),
        ("synchronous", "FULL"),
        ("cache_size", -16_000),
        ("temp_store", "MEMORY"),
        ("query_only", int(read_only)),
    ]
    try:
        _use_wal(connection, busy_timeout_ms / 1000)
        for name, value in pragmas:
            connection.execute(f"PRAGMA {name} = {value}")
    except BaseException:
        connection.close()
        raise
    return connection


def _use_wal(connection: sqlite3.Connection, patience: float) -> None:
    """The switch to WAL, once in a file's life, does not honour `busy_timeout`."""
    deadline = time.monotonic() + patience
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(_BUSY_WAIT)
        else:
            return


def _prepared(path: Path) -> tuple[sqlite3.Connection, bytes]:
    """A connection to a file with the newest schema and index, and the secret of its hashes."""
    connection = _connect(path, busy_timeout_ms=10_000)
    try:
        if not os.access(path, os.W_OK):
            raise sqlite3.OperationalError("attempt to write a readonly database")
        migrate(connection)
        secret = _secret(connection, "index")
        bring_up_to_date(connection, EntryWriter(keyed_hash(secret), ParameterNumbers()))
        return connection, secret
    except BaseException:
        connection.close()
        raise


def _secret_of_file(path: Path, name: str, patience: float) -> bytes:
    connection = _connect(path, busy_timeout_ms=int(patience * 1000))
    try:
        return _secret(connection, name)
    finally:
        connection.close()


def _secret(connection: sqlite3.Connection, name: str) -> bytes:
    key = f"secret:{name}"
    row = connection.execute(_SETTING, (key,)).fetchone()
    if row is None:
        connection.execute("INSERT OR IGNORE INTO setting VALUES (?, ?)", (key, os.urandom(32)))
        row = connection.execute(_SETTING, (key,)).fetchone()
    return bytes(row[0])
