"""The file as it is open now: its connections, and whether it is still the one at its name.

A file that was moved away or removed can be read and written on through open connections, but
what is written there is in no file that anybody finds again
(https://www.sqlite.org/howtocorrupt.html#_unlinking_or_renaming_a_database_file_while_in_use).
So the name is looked at with every request, and before a commit is answered; where another file
lies there, it is opened in place of the old one, without a restart.
"""

import asyncio
import os
import queue
import sqlite3
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from fhir_server.errors import FhirError, Kind
from fhir_server.storage.interface import Memo, StoredVersion
from fhir_server.storage.sqlite.audit import Tail
from fhir_server.storage.sqlite.committer import Committer
from fhir_server.storage.sqlite.connect import READER_PAGES, SIDE_PAGES, connect, secret_of
from fhir_server.storage.sqlite.entries import EntryWriter, ParameterNumbers, keyed_hash
from fhir_server.storage.sqlite.faults import unopened, unreadable
from fhir_server.storage.sqlite.known import Known
from fhir_server.storage.sqlite.reader import ConnectionReader
from fhir_server.storage.sqlite.reindex import bring_up_to_date
from fhir_server.storage.sqlite.schema import migrate
from fhir_server.storage.sqlite.shown import Shown
from fhir_server.storage.sqlite.unit import SqliteUnit

T = TypeVar("T")
OpenReader = Callable[[float], ConnectionReader]

_PATIENCE_INSIDE: Final = 1.0
"""Seconds that a search within a commit may take: every other request waits for it."""
_LATELY: Final = 0.001
"""Seconds for which a look at the file's name is good for memos and parameters: each request asks
for several, beside the resources themselves, with which the name is looked at each time."""
_Inode = tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class Terms:
    """Of all connections.

    `clock` gives microseconds since the epoch; a search may take `patience` seconds, and a
    commit waits `write_patience` for another process's.
    """

    clock: Callable[[], int]
    patience: float
    write_patience: float


