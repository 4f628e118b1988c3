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

_SEQ: Final = "(SELECT coalesce(max(seq), 0) + 1 FROM version)"
"""The number that SQLite gives to the next row of `version`: its row of `resource` says it before
that is there, so that neither has to be written twice."""
_NEW: Final = f"""
    INSERT INTO resource (type, id, version, seq, updated, deleted) VALUES (?, ?, 1, {_SEQ}, ?, ?)
"""
_NEXT: Final = f"""
    UPDATE resource
    SET version = version + 1, seq = {_SEQ}, updated = max(?, updated + 1), deleted = ?
    WHERE type = ? AND id = ? RETURNING rid, version, updated
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
        current = None if draft.is_new else self._read(draft.type, draft.id)
        if current is not None and unchanged(draft, current):
            return current
        key = (draft.type, draft.id)
        rid, version, updated = self._next(key, is_new=current is None, deleted=0)
        body = draft.template.render(version, instant(updated))
        stored = StoredVersion(*key, version, updated, method, body)
        self._append(rid, stored)
        values = [*draft.values, *self._parameters().values(draft.resource)]
        write = self._entries.rewrite if version > 1 else self._entries.write
        write(self._connection, rid, draft.type, values)
        self._known.written(stored, values)
        return stored

    async def delete(self, resource_type: str, resource_id: str) -> StoredVersion:
        key = (resource_type, resource_id)
        rid, version, updated = self._next(key, is_new=False, deleted=1)
        self._entries.remove(self._connection, rid)
        stored = StoredVersion(*key, version, updated, "DELETE", b"")
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

    def _next(self, key: tuple[str, str], *, is_new: bool, deleted: int) -> tuple[int, int, int]:
        """Its row, which points to its next version by now; the number of that, and its time,
        which is later than the last. `deleted` is 0 or 1: for a bool, Python's module would look
        for a way to tell it to SQLite."""
        if not is_new:
            row = self._connection.execute(_NEXT, (self._now, deleted, *key)).fetchone()
            if row is not None:
                rid, version, updated = row
                return rid, version, updated
        row_id = self._connection.execute(_NEW, (*key, self._now, deleted)).lastrowid
        return int(row_id or 0), 1, self._now

    def _append(self, rid: int, stored: StoredVersion) -> None:
        told = (rid, stored.version, stored.last_updated, stored.method, stored.body)
        self._connection.execute(_VERSION, told)
