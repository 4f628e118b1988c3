"""Reads on one SQLite connection: the store's own, and those inside a commit."""

import itertools
import sqlite3
import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from fhir_server.errors import FhirError, Kind
from fhir_server.search.ast import KeptQuery, Node, Query, Search
from fhir_server.search.geography import metres
from fhir_server.search.parameters import ParameterSet
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
from fhir_server.storage.sqlite.compile import FOUND, Sql
from fhir_server.storage.sqlite.entries import Hash, ParameterNumbers
from fhir_server.storage.sqlite.history import history
from fhir_server.storage.sqlite.parameters import StoredParameters
from fhir_server.storage.sqlite.questions import Asked, Questions
from fhir_server.storage.sqlite.shown import Shown
from fhir_server.storage.sqlite.sql import Lists, among
from fhir_server.storage.sqlite.unchanged import Unchanged
from fhir_server.storage.sqlite.within import UNTOLD, Rows, Within, most_of, rows_of

_READ: Final = """
    SELECT v.version, v.updated, v.method, v.body
    FROM resource r JOIN version v ON v.seq = r.seq WHERE r.type = ? AND r.id = ?
"""
_READ_BESIDE: Final = f"""
    SELECT ({memos.WATCHED_VALUE}), r.id, v.version, v.updated, v.method, v.body
    FROM resource r JOIN version v ON v.seq = r.seq WHERE r.type = ? AND r.id <= ?
    ORDER BY r.id DESC LIMIT 1
"""
"""The resource, else the one before it: what is not there takes the time of what is hidden."""
_VREAD: Final = """
    SELECT r.type, r.id, v.version, v.updated, v.method, v.body
    FROM resource r JOIN version v ON v.rid = r.rid
    WHERE r.type = ? AND r.id = ? AND v.version = ?
"""
_BODIES: Final = """
    SELECT seq, version, updated, method, body FROM version
"""
_TOLD: Final = 25
"""Versions that are asked for one by one: the text of each number of them is a statement."""
_BODY: Final = "SELECT version, updated, method, body FROM version WHERE seq = ?"
_REFERRING: Final = """
    SELECT p.type FROM parameter p WHERE p.code = ? AND {of_types} AND EXISTS
        (SELECT 1 FROM entry e WHERE e.parameter = p.number AND {to_targets})
"""
"""EXISTS, as one who has very many of a type is found with the first of them."""
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
    asked: Asked
    lists: tuple[frozenset[str], ...]


