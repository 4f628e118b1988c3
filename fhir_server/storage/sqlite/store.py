"""The SQLite backend: one file, WAL, every acknowledged commit on disk.

`synchronous=FULL` makes each commit survive power loss (https://www.sqlite.org/pragma.html).
"""

import asyncio
import copy
import os
import sqlite3
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

from fhir_server.errors import FhirError, Kind
from fhir_server.search.ast import Query, Search
from fhir_server.search.parameters import ParameterSet
from fhir_server.storage.audited import AuditEntry, AuditQuery, Link
from fhir_server.storage.clock import Clock, system_clock
from fhir_server.storage.interface import (
    HistoryEntry,
    HistoryOf,
    Memo,
    Page,
    Position,
    StoredVersion,
    Unit,
)
from fhir_server.storage.sqlite.connect import secret_of_file
from fhir_server.storage.sqlite.faults import unwritable
from fhir_server.storage.sqlite.opened import Opened, Place, Terms
from fhir_server.storage.sqlite.reader import FEW, ConnectionReader, NotBrief

T = TypeVar("T")

_READERS: Final = 4
_PATIENT_READERS: Final = 2
_LATELY: Final = 1.0
"""Seconds after a commit in which the store is taken to write."""
_TURN: Final = 8
"""Searches on the loop after which others have their turn, whoever asks so many in a row."""
_READY_PATIENCE: Final = 3.0
"""Seconds that a check waits for its write; who asks for the check waits not much longer."""


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
        _make_private(path)
        self._path = path
        self._terms = Terms(clock, patience, write_patience)
        self._place = Place(path, self._terms)
        self._pool = (_READERS, patience)
        self._brief = 0
        self.long: Search | None = None
        """A search that was just found to take more than a moment: it is not tried again here."""

    async def read(self, resource_type: str, resource_id: str) -> StoredVersion | None:
        opened = self._place.at_hand() or await self._current()
        return opened.read(resource_type, resource_id)

    async def vread(
        self, resource_type: str, resource_id: str, version: int
    ) -> StoredVersion | None:
        return await self._here(lambda reader: reader.vread(resource_type, resource_id, version))

    async def history(
        self, scope: HistoryOf, count: int, before: int | None = None
    ) -> Sequence[HistoryEntry]:
        return await self._soon(
            lambda reader, briefly: reader.history(scope, count, before, briefly=briefly),
            try_here=count <= FEW,
        )

    async def search(
        self,
        query: Search,
        count: int,
        after: Position | None = None,
        until: Position | None = None,
    ) -> Page:
        return await self._soon(
            lambda reader, briefly: reader.search(query, count, after, until, briefly=briefly),
            try_here=count <= FEW and isinstance(query, Query) and query is not self.long,
        )

    async def total(self, query: Search) -> int:
        return await self._soon(
            lambda reader, briefly: reader.total(query, briefly=briefly),
            try_here=isinstance(query, Query),
        )

    async def referring(
        self, types: Collection[str], code: str, targets: Sequence[str]
    ) -> frozenset[str]:
        return await self._here(lambda reader: reader.referring(types, code, targets))

    async def parameters(self) -> ParameterSet:
        return await self._beside(lambda reader: reader.parameters())

    async def changes(self, after: int, count: int) -> Sequence[tuple[int, StoredVersion]]:
        return await self._elsewhere(lambda reader: reader.changes(after, count))

    async def memo(self, space: str, key: str) -> Memo | None:
        opened = self._place.lately() or await self._current()
        return opened.memo(space, key, self._terms.clock())

    async def memos(
        self, space: str, prefix: str = "", count: int = 100, after: str = ""
    ) -> Sequence[Memo]:
        now = self._terms.clock()
        if count > FEW:
            return await self._elsewhere(lambda one: one.memos(space, prefix, count, after, now))
        opened = self._place.lately() or await self._current()
        return opened.memos(space, prefix, count, after, now)

    def epoch(self) -> object | None:
        """Another object once any process has committed; None while the file is not open.

        Whoever finds the same one after a question has the answer of a store that nobody has
        changed since.
        """
        opened = self._place.lately()
        return None if opened is None else opened.epoch()

    async def audited(self, asked: AuditQuery, count: int) -> Sequence[AuditEntry]:
        return await self._elsewhere(lambda reader: reader.audited(asked, count))

    async def audit_ends(self) -> tuple[Link, Link]:
        return await self._here(lambda reader: reader.audit_ends())

    async def commit(self, work: Callable[[Unit], Awaitable[T]]) -> T:
        result: T = await (await self._current()).committer.commit(work)
        return result

    async def secret(self, name: str) -> bytes:
        await self._place.current()
        patience = self._terms.write_patience
        try:
            return await asyncio.to_thread(secret_of_file, self._path, name, patience)
        except sqlite3.Error as error:
            raise unwritable(error) from error

    def patient(self, patience: float) -> "SqliteStore":
        other = copy.copy(self)
        other._pool = (_PATIENT_READERS, patience)
        return other

    def lagging(self) -> "SqliteStore":
        return self

    async def ready(self) -> None:
        await self.read("Patient", "ready")
        committer = (await self._place.current()).committer
        if committer.has_committed_within(_LATELY):
            return
        patience = min(self._terms.write_patience, _READY_PATIENCE)
        try:
            async with asyncio.timeout(patience):
                await self.commit(_mark)
        except TimeoutError:
            text = f"The store has not written for {patience:g} s: another process holds it"
            raise FhirError(Kind.UNAVAILABLE, text) from None

    async def close(self) -> None:
        usual = self._terms.patience
        await self._place.close(hurry=lambda pool: pool.patience > usual)

    async def _here(self, job: Callable[[ConnectionReader], T]) -> T:
        opened = self._place.at_hand() or await self._current()
        return opened.now(job)

    async def _beside(self, job: Callable[[ConnectionReader], T]) -> T:
        opened = self._place.lately() or await self._current()
        return opened.now(job)

    async def _soon(self, job: Callable[[ConnectionReader, bool], T], *, try_here: bool) -> T:
        """What `job` reads: on the loop where that takes a moment, otherwise beside it.

        To hand a search to a thread and to be told of its end costs more than most of them take.
        """
        if try_here:
            self._brief += 1
            if self._brief % _TURN == 0:
                await asyncio.sleep(0)
            with suppress(NotBrief):
                return await self._here(lambda reader: job(reader, True))
        return await self._elsewhere(lambda reader: job(reader, False))

    async def _elsewhere(self, job: Callable[[ConnectionReader], T]) -> T:
        return await (await self._current()).pool(*self._pool).run(job)

    async def _current(self) -> Opened:
        return await self._place.current()


def _make_private(path: Path) -> None:
    """Before SQLite makes it, as open as the umask is; the files that lie beside it follow it."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


async def _mark(unit: Unit) -> None:
    """A write that changes nothing which anybody reads."""
    await unit.keep(Memo("health", "ready", b""))
