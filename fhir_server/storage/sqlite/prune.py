"""Retention: older versions and audit rows taken out, in small commits beside live traffic.

Of each resource a run of its first versions goes, so that what is left has no gaps. The current
version always stays, also where it is a deletion; so does a deletion right before the first
version that stays, which tells that that one was a creation.
"""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fhir_server.storage.audited import AuditQuery
from fhir_server.storage.audited import pruned as pruned_up_to
from fhir_server.storage.clock import system_clock
from fhir_server.storage.interface import Memo
from fhir_server.storage.sqlite import audit
from fhir_server.storage.sqlite.connect import connect
from fhir_server.storage.sqlite.entries import remove_entries
from fhir_server.storage.sqlite.fulltext import FulltextWriter
from fhir_server.storage.sqlite.schema import require_current

_RESOURCES: Final = 256
"""Resources that are looked at in one commit, at the most."""
_AUDIT_ROWS: Final = 512
_LONGEST: Final = 0.05
"""Seconds that a commit may hold up the other writers."""
_PATIENCE_MS: Final = 30_000
_LATEST: Final = 2**62
_NEXT: Final = "SELECT rid, version FROM resource WHERE rid > ? ORDER BY rid LIMIT ?"
_TOTAL: Final = "SELECT count(*) FROM resource"
_DUE: Final = """
    SELECT v.version, length(v.body) FROM version v
    JOIN version n ON n.rid = v.rid AND n.version = v.version + 1
    WHERE v.rid = ? AND v.version <= ? AND n.updated < ? AND n.seq <= ?
    ORDER BY v.version DESC LIMIT 1
"""
"""The last version to go. The times and numbers of versions rise, so all before it go too."""
_MEMOS: Final = "SELECT key, value FROM memo WHERE space = ?"
_COUNT: Final = """
    SELECT count(*), coalesce(sum(length(body)), 0) FROM version WHERE rid = ? AND version <= ?
"""
_TAKE_OUT: Final = "DELETE FROM version WHERE rid = ? AND version <= ?"
_RID: Final = "SELECT rid FROM resource WHERE type = ? AND id = ?"
_GONE: Final = """
    INSERT INTO pruned SELECT 0, count(*) FROM version WHERE rid = ?
    ON CONFLICT (rid) DO UPDATE SET version = pruned.version + excluded.version
"""
"""Under a number that no resource has: theirs may become another's."""
_WHOLE: Final = (
    "DELETE FROM version WHERE rid = ?",
    "DELETE FROM resource WHERE rid = ?",
)
_ACCOUNT: Final = "INSERT OR REPLACE INTO pruned VALUES (?, ?)"
Progress = Callable[[int, int], None]
"""Resources gone through, of so many."""


@dataclass(frozen=True, slots=True)
class Retention:
    """What may go; times in microseconds since the epoch, None keeps everything.

    A version goes when its successor was made before `superseded_before`, it is not among the
    `newest` of its resource, and the number of the one that superseded it is not above
    `delivered`: that of the last version that everybody who follows the store's changes has had
    (None: nobody does). Whoever gets a version can so look at the one before it.
    """

    superseded_before: int | None = None
    newest: int = 1
    audit_before: int | None = None
    delivered: int | None = None


@dataclass(slots=True)
class Pruned:
    """What went, or would have gone."""

    versions: int = 0
    bytes: int = 0
    audit_rows: int = 0


def kept_in(path: Path, space: str) -> list[Memo]:
    """The memos of a space, of a store that nobody has to open for it.

    Raises:
        RuntimeError: for a store of another release.
    """
    with closing(connect(path, read_only=True)) as connection:
        require_current(connection)
        found = connection.execute(_MEMOS, (space,)).fetchall()
    return [Memo(space, key, bytes(value)) for key, value in found]


