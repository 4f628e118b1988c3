"""One commit under way: reads see what the transaction and the batch hold."""

from collections.abc import Awaitable, Collection, Sequence
from typing import TypeVar

from pymongo.errors import PyMongoError

from fhir_server.fhir.dates import instant
from fhir_server.search.ast import Search
from fhir_server.search.parameters import ParameterSet
from fhir_server.storage.audited import AuditEntry, AuditRow, pruned
from fhir_server.storage.interface import (
    Draft,
    HistoryEntry,
    HistoryOf,
    Memo,
    Page,
    Position,
    Progress,
    StoredVersion,
    unchanged,
)
from fhir_server.storage.mongo import audit
from fhir_server.storage.mongo.batch import Batch
from fhir_server.storage.mongo.documents import entries, name_of, version_of
from fhir_server.storage.mongo.driver import Document
from fhir_server.storage.mongo.faults import out_of_time, refused
from fhir_server.storage.mongo.reader import TransactionReader
from fhir_server.storage.mongo.reindex import step
from fhir_server.storage.patience import OutOfTime

T = TypeVar("T")


class MongoUnit:
    """The `Unit` of the MongoDB backend."""

    def __init__(self, reader: TransactionReader, batch: Batch, now: int, patience: float) -> None:
        self._reader = reader
        self._batch = batch
        self._now = now
        self._patience = patience

    async def read(self, resource_type: str, resource_id: str) -> StoredVersion | None:
        found = await self._current(resource_type, resource_id)
        return None if found is None else version_of(found)

    async def vread(
        self, resource_type: str, resource_id: str, version: int
    ) -> StoredVersion | None:
        new = self._batch.version(f"{name_of(resource_type, resource_id)}/{version}")
        if new is not None:
            return version_of(new)
        return await self._asked(self._reader.vread(resource_type, resource_id, version))

    async def history(
        self, scope: HistoryOf, count: int, before: int | None = None
    ) -> Sequence[HistoryEntry]:
        await self._asked(self._batch.write_out())
        return await self._asked(self._reader.history(scope, count, before))

    async def search(
        self,
        query: Search,
        count: int,
        after: Position | None = None,
        until: Position | None = None,
    ) -> Page:
        await self._asked(self._batch.write_out())
        return await self._asked(self._reader.search(query, count, after, until))

    async def total(self, query: Search) -> int:
        await self._asked(self._batch.write_out())
        return await self._asked(self._reader.total(query))

    async def referring(
        self, types: Collection[str], code: str, targets: Sequence[str]
    ) -> frozenset[str]:
        await self._asked(self._batch.write_out())
        return await self._asked(self._reader.referring(types, code, targets))

    async def parameters(self) -> ParameterSet:
        return await self._asked(self._batch.parameters())

    async def define(self, parameters: ParameterSet) -> None:
        self._batch.define(parameters)

    async def reindex(self, count: int) -> Progress:
        await self._asked(self._batch.write_out())
        known = await self.parameters()
        return await self._asked(step(self._reader, self._batch, known, count))

    async def memo(self, space: str, key: str) -> Memo | None:
        kept = self._batch.memo(space, key)
        if kept is not None:
            return kept if not kept.expires or kept.expires > self._now else None
        if self._batch.forgets:
            await self._asked(self._batch.write_out())
        return await self._asked(self._reader.memo(space, key))

    async def memos(
        self, space: str, prefix: str = "", count: int = 100, after: str = ""
    ) -> Sequence[Memo]:
        await self._asked(self._batch.write_out())
        return await self._asked(self._reader.memos(space, prefix, count, after))

    async def put(self, draft: Draft, method: str) -> StoredVersion:
        before = await self._current(draft.type, draft.id)
        if before is not None:
            current = version_of(before)
            if unchanged(draft, current):
                return current
        version, updated = self._next(before)
        body = draft.template.render(version, instant(updated))
        stored = StoredVersion(draft.type, draft.id, version, updated, method, body)
        known = await self.parameters()
        values = [*draft.values, *known.values(draft.resource)]
        self._batch.append(stored, before, entries(values))
        return stored

    async def delete(self, resource_type: str, resource_id: str) -> StoredVersion:
        before = await self._current(resource_type, resource_id)
        version, updated = self._next(before)
        stored = StoredVersion(resource_type, resource_id, version, updated, "DELETE", b"")
        self._batch.append(stored, before, {})
        return stored

    async def keep(self, memo: Memo) -> None:
        self._batch.keep(memo)

    async def forget(self, space: str, prefix: str) -> None:
        self._batch.forget(space, prefix)

    async def audit(self, *rows: AuditRow) -> None:
        self._batch.audit(rows, self._now)

    async def take_out(self, first: Sequence[AuditEntry]) -> None:
        """Of the audit, the first rows that there are, and the row that tells it."""
        for collection, operations in audit.taken_out(first):
            await self._asked(self._batch.write_through(collection, operations))
        await self.audit(pruned(first[-1].link))

    async def _current(self, resource_type: str, resource_id: str) -> Document | None:
        name = name_of(resource_type, resource_id)
        is_known, known = self._batch.known(name)
        if is_known:
            return known
        found = await self._asked(self._reader.current(resource_type, resource_id))
        self._batch.learn(name, found)
        return found

    def _next(self, before: Document | None) -> tuple[int, int]:
        """The number of the next version, and a time later than the last."""
        if before is None:
            return 1, self._now
        return before["version"] + 1, max(self._now, before["updated"] + 1)

    async def _asked(self, answer: Awaitable[T]) -> T:
        """A fault ends the transaction, whatever the work makes of it."""
        try:
            return await answer
        except PyMongoError as error:
            self._batch.fault = self._batch.fault or error
            if out_of_time(error):
                raise OutOfTime(self._patience) from None
            raise refused(error, "write") from None
