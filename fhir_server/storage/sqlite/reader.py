"""Reads on one SQLite connection: the store's own, and those inside a commit."""

import itertools
import json
import sqlite3
import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from fhir_server.errors import FhirError, Kind
from fhir_server.search.ast import KeptQuery, Queries, Query, Search
from fhir_server.search.geography import metres
from fhir_server.search.parameters import ParameterSet, is_added
from fhir_server.storage.audited import AuditEntry, AuditQuery, Link
from fhir_server.storage.interface import (
    HistoryEntry,
    HistoryOf,
    Memo,
    Page,
    Position,
    StoredVersion,
)
from fhir_server.storage.patience import OutOfTime
from fhir_server.storage.sqlite import audit, memos
from fhir_server.storage.sqlite.compile import FOUND, Compiler, SeveralCompiler, Sql
from fhir_server.storage.sqlite.entries import Hash, ParameterNumbers
from fhir_server.storage.sqlite.history import history
from fhir_server.storage.sqlite.parameters import StoredParameters
from fhir_server.storage.sqlite.shapes import Shapes
from fhir_server.storage.sqlite.sql import Lists
from fhir_server.storage.sqlite.unchanged import Unchanged

_READ: Final = """
    SELECT v.version, v.updated, v.method, v.body
    FROM resource r JOIN version v ON v.seq = r.seq WHERE r.type = ? AND r.id = ?
"""
_READ_BESIDE: Final = f"""
    SELECT ({memos.WATCHED_VALUE}), v.version, v.updated, v.method, v.body
    FROM resource r JOIN version v ON v.seq = r.seq WHERE r.type = ? AND r.id = ?
"""
_VREAD: Final = """
    SELECT r.type, r.id, v.version, v.updated, v.method, v.body
    FROM resource r JOIN version v ON v.rid = r.rid
    WHERE r.type = ? AND r.id = ? AND v.version = ?
"""
_BODIES: Final = """
    SELECT seq, version, updated, method, body FROM version
    WHERE seq IN (SELECT value FROM json_each(?))
"""
_BODY: Final = "SELECT version, updated, method, body FROM version WHERE seq = ?"
_CHANGES: Final = """
    SELECT v.seq, r.type, r.id, v.version, v.updated, v.method, v.body
    FROM version v JOIN resource r ON r.rid = v.rid
    WHERE v.seq > ? ORDER BY v.seq LIMIT ?
"""
_LIMITS: Final = ("stack overflow", "too large", "too many")
"""What SQLite says of statements that are too much for it."""
FEW: Final = 100
"""Memos that are read on the loop: to hand them to a thread costs more."""
_PROGRESS_STEPS: Final = 20_000
"""Virtual machine instructions between two looks at the clock."""
_BRIEF_STEPS: Final = 10_000
"""Virtual machine instructions of a search that is brief, a quarter of a millisecond or so; it is
ended before it has had twice as many."""


_MOST_KEPT: Final = 500
"""Statements that are kept."""


class NotBrief(Exception):
    """What was asked takes more than a moment."""


class _Kept(NamedTuple):
    """A statement, and what it was made of."""

    query: KeptQuery
    most: int
    sql: Sql
    lists: tuple[frozenset[str], ...]