class Opened:
    """The connections to one file.

    Raises:
        RuntimeError: when a newer release has written the file.
        sqlite3.Error: when it cannot be opened.
    """

    def __init__(self, path: Path, terms: Terms, *, new: bool = False) -> None:
        self._names = (str(path), f"{path}-wal")
        self.writer, index_secret = _prepared(path, new=new)
        # From here on, waiting is the committer's: it must not hold up the loop.
        self.writer.execute("PRAGMA busy_timeout = 0")
        hashed = keyed_hash(index_secret)

        def open_reader(patience: float, pages: int = SIDE_PAGES) -> ConnectionReader:
            connection = connect(path, read_only=True, pages=pages)
            shown = Shown() if pages == READER_PAGES else None
            return ConnectionReader(connection, hashed, ParameterNumbers(), patience, shown=shown)

        self._open_reader = open_reader
        self._patience = terms.patience
        self._reader: ConnectionReader | None = open_reader(terms.patience, READER_PAGES)
        self._pools: dict[tuple[int, float], Readers] = {}
        self._inodes = self._found()
        self.committer = self._committer(ParameterNumbers(), hashed, terms)

    def _committer(
        self, numbers: ParameterNumbers, hashed: Callable[[str], int], terms: Terms
    ) -> Committer:
        entries = EntryWriter(hashed, numbers)
        patience = min(terms.patience, _PATIENCE_INSIDE)
        inside = ConnectionReader(self.writer, hashed, numbers, patience, writes=True)
        tail, known = Tail(), Known(self.writer)

        def rolled_back() -> None:
            inside.forget()
            known.forget()

        return Committer(
            self.writer,
            lambda: SqliteUnit(self.writer, inside, entries, tail, known, terms.clock()),
            tail,
            known.begin,
            rolled_back,
            terms.write_patience,
            self._require_there,
        )

    def now(self, job: Callable[[ConnectionReader], T]) -> T:
        """What `job` reads, on the loop.

        Raises:
            FhirError: UNAVAILABLE when the file does not give it.
        """
        try:
            return job(self.reader())
        except sqlite3.Error as error:
            raise self._unreadable(error) from error

    def read(self, resource_type: str, resource_id: str) -> StoredVersion | None:
        """As `now`, of what is asked most of all."""
        try:
            return (self._reader or self.reader()).read(resource_type, resource_id)
        except sqlite3.Error as error:
            raise self._unreadable(error) from error

    def read_beside(
        self, resource_type: str, resource_id: str
    ) -> tuple[StoredVersion | None, bytes | None]:
        """As `ConnectionReader.read_beside`; raises as `now`."""
        try:
            return (self._reader or self.reader()).read_beside(resource_type, resource_id)
        except sqlite3.Error as error:
            raise self._unreadable(error) from error

    def memo(self, space: str, key: str, now: int) -> Memo | None:
        """As `now`, of what each request asks for: the state of the facts, by which it decides."""
        try:
            return (self._reader or self.reader()).memo(space, key, now)
        except sqlite3.Error as error:
            raise self._unreadable(error) from error

    def memos(self, space: str, prefix: str, count: int, after: str, now: int) -> list[Memo]:
        """As `memo`, of several."""
        try:
            return (self._reader or self.reader()).memos(space, prefix, count, after, now)
        except sqlite3.Error as error:
            raise self._unreadable(error) from error

    def epoch(self) -> object | None:
        """As `ConnectionReader.epoch`, of the loop's own; raises as `now`."""
        try:
            return (self._reader or self.reader()).epoch()
        except sqlite3.Error as error:
            raise self._unreadable(error) from error

    def generation(self, types: Collection[str]) -> int | None:
        """As `ConnectionReader.generation`, of the loop's own; raises as `now`."""
        try:
            return (self._reader or self.reader()).generation(types)
        except sqlite3.Error as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: sqlite3.Error) -> FhirError:
        """What it is told as; the connection may keep what it has read of a damaged file."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        return unreadable(error)

    def reader(self) -> ConnectionReader:
        """The loop's own."""
        if self._reader is None:
            self._reader = self._open_reader(self._patience, READER_PAGES)
        return self._reader

    def pool(self, most: int, patience: float) -> "Readers":
        """Those for searches that may take so long, at most so many at a time."""
        found = self._pools.get((most, patience))
        if found is None:
            found = Readers(most, patience, self._open_reader)
            self._pools[most, patience] = found
        return found

    @property
    def is_there(self) -> bool:
        """Whether file and log are still those at their names, and the writer is usable."""
        file, log = self._names
        return (
            _inode(file) == self._inodes[0]
            and _inode(log) == self._inodes[1]
            and not self.committer.spoilt
        )

    def has_left_its_log(self) -> bool:
        """Whether another file lies beside the log of this one, which would spoil it."""
        file, log = self._found()
        return file != self._inodes[0] and log is not None and log == self._inodes[1]

    async def close(self, *, hurry: Callable[["Readers"], bool]) -> None:
        """Finish what is being committed and searched; end searches of a pool in a `hurry`."""
        await self.committer.close()
        for pool in self._pools.values():
            if hurry(pool):
                pool.interrupt()
        for pool in self._pools.values():
            await asyncio.to_thread(pool.close)
        if self._reader is not None:
            self._reader.close()
        self.writer.close()

    def _found(self) -> tuple[_Inode, _Inode]:
        file, log = self._names
        return _inode(file), _inode(log)

    def _require_there(self) -> None:
        if self._found() != self._inodes:
            raise _gone()


class Readers:
    """Searches run in threads with connections of their own, so that the loop goes on."""

    def __init__(self, most: int, patience: float, open_reader: OpenReader) -> None:
        self.patience: Final = patience
        self._open = open_reader
        self._pool: queue.SimpleQueue[ConnectionReader] = queue.SimpleQueue()
        self._opened: set[ConnectionReader] = set()
        self._ended = False
        self._threads = ThreadPoolExecutor(most, thread_name_prefix="search")

    async def run(self, job: Callable[[ConnectionReader], T]) -> T:
        """What `job` reads.

        Raises:
            FhirError: UNAVAILABLE when the file does not give it.
        """
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, self._pooled, job)
        except sqlite3.Error as error:
            raise unreadable(error) from error

    def interrupt(self) -> None:
        """End what is still being searched, which may take long."""
        self._ended = True
        for reader in [*self._opened]:
            reader.interrupt()

    def close(self) -> None:
        self._threads.shutdown()
        while not self._pool.empty():
            self._pool.get().close()

    def _pooled(self, job: Callable[[ConnectionReader], T]) -> T:
        reader = self._taken()
        try:
            result = job(reader)
        except sqlite3.Error:
            # It may keep what it has read of a damaged file.
            self._opened.discard(reader)
            reader.close()
            raise
        except FhirError:
            self._pool.put(reader)
            if self._ended:  # then it is not the search that took too long
                raise _ended() from None
            raise
        self._pool.put(reader)
        return result

    def _taken(self) -> ConnectionReader:
        if self._ended:
            raise _ended()
        try:
            return self._pool.get_nowait()
        except queue.Empty:
            reader = self._open(self.patience)
            self._opened.add(reader)
            return reader


