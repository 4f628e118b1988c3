"""The MongoDB backend: a replica set or a sharded cluster, every write with its majority."""

import copy
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Final, Protocol, TypeVar

from pymongo.errors import PyMongoError

from fhir_server.search.ast import Search
from fhir_server.search.parameters import ParameterSet
from fhir_server.storage.audited import AuditEntry, AuditQuery, Link
from fhir_server.storage.clock import Clock, system_clock
from fhir_server.storage.interface import (
    HistoryEntry,
    HistoryOf,
    Memo,
    Page,
    Position,
    Reader,
    StoredVersion,
    Unit,
)
from fhir_server.storage.mongo.address import database_name
from fhir_server.storage.mongo.batch import Batch
from fhir_server.storage.mongo.committer import PATIENCE_INSIDE, Committer
from fhir_server.storage.mongo.documents import version_of
from fhir_server.storage.mongo.driver import Database, Transaction
from fhir_server.storage.mongo.faults import out_of_time, passing, refused, why_not
from fhir_server.storage.mongo.lagging import LaggingReader
from fhir_server.storage.mongo.parameters import StoredParameters
from fhir_server.storage.mongo.reader import TransactionReader
from fhir_server.storage.mongo.reindex import bring_up_to_date
from fhir_server.storage.mongo.schema import (
    ensure_setting,
    migrate,
    require_deployment,
    require_store,
)
from fhir_server.storage.mongo.unit import MongoUnit
from fhir_server.storage.patience import OutOfTime

T = TypeVar("T")

_ATTEMPTS: Final = 3
"""Times that a read is begun when its transaction breaks off."""
_ANSWER_BEYOND: Final = 5.0
"""Seconds after the end of a search's time by which the server must have said so."""
_LIFETIME: Final = 60.0
"""Seconds that a transaction lives, where the server does not say another number:
https://www.mongodb.com/docs/manual/reference/parameters/"""
_USABLE: Final = 0.9
"""Of that time, for searches: they have to say themselves that they took too long."""


class OpenDatabase(Protocol):
    """Makes a client of the store's database that is silent for so many seconds at the most."""

    def __call__(self, patience: float, *, from_secondary: bool = False) -> Database: ...


