"""The memos of a store: small things that the server keeps for itself, by space and key."""

import sqlite3
from typing import Final

from fhir_server.storage.interface import Memo

_ALIVE: Final = "(expires = 0 OR expires > ?)"
_ONE: Final = (
    f"SELECT space, key, value, expires FROM memo WHERE space = ? AND key = ? AND {_ALIVE}"
)
WATCHED: Final = ("access-state", "state")
"""Space and key of the memo that is read with each resource; it never expires."""
WATCHED_VALUE: Final = """
    SELECT value FROM memo INDEXED BY memo_watched
    WHERE space = 'access-state' AND key = 'state' AND expires = 0
"""
_SEVERAL: Final = f"""
    SELECT space, key, value, expires FROM memo
    WHERE space = ? AND key >= ? AND key < ? AND key > ? AND {_ALIVE} ORDER BY key LIMIT ?
"""
_KEEP: Final = "INSERT OR REPLACE INTO memo (space, key, value, expires) VALUES (?, ?, ?, ?)"
_FORGET: Final = "DELETE FROM memo WHERE space = ? AND key >= ? AND key < ?"
NEVER: Final = 2**63
"""After every moment."""
_LAST: Final = "\U0010ffff"
"""Sorts after every other character."""
_SWEEP: Final = """
    DELETE FROM memo WHERE rowid IN (
        SELECT rowid FROM memo WHERE expires > 0 AND expires <= ? LIMIT 8
    )
"""
"""More than one for each that is kept and will expire: none is long in the file."""


def one(connection: sqlite3.Connection, space: str, key: str, now: int) -> Memo | None:
    row = connection.execute(_ONE, (space, key, now)).fetchone()
    return None if row is None else Memo(*row)


def several(
    connection: sqlite3.Connection, space: str, prefix: str, count: int, after: str, now: int
) -> list[Memo]:
    asked = (space, prefix, prefix + _LAST, after, now, count)
    return [Memo(*row) for row in connection.execute(_SEVERAL, asked)]


def keep(connection: sqlite3.Connection, memo: Memo, now: int) -> None:
    if memo.expires:
        connection.execute(_SWEEP, (now,))
    connection.execute(_KEEP, (memo.space, memo.key, memo.value, memo.expires))


def forget(connection: sqlite3.Connection, space: str, prefix: str) -> None:
    connection.execute(_FORGET, (space, prefix, prefix + _LAST))