class Place:
    """The store's file by its name, whichever lies there.

    Args:
        path: it is made when it is not there, but only at first.
    """

    def __init__(self, path: Path, terms: Terms) -> None:
        self._path = path
        self._terms = terms
        self._opened: Opened | None = Opened(path, terms, new=True)
        self.last = self._opened
        self._closed = False
        self._looked = 0.0
        """When the file was last seen to lie there, as `time.monotonic` has it."""
        self._opening: asyncio.Task[Opened] | None = None

    def at_hand(self) -> Opened | None:
        """The file that lies there now, where it is open already."""
        if self._opened is not None and (self._closed or self._opened.is_there):
            self._looked = time.monotonic()
            return self._opened
        self._looked = 0.0
        return None

    def lately(self) -> Opened | None:
        """The file that lay there a moment ago, for what is asked beside the resources."""
        if time.monotonic() - self._looked < _LATELY:
            return self._opened
        return self.at_hand()

    async def current(self) -> Opened:
        """The file that lies there now.

        Raises:
            FhirError: UNAVAILABLE while there is none, or none that can be used.
        """
        there = self.at_hand()
        if there is not None:
            return there
        if self._opening is None or self._opening.done():
            self._opening = asyncio.create_task(self._anew())
        # Whoever asks may leave meanwhile; the connections are everybody's.
        return await asyncio.shield(self._opening)

    async def _anew(self) -> Opened:
        if not self._path.exists():
            raise _gone()
        if self.last.has_left_its_log():
            raise FhirError(
                Kind.UNAVAILABLE,
                "Another file lies in the place of the store's, beside the log (-wal) of the one "
                "before; the operator must put back the one, or remove the -wal and -shm files",
            )
        if self._opened is not None:
            # A log that was taken away is moved into the file when the last connection ends.
            leaving, self._opened = self._opened, None
            await leaving.close(hurry=lambda _: True)
        try:
            opened = await asyncio.to_thread(Opened, self._path, self._terms)
        except (OSError, RuntimeError, sqlite3.Error) as error:
            raise unopened(error) from error
        self._opened = self.last = opened
        return opened

    async def close(self, *, hurry: Callable[[Readers], bool]) -> None:
        self._closed = True
        if self._opening is not None:
            await asyncio.gather(self._opening, return_exceptions=True)
        if self._opened is not None:
            await self._opened.close(hurry=hurry)


def _gone() -> FhirError:
    return FhirError(
        Kind.UNAVAILABLE,
        "The store's file, or its log, is not where it was; nothing is read or written until the "
        "operator has put it back",
    )


def _ended() -> FhirError:
    return FhirError(Kind.UNAVAILABLE, "The store is being closed or opened anew; ask again")


def _inode(name: str) -> _Inode:
    try:
        found = os.stat(name)  # noqa: PTH116 - with every request, and twice as quick
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _prepared(path: Path, *, new: bool) -> tuple[sqlite3.Connection, bytes]:
    """A connection to a file with the newest schema and index, and the secret of its hashes."""
    connection = connect(path, new=new, busy_timeout_ms=10_000)
    try:
        if not os.access(path, os.W_OK):
            raise sqlite3.OperationalError("attempt to write a readonly database")
        migrate(connection)
        index_secret = secret_of(connection, "index")
        bring_up_to_date(connection, EntryWriter(keyed_hash(index_secret), ParameterNumbers()))
        return connection, index_secret
    except BaseException:
        connection.close()
        raise
