"""The audit's rows in the file, and the two ends of their chain.

Where the chain has come to is kept apart from its rows, so that rows cut off its end are missed;
where it begins is the last row that retention took out.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

from fhir_server.storage.audited import (
    AuditEntry,
    AuditQuery,
    AuditRow,
    Link,
    encode,
    hash_of,
    names_of,
    number_of,
    received_of,
)

_INSERT: Final = "INSERT INTO audit (number, at, told, hash) VALUES (?, ?, ?, ?)"
_NAME: Final = "INSERT INTO audit_name (name, number) VALUES (?, ?)"
_UNNAME: Final = "DELETE FROM audit_name WHERE name = ? AND number = ?"
_DELETE: Final = "DELETE FROM audit WHERE number = ?"
_END: Final = "SELECT value FROM setting WHERE name = ?"
_SET_END: Final = "INSERT OR REPLACE INTO setting (name, value) VALUES (?, ?)"
_HEAD: Final = "audit:head"
_BEGIN: Final = "audit:begin"
_AT: Final = "SELECT number, at FROM audit WHERE number >= ? ORDER BY number LIMIT 1"
_LATEST: Final = 2**62
_ROW: Final = "a.number, CAST(a.at AS INTEGER), CAST(a.hash AS BLOB), CAST(a.told AS BLOB)"
"""Of these types, whatever somebody has put there."""
_FIND: Final = f"""
    SELECT {_ROW} FROM audit a
    WHERE a.number >= ? AND a.number < ? ORDER BY a.number {{order}} LIMIT ?
"""
_FIND_NAMED: Final = f"""
    SELECT {_ROW} FROM audit_name n JOIN audit a ON a.number = n.number
    WHERE n.name = ? AND n.number >= ? AND n.number < ? ORDER BY n.number {{order}} LIMIT ?
"""
_BEFORE: Final = """
    SELECT at, caller, action, request_id, targets FROM audit_before ORDER BY number
"""


class _Told(NamedTuple):
    """A row as it is written: its text, and the numbers that it is found by."""

    at: int
    text: bytes
    names: set[int]


class Tail:
    """Rows of the commits of one group, which are put at the end of the chain together.

    That is before the group is committed, so each is on disk with what it tells of, or not at all.
    """

    def __init__(self) -> None:
        self._rows: list[_Told] = []

    def add(self, at: int, rows: Iterable[AuditRow]) -> None:
        """Encoded at once: what cannot be is its own commit's failure."""
        self._rows += [_told(at, row) for row in rows]

    def __len__(self) -> int:
        return len(self._rows)

    def cut(self, length: int = 0) -> None:
        """Take back all but so many."""
        del self._rows[length:]

    def write(self, connection: sqlite3.Connection) -> None:
        if self._rows:
            _append(connection, self._rows)
            self.cut()


def append(connection: sqlite3.Connection, at: int, rows: Sequence[AuditRow]) -> None:
    """The rows at the end of the chain."""
    _append(connection, [_told(at, row) for row in rows])


def _told(at: int, row: AuditRow) -> _Told:
    return _Told(at, encode(row), {*map(number_of, names_of(row))})


def _append(connection: sqlite3.Connection, rows: Iterable[_Told]) -> None:
    """Each with the time of its commit, or that of the row before it."""
    head = end(connection, _HEAD)
    number, at, digest = head.number, head.at, head.hash
    entries: list[tuple[Any, ...]] = []
    names: list[tuple[int, int]] = []
    for row in rows:
        number, at = number + 1, max(at, row.at)
        digest = hash_of(digest, number, at, row.text)
        entries.append((number, at, row.text, digest))
        names += [(name, number) for name in row.names]
    connection.executemany(_INSERT, entries)
    connection.executemany(_NAME, names)
    _set_end(connection, _HEAD, Link(number, at, digest))


def ends(connection: sqlite3.Connection) -> tuple[Link, Link]:
    """The row before the first, and the last."""
    return end(connection, _BEGIN), end(connection, _HEAD)


def take_out(connection: sqlite3.Connection, first: Sequence[AuditEntry]) -> list[tuple[str, str]]:
    """The first rows that there are; where they ended is kept, so that the others stay a chain.

    Returns:
        Types and ids of the AuditEvents that they tell were received, which are to go as well.
    """
    received: list[tuple[str, str]] = []
    for entry in first:
        number = entry.link.number
        with suppress(ValueError):
            row = entry.row
            connection.executemany(_UNNAME, [(number_of(one), number) for one in names_of(row)])
            received += received_of(row)
        connection.execute(_DELETE, (number,))
    _set_end(connection, _BEGIN, first[-1].link)
    return received


def end(connection: sqlite3.Connection, name: str) -> Link:
    found = connection.execute(_END, (name,)).fetchone()
    if found is None:
        return Link()
    value: bytes = found[0]
    number, at = int.from_bytes(value[:8], "big"), int.from_bytes(value[8:16], "big", signed=True)
    return Link(number, at, value[16:])


def _set_end(connection: sqlite3.Connection, name: str, link: Link) -> None:
    value = link.number.to_bytes(8, "big") + link.at.to_bytes(8, "big", signed=True) + link.hash
    connection.execute(_SET_END, (name, value))


def find(connection: sqlite3.Connection, asked: AuditQuery, count: int) -> list[AuditEntry]:
    """At most so many of the rows that are asked for, by number."""
    low, high = _range(connection, asked)
    order = "DESC" if asked.backwards else "ASC"
    if asked.name:
        sql = _FIND_NAMED.format(order=order)
        rows = connection.execute(sql, (number_of(asked.name), low, high, count))
    else:
        rows = connection.execute(_FIND.format(order=order), (low, high, count))
    return [AuditEntry(Link(*row[:3]), row[3]) for row in rows]


def _range(connection: sqlite3.Connection, asked: AuditQuery) -> tuple[int, int]:
    """The numbers that it is about: times rise with them."""
    low, high = asked.after + 1, _LATEST if asked.before is None else asked.before
    if asked.low is not None:
        low = max(low, _from(connection, asked.low))
    if asked.high is not None:
        high = min(high, _from(connection, asked.high))
    return low, high


def _from(connection: sqlite3.Connection, moment: int) -> int:
    """The number of the first row that was not made before.

    Halving what is left: an index by time would cost every row, for what is seldom asked.
    """
    begin, head = ends(connection)
    low, high = begin.number + 1, head.number + 1
    while low < high:
        middle = (low + high) // 2
        found = connection.execute(_AT, (middle,)).fetchone()
        if found is None or found[1] >= moment:
            high = middle
        else:
            low = found[0] + 1
    return low


def take_over(connection: sqlite3.Connection) -> None:
    """The rows of a file from before there was a chain, in their order."""
    for at, caller, action, request_id, targets in connection.execute(_BEFORE).fetchall():
        row = AuditRow(caller, action, request_id, tuple(targets.split()))
        append(connection, at, [row])
    connection.execute("DROP TABLE audit_before")
