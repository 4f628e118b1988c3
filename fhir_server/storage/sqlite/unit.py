"""One commit under way on the writer's connection."""

import sqlite3
from collections.abc import Collection, Sequence
from typing import Final

from fhir_server.fhir.dates import instant
from fhir_server.search.ast import Search
from fhir_server.search.parameters import ParameterSet
from fhir_server.storage.audited import AuditRow
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
from fhir_server.storage.sqlite import audit, memos
from fhir_server.storage.sqlite.entries import EntryWriter
from fhir_server.storage.sqlite.known import UNKNOWN, Known
from fhir_server.storage.sqlite.parameters import save
from fhir_server.storage.sqlite.reader import ConnectionReader
from fhir_server.storage.sqlite.reindex import step

_CURRENT: Final = "SELECT rid, version, updated FROM resource WHERE type = ? AND id = ?"
_NEW: Final = """
    INSERT INTO resource (type, id, version, seq, updated, deleted) VALUES (?, ?, 0, 0, 0, 1)
"""
_POINT: Final = """
    UPDATE resource SET version = ?, seq = ?, updated = ?, deleted = ? WHERE rid = ?
"""
_VERSION: Final = """
    INSERT INTO version (rid, version, updated, method, body) VALUES (?, ?, ?, ?, ?)
"""


class SqliteUnit:
    """The `Unit` of the SQLite backend. Its methods never wait: the writer is theirs."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        reader: ConnectionReader,
        entries: EntryWriter,
        tail: audit.Tail,
        known: Known,
        now: int,
    ) -> None:
        self._connection = connection
        self._reader = reader
        self._entries = entries
        self._tail = tail
        self._known = known
        self._now = now

    async def read(self, resource_type: str, resource_id: str) -> StoredVersion | None:
        return self._read(resource_type, resource_id)

    def _read(self, resource_type: str, resource_id: str) -> StoredVersion | None:
        """Once: nobody else writes meanwhile, and access, rules and store each ask for it."""
        found = self._known.current(resource_type, resource_id)
        if found == UNKNOWN:
            found = self._reader.read(resource_type, resource_id)
            self._known.keep(resource_type, resource_id, found)
        return found

    async def vread(
        self, resource_type: str, resource_id: str, version: int
    ) -> StoredVersion | None:
        return self._reader.vread(resource_type, resource_id, version)

    async def history(
        self, scope: HistoryOf, count: int, before: int | None = None
    ) -> Sequence[HistoryEntry]:
        return self._reader.history(scope, count, before)

    async def search(
        self,
        query: Search,
        count: int,
        after: Position | None = None,
        until: Position | None = None,
    ) -> Page:
        if after is not None or until is not None:
            return self._reader.search(query, count, after, until)
        page = self._known.page(query, count)
        if page is None:
            page = self._reader.search(query, count, None)
            self._known.keep_page(query, count, page)
        return page

    async def total(self, query: Search) -> int:
        return self._reader.total(query)

    async def referring(
        self, types: Collection[str], code: str, targets: Sequence[str]
    ) -> frozenset[str]:
        return self._reader.referring(types, code, targets)

    async def parameters(self) -> ParameterSet:
        return self._parameters()

    async def define(self, parameters: ParameterSet) -> None:
        save(self._connection, parameters)
        self._known.forget()

    async def reindex(self, count: int) -> Progress:
        self._known.forget()
        return step(self._connection, self._entries, self._parameters(), count)

    async def memo(self, space: str, key: str) -> Memo | None:
        return memos.one(self._connection, space, key, self._now)

    async def memos(
        self, space: str, prefix: str = "", count: int = 100, after: str = ""
    ) -> Sequence[Memo]:
        return memos.several(self._connection, space, prefix, count, after, self._now)

    async def keep(self, memo: Memo) -> None:
        memos.keep(self._connection, memo, self._now)

    async def forget(self, space: str, prefix: str) -> None:
        memos.forget(self._connection, space, prefix)

    async def put(self, draft: Draft, method: str) -> StoredVersion:
        current = self._read(draft.type, draft.id)
        if current is not None and unchanged(draft, current):
            return current
        rid, version, updated = self._next(draft.type, draft.id, is_new=current is None)
        body = draft.template.render(version, instant(updated))
        stored = StoredVersion(draft.type, draft.id, version, updated, method, body)
        self._append(rid, stored)
        values = [*draft.values, *self._parameters().values(draft.resource)]
        write = self._entries.rewrite if version > 1 else self._entries.write
        write(self._connection, rid, draft.type, values)
        self._known.written(stored, values)
        return stored

    async def delete(self, resource_type: str, resource_id: str) -> StoredVersion:
        rid, version, updated = self._next(resource_type, resource_id)
        self._entries.remove(self._connection, rid)
        stored = StoredVersion(resource_type, resource_id, version, updated, "DELETE", b"")
        self._append(rid, stored)
        self._known.written(stored, ())
        return stored

    async def audit(self, *rows: AuditRow) -> None:
        self._tail.add(self._now, rows)

    def _parameters(self) -> ParameterSet:
        """Read once: no commit of another connection comes in between."""
        if self._known.parameters is None:
            self._known.parameters = self._reader.parameters()
        return self._known.parameters

    def _next(
        self, resource_type: str, resource_id: str, *, is_new: bool = False
    ) -> tuple[int, int, int]:
        """Its row, the number of its next version, and a time later than the last."""
        key = (resource_type, resource_id)
        row = None if is_new else self._connection.execute(_CURRENT, key).fetchone()
        if row is None:
            return int(self._connection.execute(_NEW, key).lastrowid or 0), 1, self._now
        rid, version, updated = row
        return rid, version + 1, max(self._now, updated + 1)

    def _append(self, rid: int, stored: StoredVersion) -> None:
        cursor = self._connection.execute(
            _VERSION, (rid, stored.version, stored.last_updated, stored.method, stored.body)
        )
        self._connection.execute(
            _POINT,
            (stored.version, cursor.lastrowid, stored.last_updated, int(stored.deleted), rid),
        )
