"""A file gone through: is all there, readable and indexed as it should be; what can be is mended.

It goes on beside live traffic: every some resources are looked at in one snapshot of their own, so
that no snapshot keeps SQLite from emptying its log for long. What is mended is looked at again in
the transaction that mends it, and each has a small one of its own.
"""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final

from fhir_server.storage.checked import Report
from fhir_server.storage.sqlite import whole, words
from fhir_server.storage.sqlite.changed import mended
from fhir_server.storage.sqlite.connect import connect, secret_of
from fhir_server.storage.sqlite.entries import EntryWriter, ParameterNumbers, keyed_hash
from fhir_server.storage.sqlite.findings import RESTORE, Fault
from fhir_server.storage.sqlite.indexed import Expected, content, difference
from fhir_server.storage.sqlite.parameters import StoredParameters
from fhir_server.storage.sqlite.reindex import index_anew, index_values
from fhir_server.storage.sqlite.schema import require_current
from fhir_server.storage.sqlite.versions import (
    Row,
    VersionRow,
    body_problems,
    first_kept,
    point_anew,
    pointer_problems,
    row_of,
    versions_of,
)

_BATCH: Final = 200
"""Resources that are looked at in one snapshot."""
_MOST: Final = 10_000
"""Faults of the file as a whole that one run tells and mends."""
_NEXT: Final = "SELECT rid FROM resource WHERE rid > ? AND rid <= ? ORDER BY rid LIMIT ?"
_LAST: Final = "SELECT count(*), coalesce(max(rid), 0) FROM resource"
_SECRET: Final = "SELECT count(*) FROM setting WHERE name = 'secret:index'"  # noqa: S105
_INDEX: Final = "index"

_PRIMARY: Final = 0xFF
"""Of an extended result code (https://www.sqlite.org/rescode.html)."""
_CANNOT_WRITE: Final = (
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_READONLY,
)

Told = Callable[[Fault, bool], None]
"""A fault, and whether it was mended."""
Progress = Callable[[int, int], None]
"""Resources looked at, of so many."""
_Look = Callable[[sqlite3.Connection], Iterator[Fault]]


def check(path: Path, *, repair: bool, told: Told, progress: Progress) -> Report:
    """Go through the file; `repair`: and mend what can be rebuilt.

    Raises:
        RuntimeError: for a file that this release has not made or brought up to date.
        sqlite3.Error: where it cannot be read, or written to mend it.
    """
    with closing(connect(path, read_only=True)) as reader:
        require_current(reader)
        if not repair:
            return _Check(reader, None, told, progress).run()
        with closing(connect(path, busy_timeout_ms=30_000)) as writer:
            return _Check(reader, writer, told, progress).run()


