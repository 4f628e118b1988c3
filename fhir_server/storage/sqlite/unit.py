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
_MOST_KEPT: Final = 256
"""Current versions that a commit remembers."""


class SqliteUnit:
    """The `Unit` of the SQLite backend. Its methods never wait: the writer is theirs."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        reader: ConnectionReader,
        entries: EntryWriter,
        tail: audit.Tail,
        now: int,
    ) -> None:
        self._connection = connection
        self._reader = reader
        self._entries = entries
        self._tail = tail
        self._now = now
        self._known: ParameterSet | None = None
        self._current: dict[tuple[str, str], StoredVersion | None] = {}

    async def read(self, resource_type: str, resource_id: str) -> StoredVersion | None:
        return self._read(resource_type, resource_id)

    def _read(self, resource_type: str, resource_id: str) -> StoredVersion | None:
        """Once: nobody else writes meanwhile, and access, rules and store each ask for it."""
        key = (resource_type, resource_id)
        if key not in self._current:
            self._keep(key, self._reader.read(resource_type, resource_id))
        return self._current[key]

    def _keep(self, key: tuple[str, str], found: StoredVersion | None) -> None:
        if len(self._current) >= _MOST_KEPT:
            self._current.clear()
        self._current[key] = found

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
        return self._reader.search(query, count, after, until)

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
        self._known = parameters

    async def reindex(self, count: int) -> Progress:
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
        return stored

    async def delete(self, resource_type: str, resource_id: str) -> StoredVersion:
        rid, version, updated = self._next(resource_type, resource_id)
        self._entries.remove(self._connection, rid)
        stored = StoredVersion(resource_type, resource_id, version, updated, "DELETE", b"")
        self._append(rid, stored)
        return stored

    async def audit(self, *rows: AuditRow) -> None:
        self._tail.add(self._now, rows)

    def _parameters(self) -> ParameterSet:
        """Read once a commit: no other one comes in between."""
        if self._known is None:
            self._known = self._reader.parameters()
        return self._known

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
        self._keep((stored.type, stored.id), stored)
        cursor = self._connection.execute(
            _VERSION, (rid, stored.version, stored.last_updated, stored.method, stored.body)
        )
        self._connection.execute(
            _POINT,
            (stored.version, cursor.lastrowid, stored.last_updated, int(stored.deleted), rid),
        )