def prune(path: Path, retention: Retention, progress: Progress, *, dry: bool = False) -> Pruned:
    """Take out what may go; `dry`: only count it.

    What is taken out is overwritten with zeros in the file, not only forgotten.

    Raises:
        RuntimeError: for a file that this release has not made or brought up to date.
        sqlite3.Error: where it cannot be read or written; what was done is kept.
    """
    with closing(connect(path, read_only=dry, busy_timeout_ms=_PATIENCE_MS)) as connection:
        require_current(connection)
        connection.execute("PRAGMA secure_delete = ON")
        pruned = Pruned()
        if retention.superseded_before is not None:
            _Versions(connection, retention, pruned, dry=dry).run(progress)
        if retention.audit_before is not None:
            _prune_audit(connection, retention.audit_before, pruned, dry=dry)
        if not dry:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        return pruned


class _Versions:
    def __init__(
        self, connection: sqlite3.Connection, retention: Retention, pruned: Pruned, *, dry: bool
    ) -> None:
        self._connection = connection
        self._retention = retention
        self._pruned = pruned
        self._dry = dry

    def run(self, progress: Progress) -> None:
        (total,) = self._connection.execute(_TOTAL).fetchone()
        after, done = 0, 0
        while True:
            with _briefly(self._connection, dry=self._dry) as deadline:
                after, count = self._some(after, deadline)
            if not count:
                return
            done += count
            progress(done, max(total, done))

    def _some(self, after: int, deadline: float) -> tuple[int, int]:
        """The last row that was reached, and how many were gone through."""
        count = 0
        rows = self._connection.execute(_NEXT, (after, _RESOURCES)).fetchall()
        for rid, current in rows:
            self._one(rid, current)
            after, count = rid, count + 1
            if time.monotonic() > deadline:
                break
        return after, count

    def _one(self, rid: int, current: int) -> None:
        last = self._last_to_go(rid, current)
        found, size = self._connection.execute(_COUNT, (rid, last)).fetchone()
        if not found:
            return
        self._pruned.versions += found
        self._pruned.bytes += size
        if not self._dry:
            self._connection.execute(_TAKE_OUT, (rid, last))
            self._connection.execute(_ACCOUNT, (rid, last))

    def _last_to_go(self, rid: int, current: int) -> int:
        """The number of the last version that goes, 0 for none."""
        terms = self._retention
        most = current - max(terms.newest, 1)
        delivered = _LATEST if terms.delivered is None else terms.delivered
        asked = (rid, most, terms.superseded_before, delivered)
        found = self._connection.execute(_DUE, asked).fetchone()
        if found is None:
            return 0
        version, length = found
        return int(version) if length else int(version) - 1


def _prune_audit(connection: sqlite3.Connection, before: int, pruned: Pruned, *, dry: bool) -> None:
    """The newest stays; that others went, and up to which, is a row of the audit itself."""
    newest = audit.ends(connection)[1].number
    after = 0
    while True:
        with _briefly(connection, dry=dry):
            asked = AuditQuery(high=before, after=after, before=newest)
            due = audit.find(connection, asked, _AUDIT_ROWS)
            if due and not dry:
                _take_out_received(connection, audit.take_out(connection, due))
                audit.append(connection, system_clock(), [pruned_up_to(due[-1].link)])
        pruned.audit_rows += len(due)
        if not due:
            return
        after = due[-1].link.number


def _take_out_received(connection: sqlite3.Connection, names: list[tuple[str, str]]) -> None:
    """Resources with all that the index has of them, as if they had never been."""
    fulltext = FulltextWriter()
    for name in names:
        for (rid,) in connection.execute(_RID, name).fetchall():
            for gone in remove_entries(connection, rid):
                fulltext.remove(connection, gone)
            for statement in (_GONE, *_WHOLE):
                connection.execute(statement, (rid,))
    if names:
        fulltext.move(connection)  # what FTS5 has of them goes with them


@contextmanager
def _briefly(connection: sqlite3.Connection, *, dry: bool) -> Iterator[float]:
    """A short transaction, and then as long a pause: gives the time at which to end it."""
    connection.execute("BEGIN" if dry else "BEGIN IMMEDIATE")
    began = time.monotonic()
    try:
        yield began + _LONGEST
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    if not dry:
        time.sleep(time.monotonic() - began)