class _Check:
    """One run; without a writer nothing is mended."""

    def __init__(
        self,
        reader: sqlite3.Connection,
        writer: sqlite3.Connection | None,
        told: Told,
        progress: Progress,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._told = told
        self._progress = progress
        self._report = Report()
        self._parameters = StoredParameters()

    def run(self) -> Report:
        hashed = keyed_hash(self._secret())
        self._entries = EntryWriter(hashed, ParameterNumbers())
        with closing(Expected(hashed)) as self._expected:
            self._whole()
            self._resources()
        return self._report

    def _secret(self) -> bytes:
        """Of the hashes in the index; without it, every entry is wrong."""
        (there,) = self._reader.execute(_SECRET).fetchone()
        if there:
            return secret_of(self._reader, _INDEX)
        fault = Fault("setting", "the secret of the index is missing: every entry is made anew")
        self._tell(fault, mended=self._writer is not None)
        return os.urandom(32) if self._writer is None else secret_of(self._writer, _INDEX)

    def _whole(self) -> None:
        model = self._expected.connection
        looks: list[_Look] = [
            whole.of_pages,
            lambda connection: whole.of_tables(connection, model),
            whole.of_numbers,
            lambda connection: whole.of_strays(connection, self._entries),
            words.of_words,
        ]
        for look in looks:
            faults = self._looked(look)
            mended = self._mended(look, faults)
            for fault in faults:
                self._tell(fault, mended=fault.text in mended)

    def _looked(self, look: _Look) -> list[Fault]:
        with _snapshot(self._reader):
            return _readable(look, self._reader)

    def _mended(self, look: _Look, faults: list[Fault]) -> set[str]:
        """The texts of those that are not there any more once they were mended."""
        if self._writer is None or not any(fault.cure for fault in faults):
            return set()
        for fault in faults:
            if fault.cure is not None:
                with _tolerant(), _transaction(self._writer):
                    fault.cure(self._writer)
        return {one.text for one in faults} - {one.text for one in self._looked(look)}

    def _resources(self) -> None:
        total, last = self._reader.execute(_LAST).fetchone()
        after = 0
        while rids := self._batch(after, last):
            after = rids[-1]
            self._report.resources += len(rids)
            self._progress(self._report.resources, total)

    def _batch(self, after: int, last: int) -> list[int]:
        with _snapshot(self._reader):
            rids = [rid for (rid,) in self._reader.execute(_NEXT, (after, last, _BATCH))]
            faulty = {rid: faults for rid in rids if (faults := self._look(self._reader, rid))}
        for rid, faults in faulty.items():
            left = self._mend(rid)
            for fault in faults:
                self._tell(fault, mended=left is not None and fault.text not in left)
        return rids

    def _mend(self, rid: int) -> set[str] | None:
        """What is left; looked at first, for it may be another version by now."""
        if self._writer is None:
            return None
        began = time.monotonic()
        counted = self._report.versions, self._report.entries
        left: set[str] | None = None
        with _tolerant():
            with _transaction(self._writer):
                for fault in self._look(self._writer, rid):
                    if fault.cure is not None:
                        fault.cure(self._writer)
                remaining = {fault.text for fault in self._look(self._writer, rid)}
            left = remaining  # not before it is on disk
        self._report.versions, self._report.entries = counted
        # As long as it held up the servers, they have for themselves.
        time.sleep(time.monotonic() - began)
        return left

    def _look(self, connection: sqlite3.Connection, rid: int) -> list[Fault]:
        row = row_of(connection, rid)
        if row is None:
            return []
        return _readable(lambda one: self._faults(one, row), connection, row.name)

    def _faults(self, connection: sqlite3.Connection, row: Row) -> Iterator[Fault]:
        found = versions_of(connection, row, first_kept(connection, row.rid))
        self._report.versions += found.count
        for text in found.problems:
            yield Fault(row.name, text)
        if found.last is None:
            return
        for text in pointer_problems(row, found.last):
            yield Fault(row.name, text, partial(point_anew, rid=row.rid))
        if not [*body_problems(row.type, row.id, found.last)]:
            anew = partial(self._index_anew, row=row, body=found.last.body)
            for text in self._index_problems(connection, row, found.last):
                yield Fault(row.name, text, anew)

    def _index_problems(
        self, connection: sqlite3.Connection, row: Row, last: VersionRow
    ) -> Iterator[str]:
        known = self._parameters.current(connection)
        values = index_values(known, last.body) if last.body else []
        values = [pair for pair in values if known.is_searchable(pair[0])]
        expected = self._expected.content(row.type, values, known.is_searchable)
        found = content(connection, row.rid, known.is_searchable)
        self._report.entries += found.total()
        yield from difference(expected, found)

    def _index_anew(self, connection: sqlite3.Connection, row: Row, body: bytes) -> None:
        known = self._parameters.current(connection)
        index_anew(connection, self._entries, known, (row.rid, row.type, body))

    def _tell(self, fault: Fault, *, mended: bool) -> None:
        self._report.found += 1
        self._report.mended += mended
        self._told(fault, mended)


def _readable(look: _Look, connection: sqlite3.Connection, where: str = "the file") -> list[Fault]:
    """What it finds, as far as the pages of the file can be read."""
    found: list[Fault] = []
    try:
        found.extend(islice(look(connection), _MOST))
    except sqlite3.DatabaseError as error:
        found.append(Fault(where, f"it cannot be read: {error}; {RESTORE}"))
    return found


@contextmanager
def _tolerant() -> Iterator[None]:
    """What cannot be mended stays a fault; a store that cannot be written at all is an error."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & _PRIMARY in _CANNOT_WRITE:
            raise


@contextmanager
def _snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        mended(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