class ConnectionReader:
    """Blocking reads; every method may be called while the connection is in a transaction.

    Args:
        writes: whether the connection does; then it remembers no memos, which it may have changed.
        shown: remembers versions of pages; for the connection that is asked for most, which then
            keeps what searches are put within as well.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        hashed: Hash,
        numbers: ParameterNumbers,
        patience: float,
        *,
        writes: bool = False,
        shown: Shown | None = None,
    ) -> None:
        self._connection = connection
        self._shown = shown
        self._patience = patience
        self._stored_parameters = StoredParameters()
        self._unchanged = None if writes else Unchanged(connection, self._stored_parameters)
        self._within = Within(self._unchanged) if self._unchanged and shown else None
        self._hashed = hashed
        self._numbers = numbers
        self._lists = Lists()
        self._unmet = False
        """Whether a parameter was asked for that has no number."""
        self._questions = Questions(hashed, self._number, self._lists)
        self._kept: dict[int, _Kept] = {}
        self._age = numbers.age
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

        None for a resource that is not there; for the memo too, if none of the type is before it.
        """
        row = self._connection.execute(_READ_BESIDE, (resource_type, resource_id)).fetchone()
        if row is None:
            return None, None
        told, found, *version = row
        if found != resource_id:
            return None, told
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
        if self._within is not None and after is None and until is None:
            page = self._page_among(self._within, query, count)
            if page is not None:
                return page
        asked = self._asked(query, count + 1, after, until)
        rows = [] if asked.sql is None else self._rows(asked.sql, briefly)
        self._require_searchable(asked.added)
        shown = rows[:count]
        return Page(
            matches=self._versions(shown),
            after=(*shown[-1][len(FOUND) :], shown[-1][1]) if len(rows) > count > 0 else None,
            epoch=self.epoch(),
        )

    def _page_among(self, kept: Within, query: Search, count: int) -> Page | None:
        """A first page of rows that are known to be within what is asked; None where they do not
        tell it, or anybody has committed meanwhile.

        Raises:
            NotBrief.
        """
        narrowed = query.narrowed if isinstance(query, Query) else None
        if narrowed is None or not isinstance(query, Query) or narrowed.where is not query.where:
            return None
        known = self._rows_within(kept, query.resource_type, narrowed.within)
        if known is None or not known.may_tell(narrowed.asked, query.sort):
            return None
        epoch = kept.epoch
        asked = self._questions.among(known.told, query, narrowed.asked, count + 1)
        if asked is None:
            return None
        rows = [] if asked.sql is None else self._rows(asked.sql, briefly=True)
        if self.epoch() is not epoch or not (known.complete or len(rows) > count):
            return None
        self._require_searchable(asked.added)
        shown = rows[:count]
        return Page(
            matches=self._versions([known.found[row[0]] for row in shown]),
            after=(*shown[-1][1:], shown[-1][0]) if len(rows) > count > 0 else None,
            epoch=epoch,
        )

    def _rows_within(self, kept: Within, resource_type: str, within: Node) -> Rows | None:
        """The rows of what satisfies it at this moment, where it was asked for so often."""
        rows = kept.find(resource_type, within)
        if rows is None and kept.is_due(within):
            rows = kept.keep(within, self._found_within(Query(resource_type, within)))
        return rows

    def _found_within(self, query: Query) -> Rows:
        number = most_of(query.where)
        asked = self._questions.page(query, number + 1, None, None)
        if asked.added:
            return UNTOLD
        try:
            return rows_of([] if asked.sql is None else self._rows(asked.sql, briefly=True), number)
        except NotBrief:
            return UNTOLD

    def _asked(
        self, query: Search, most: int, after: Position | None, until: Position | None
    ) -> Asked:
        if after is None and until is None and isinstance(query, KeptQuery):
            return self._again(query, most)
        return self._questions.page(query, most, after, until)

    def _again(self, query: KeptQuery, most: int) -> Asked:
        """The statement of a first page, as it was made before where nothing in it may change.

        That a parameter was never met, or was added at run time, may: both are asked for anew. So
        may all numbers after a rollback, whosever it was.
        """
        if self._age != self._numbers.age:
            self._age = self._numbers.age
            self._kept.clear()
        kept = self._kept.get(id(query))
        if kept is not None and kept.query is query and kept.most == most:
            self._lists.put_back(kept.lists)
            return kept.asked
        self._unmet = False
        self._lists.clear()
        asked = self._questions.page(query, most, None, None)
        if not asked.added and not self._unmet and self._age == self._numbers.age:
            if len(self._kept) >= _MOST_KEPT:
                self._kept.clear()
            self._kept[id(query)] = _Kept(query, most, asked, self._lists.taken())
        return asked

    def total(self, query: Search, *, briefly: bool = False) -> int:
        asked = self._questions.total(query)
        rows = [(0,)] if asked.sql is None else self._rows(asked.sql, briefly)
        self._require_searchable(asked.added)
        return int(rows[0][0])

    def referring(
        self, types: Collection[str], code: str, targets: Sequence[str]
    ) -> frozenset[str]:
        """See `Reader.referring`."""
        of_types = among("p.type", [*types])
        to_targets = among("e.low", [self._hashed(target) for target in targets])
        sql = _REFERRING.format(of_types=of_types.text, to_targets=to_targets.text)
        asked = (code, *of_types.arguments, *to_targets.arguments)
        return frozenset(name for (name,) in self._connection.execute(sql, asked))

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

    def epoch(self) -> object | None:
        """Another object once anybody has committed; None where that is not looked at."""
        return None if self._unchanged is None else self._unchanged.epoch()

    def generation(self, types: Collection[str]) -> int | None:
        """Another number once a resource of the types was changed; None as of `epoch`."""
        return None if self._unchanged is None else self._unchanged.generation(types)

    def audited(self, asked: AuditQuery, count: int) -> list[AuditEntry]:
        return audit.find(self._connection, asked, count)

    def audit_ends(self) -> tuple[Link, Link]:
        return audit.ends(self._connection)

    def _versions(self, found: Sequence[Any]) -> list[StoredVersion]:
        """What the rows of a page stand for, in their order."""
        shown = self._shown
        if shown is None:
            told = self._read_versions(found)
            return [told[row[0]] for row in found]
        known = [shown.of(row) for row in found]
        told = self._read_versions([row for row, one in zip(found, known, strict=True) if not one])
        for number, version in told.items():
            shown.keep(number, version)
        return [one or told[row[0]] for row, one in zip(found, known, strict=True)]

    def _read_versions(self, found: Sequence[Any]) -> dict[int, StoredVersion]:
        """By the numbers of their rows."""
        if not found:
            return {}
        if len(found) == 1:
            one = found[0]
            row = self._connection.execute(_BODY, (one[0],)).fetchone()
            return {one[0]: StoredVersion(one[2], one[3], *row)}
        numbers = among("seq", [row[0] for row in found], _TOLD)
        rows = self._connection.execute(f"{_BODIES} WHERE {numbers.text}", numbers.arguments)
        told = {row[0]: row[1:] for row in rows}
        return {row[0]: StoredVersion(row[2], row[3], *told[row[0]]) for row in found}

    def _number(self, resource_type: str, code: str) -> int:
        found = self._numbers.known(self._connection, resource_type, code)
        self._unmet |= not found
        return found

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
