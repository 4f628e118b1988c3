"""The audit's rows in the file, and the two ends of their chain.

Where the chain has come to is kept apart from its rows, so that rows cut off its end are missed;
where it begins is the last row that retention took out.
"""

import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from fhir_server.storage.audited import (
    AuditEntry,
    AuditQuery,
    AuditRow,
    Link,
    encode,
    names_of,
    number_of,
)

_INSERT: Final = "INSERT INTO audit (number, at, told, hash) VALUES (?, ?, ?, ?)"
_NAME: Final = "INSERT INTO audit_name (name, number) VALUES (?, ?)"
_UNNAME: Final = "DELETE FROM audit_name WHERE name = ? AND number = ?"
_DELETE: Final = "DELETE FROM audit WHERE number = ?"
_END: Final = "SELECT value FROM setting WHERE name = ?"
_SET_END: Final = "INSERT OR REPLACE INTO setting (name, value) VALUES (?, ?)"
_HEAD: Final = "audit:head"
_BEGIN: Final = "audit:begin"
_FROM: Final = "SELECT number FROM audit WHERE at >= ? ORDER BY at, number LIMIT 1"
_LATEST: Final = 2**62
_FIND: Final = """
    SELECT number, at, hash, told FROM audit
    WHERE number >= ? AND number < ? ORDER BY number {order} LIMIT ?
"""
_FIND_NAMED: Final = """
    SELECT a.number, a.at, a.hash, a.told FROM audit_name n JOIN audit a ON a.number = n.number
    WHERE n.name = ? AND n.number >= ? AND n.number < ? ORDER BY n.number {order} LIMIT ?
"""
_BEFORE: Final = """
    SELECT at, caller, action, request_id, targets FROM audit_before ORDER BY number
"""


def append(connection: sqlite3.Connection, at: int, rows: Sequence[AuditRow]) -> None:
    """The rows at the end of the chain."""
    link = end(connection, _HEAD)
    entries: list[tuple[Any, ...]] = []
    names: list[tuple[int, int]] = []
    for row in rows:
        told = encode(row)
        link = link.next(at, told)
        entries.append((link.number, link.at, told, link.hash))
        names += {(number_of(name), link.number) for name in names_of(row)}
    connection.executemany(_INSERT, entries)
    connection.executemany(_NAME, names)
    _set_end(connection, _HEAD, link)


def ends(connection: sqlite3.Connection) -> tuple[Link, Link]:
    """The row before the first, and the last."""
    return end(connection, _BEGIN), end(connection, _HEAD)


def take_out(connection: sqlite3.Connection, first: Sequence[AuditEntry]) -> None:
    """The first rows that there are; where they ended is kept, so that the others stay a chain."""
    for entry in first:
        number = entry.link.number
        with suppress(ValueError):
            names = names_of(entry.row)
            connection.executemany(_UNNAME, [(number_of(name), number) for name in names])
        connection.execute(_DELETE, (number,))
    _set_end(connection, _BEGIN, first[-1].link)


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
    """The number of the first row that was not made before."""
    found = connection.execute(_FROM, (moment,)).fetchone()
    return _LATEST if found is None else int(found[0])


def take_over(connection: sqlite3.Connection) -> None:
    """The rows of a file from before there was a chain, in their order."""
    for at, caller, action, request_id, targets in connection.execute(_BEFORE).fetchall():
        row = AuditRow(caller, action, request_id, tuple(targets.split()))
        append(connection, at, [row])
    connection.execute("DROP TABLE audit_before")