class MongoStore:
    """The `Store` of one MongoDB database; any number of processes may have it open.

    Made by `open_mongo`.
    """

    def __init__(
        self,
        open_database: OpenDatabase,
        clock: Clock,
        patience: float,
        write_patience: float,
        *,
        may_lag: bool = False,
    ) -> None:
        self._open = open_database
        self._may_lag = may_lag
        self._database = database = open_database(patience)
        self._further: list[Database] = []
        self._behind: LaggingReader | None = None
        self._clock = clock
        self._patience = patience
        self._longest = _LIFETIME * _USABLE
        self._parameters = StoredParameters(database)
        self._committer = Committer(database, self._parameters, self._unit, write_patience)

    async def prepare(self, *, make: bool) -> None:
        """Make what is not there if `make`, and bring up to date what is.

        Raises:
            RuntimeError, FhirError: as `open_mongo` does.
        """
        async with self._answers("be reached"):
            try:
                await self._prepare(make=make)
            except PyMongoError as error:
                reason = why_not(error)
                if reason is not None:
                    raise RuntimeError(reason) from None
                raise

    async def _prepare(self, *, make: bool) -> None:
        await require_deployment(self._database)
        lifetime = await self._database.parameter("transactionLifetimeLimitSeconds")
        self._longest = float(lifetime or _LIFETIME) * _USABLE
        self._patience = min(self._patience, self._longest)
        if not make:
            await require_store(self._database)
        await migrate(self._database)
        await bring_up_to_date(self._database)

    async def read(self, resource_type: str, resource_id: str) -> StoredVersion | None:
        async with self._answers():
            found = await self._alone().current(resource_type, resource_id)
        return None if found is None else version_of(found)

    async def vread(
        self, resource_type: str, resource_id: str, version: int
    ) -> StoredVersion | None:
        async with self._answers():
            return await self._alone().vread(resource_type, resource_id, version)

    async def history(
        self, scope: HistoryOf, count: int, before: int | None = None
    ) -> Sequence[HistoryEntry]:
        return await self._at_once(lambda reader: reader.history(scope, count, before))

    async def search(
        self,
        query: Search,
        count: int,
        after: Position | None = None,
        until: Position | None = None,
    ) -> Page:
        return await self._at_once(lambda reader: reader.search(query, count, after, until))

    async def total(self, query: Search) -> int:
        return await self._at_once(lambda reader: reader.total(query))

    async def referring(
        self, types: Collection[str], code: str, targets: Sequence[str]
    ) -> frozenset[str]:
        return await self._at_once(lambda reader: reader.referring(types, code, targets))

    async def changes(self, after: int, count: int) -> Sequence[tuple[int, StoredVersion]]:
        return await self._at_once(lambda reader: reader.changes(after, count))

    async def parameters(self) -> ParameterSet:
        async with self._answers():
            return await self._parameters.current()

    async def memo(self, space: str, key: str) -> Memo | None:
        async with self._answers():
            return await self._alone().memo(space, key)

    async def memos(
        self, space: str, prefix: str = "", count: int = 100, after: str = ""
    ) -> Sequence[Memo]:
        return await self._at_once(lambda reader: reader.memos(space, prefix, count, after))

    async def audited(self, asked: AuditQuery, count: int) -> Sequence[AuditEntry]:
        async with self._answers():
            return await self._alone().audited(asked, count)

    async def audit_ends(self) -> tuple[Link, Link]:
        async with self._answers():
            return await self._alone().audit_ends()

    async def commit(self, work: Callable[[Unit], Awaitable[T]]) -> T:
        result: T = await self._committer.commit(work)
        return result

    async def secret(self, name: str) -> bytes:
        async with self._answers("write"):
            found = await ensure_setting(self._database, f"secret:{name}", value=os.urandom(32))
        return bytes(found["value"])

    def patient(self, patience: float) -> "MongoStore":
        """With connections of its own, which may be silent for longer.

        Not longer than a transaction lives: MongoDB would end the search without saying why.
        """
        patience = min(patience, self._longest)
        other = self._on(self._open(patience))
        other._patience = patience
        return other

    def lagging(self) -> Reader:
        """From a secondary, where the setting says so."""
        if not self._may_lag:
            return self
        if self._behind is None:
            database = self._open(self._patience, from_secondary=True)
            self._behind = LaggingReader(self._on(database), self)
        return self._behind

    def _on(self, database: Database) -> "MongoStore":
        other = copy.copy(self)
        other._database = database
        other._parameters = StoredParameters(database)
        other._behind = None
        self._further.append(database)
        return other

    async def ready(self) -> None:
        await self.read("Patient", "ready")

    async def close(self) -> None:
        try:
            async with self._answers("write"):
                await self._committer.close()
        finally:
            for database in (self._database, *self._further):
                database.close()

    def _unit(self, within: Transaction, batch: Batch) -> Unit:
        now = self._clock()
        patience = min(self._patience, PATIENCE_INSIDE)
        reader = TransactionReader(self._database, self._parameters, within, patience, now)
        return MongoUnit(reader, batch, now, patience)

    def _alone(self) -> TransactionReader:
        """For a question that one document answers."""
        return self._reader(None)

    async def _at_once(self, question: Callable[[TransactionReader], Awaitable[T]]) -> T:
        """The answer of one state of the database."""
        deadline = time.monotonic() + self._patience
        async with self._answers():
            for _ in range(_ATTEMPTS - 1):
                try:
                    return await self._in_snapshot(question)
                except PyMongoError as error:
                    if not passing(error) or out_of_time(error) or time.monotonic() > deadline:
                        raise
            return await self._in_snapshot(question)

    async def _in_snapshot(self, question: Callable[[TransactionReader], Awaitable[T]]) -> T:
        async with self._database.snapshot() as within:
            return await question(self._reader(within))

    def _reader(self, within: Transaction | None) -> TransactionReader:
        now = self._clock()
        return TransactionReader(self._database, self._parameters, within, self._patience, now)

    @asynccontextmanager
    async def _answers(self, what: str = "read") -> AsyncIterator[None]:
        try:
            yield
        except PyMongoError as error:
            if out_of_time(error):
                raise OutOfTime(self._patience) from None
            raise refused(error, what) from None


async def open_mongo(
    url: str,
    *,
    clock: Clock = system_clock,
    patience: float = 10.0,
    write_patience: float = 10.0,
    make: bool = True,
    may_lag: bool = False,
) -> MongoStore:
    """The store of a database, made where it is not there, brought up to date where it is.

    Args:
        url: `mongodb://…/name`, with what MongoDB's driver takes for TLS and authentication.
        clock: microseconds since the epoch.
        patience: seconds that a search may take.
        write_patience: seconds that a commit waits for others'.
        make: without it, a database that has no store is refused: its name may be mistyped.

        may_lag: plain answers may come from a secondary.

    Raises:
        RuntimeError: for a server alone, an old one, what a newer release has made, no store.
        FhirError: UNAVAILABLE when there is no answer.
        ValueError: for an address that is none.
    """
    name = database_name(url)

    def open_database(patience: float, *, from_secondary: bool = False) -> Database:
        within = patience + _ANSWER_BEYOND
        return Database(url, name, within, from_secondary=from_secondary)

    store = MongoStore(open_database, clock, patience, write_patience, may_lag=may_lag)
    try:
        await store.prepare(make=make)
    except BaseException:
        await store.close()
        raise
    return store