class ConnectionReader:
    """Blocking reads; every method may be called while the connection is in a transaction.

    Args:
        writes: whether the connection does; then it remembers no memos, which it may have changed.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        hashed: Hash,
        numbers: ParameterNumbers,
        patience: float,
        *,
        writes: bool = False,
    ) -> None:
        self._connection = connection
        self._hashed = hashed
        self._numbers = numbers
        self._patience = patience
        self._stored_parameters = StoredParameters()
        self._unchanged = None if writes else Unchanged(connection, self._stored_parameters)
        self._lists = Lists()
        self._kept: dict[int, _Kept] = {}
        self._unmet = False
        """Whether the last statement asks for a parameter that had no number."""
        self._shapes = Shapes(hashed, numbers)
        connection.create_function("is_listed", 2, self._lists.has, deterministic=True)
        connection.create_function("keyed_hash", 1, hashed, deterministic=True)
        connection.create_function("metres", 4, metres, deterministic=True)

    def read(self, resource_type: str, resource_id: str) -> StoredVersion | None:
        row = self._connection.execute(_READ, (resource_type, resource_id)).fetchone()
        return None if row is None else StoredVersion(resource_type, resource_id, *row)

    def read_beside(
        self, resource_type: str, resource_id: str
    ) -> tuple[StoredVersion | None, bytes | None]:
        """A resource, and what the memo that is watched holds at that very moment.

        None for a resource that is not there, and then for the memo too.
        """
        row = self._connection.execute(_READ_BESIDE, (resource_type, resource_id)).fetchone()
        if row is None:
            return None, None
        told, *version = row
        return StoredVersion(resource_type, resource_id, *version), told

    def vread(self, resource_type: str, resource_id: str, version: int) -> StoredVersion | None:
        row = self._connection.execute(_VREAD, (resource_type, resource_id, version)).fetchone()
        return None if row is None else StoredVersion(*row)

    def history(
        self, scope: HistoryOf, count: int, before: int | None, *, briefly: bool = False
    ) -> list[HistoryEntry]:
        rows = self._rows(history(scope, count, before), briefly)
        return [HistoryEntry(StoredVersion(*row[:6]), row[6], bool(row[7])) for row in rows]

    def search(
        self,
        query: Search,
        count: int,
        after: Position | None,
        until: Position | None = None,
        *,
        briefly: bool = False,
    ) -> Page:
        """
        Raises:
            NotBrief: where it is asked `briefly`, and takes longer.
        """
        added: set[str] = set()
        sql = None
        if after is None and until is None and isinstance(query, KeptQuery):
            sql = self._again(query, count, added)
        elif after is None and until is None and isinstance(query, Query):
            sql = self._shapes.page(query, count, self._compiled)
        if sql is None:
            sql = self._compiler(query, added).page(count, after, until)
        rows = self._rows(sql, briefly)
        self._require_searchable(added)
        shown = rows[:count]
        return Page(
            matches=self._versions(shown),
            after=(*shown[-1][len(FOUND) :], shown[-1][1]) if len(rows) > count > 0 else None,
        )

    def _again(self, query: KeptQuery, count: int, added: set[str]) -> Sql:
        """The statement of a first page, as it was made before where nothing in it may change.

        That a parameter was never met, or was added at run time, may: both are asked for anew.
        """
        kept = self._kept.get(id(query))
        if kept is not None and kept.query is query and kept.most == count:
            self._lists.put_back(kept.lists)
            return kept.sql
        self._unmet = False
        sql = self._compiler(query, added).page(count, None)
        if not added and not self._unmet:
            if len(self._kept) >= _MOST_KEPT:
                self._kept.clear()
            self._kept[id(query)] = _Kept(query, count, sql, self._lists.taken())
        return sql

    def total(self, query: Search, *, briefly: bool = False) -> int:
        added: set[str] = set()
        (row,) = self._rows(self._compiler(query, added).total(), briefly)
        self._require_searchable(added)
        return int(row[0])

    def parameters(self) -> ParameterSet:
        if self._unchanged is not None:
            return self._unchanged.parameters()
        return self._stored_parameters.current(self._connection)

    def forget(self) -> None:
        """After a rollback, which may have taken back what is remembered here."""
        self._numbers.forget()
        self._stored_parameters.forget()

    def _require_searchable(self, indexes: Collection[str]) -> None:
        """Looked at after the search: what can be searched then could be all the time.

        Raises:
            FhirError: UNAVAILABLE where a parameter went while it was searched by.
        """
        if indexes and not all(map(self.parameters().is_searchable, indexes)):
            raise FhirError(
                Kind.UNAVAILABLE,
                "A search parameter changed while it was searched by; ask again",
            )

    def changes(self, after: int, count: int) -> list[tuple[int, StoredVersion]]:
        rows = self._connection.execute(_CHANGES, (after, count))
        return [(row[0], StoredVersion(*row[1:])) for row in rows]

    def memo(self, space: str, key: str, now: int) -> Memo | None:
        if self._unchanged is not None:
            return self._unchanged.memo(space, key, now)
        return memos.one(self._connection, space, key, now)

    def memos(self, space: str, prefix: str, count: int, after: str, now: int) -> list[Memo]:
        if self._unchanged is not None and count <= FEW:
            return [*self._unchanged.memos(space, prefix, count, after, now)]
        return memos.several(self._connection, space, prefix, count, after, now)

    def audited(self, asked: AuditQuery, count: int) -> list[AuditEntry]:
        return audit.find(self._connection, asked, count)

    def audit_ends(self) -> tuple[Link, Link]:
        return audit.ends(self._connection)

    def _versions(self, found: Sequence[Any]) -> list[StoredVersion]:
        """What the rows of a page stand for, in their order."""
        if not found:
            return []
        if len(found) == 1:
            one = found[0]
            row = self._connection.execute(_BODY, (one[0],)).fetchone()
            return [StoredVersion(one[2], one[3], *row)]
        rows = self._connection.execute(_BODIES, (json.dumps([row[0] for row in found]),))
        told = {row[0]: row[1:] for row in rows}
        return [StoredVersion(row[2], row[3], *told[row[0]]) for row in found]

    def _compiled(self, query: Query) -> tuple[Sql, bool]:
        """The SQL of its first page, and whether it says all: no parameter that may come or go."""
        added: set[str] = set()
        numbers: list[int] = []
        compiler = self._compiler(query, added, numbers)
        sql = compiler.page(0, None)
        return sql, not added and all(numbers) and not self._lists

    def _compiler(
        self, query: Search, added: set[str], numbers: list[int] | None = None
    ) -> Compiler | SeveralCompiler:
        """`added` is told what the query asks of parameters that were added at run time."""

        def number(resource_type: str, code: str) -> int:
            if is_added(code):
                added.add(code)
            found = self._numbers.known(self._connection, resource_type, code)
            self._unmet |= not found
            if numbers is not None:
                numbers.append(found)
            return found

        self._lists.clear()
        if isinstance(query, Queries):
            return SeveralCompiler(query, self._hashed, number, self._lists)
        return Compiler(query, self._hashed, number, self._lists)

    def _rows(self, sql: Sql, briefly: bool) -> list[Any]:
        """Its rows, unless that takes too long."""
        if briefly:
            # What a statement that is known again took before counts for the first look (VM_STEP
            # of https://www.sqlite.org/c3ref/c_stmtstatus_counter.html): only the second ends it.
            return self._until(sql, itertools.count().__next__, _BRIEF_STEPS, NotBrief)
        deadline = time.monotonic() + self._patience
        late = partial(OutOfTime, self._patience)
        return self._until(sql, lambda: time.monotonic() > deadline, _PROGRESS_STEPS, late)

    def _until(
        self, sql: Sql, is_over: Callable[[], int], steps: int, ended: Callable[[], Exception]
    ) -> list[Any]:
        """Its rows; each so many steps it is looked whether the time is over."""
        self._connection.set_progress_handler(is_over, steps)
        try:
            return self._connection.execute(sql.text, sql.arguments).fetchall()
        except sqlite3.OperationalError as error:
            if any(limit in str(error) for limit in _LIMITS):
                raise _too_deep() from None
            if "interrupted" not in str(error):
                raise
            raise ended() from None
        finally:
            self._connection.set_progress_handler(None, 0)

    def interrupt(self) -> None:
        """End the search that another thread has under way."""
        self._connection.interrupt()

    def close(self) -> None:
        self._connection.close()


def _too_deep() -> FhirError:
    return FhirError(
        Kind.TOO_COSTLY,
        "The criteria lie deeper within each other than the store can follow; name the types in "
        "chains, as in subject:Patient.name, or ask in several searches",
    )
