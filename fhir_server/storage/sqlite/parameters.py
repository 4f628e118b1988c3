"""The account of the added search parameters, as the file keeps it.

A row with a number that counts its changes lies beside it: that is what each commit and each
search looks at, and only where it moved is the account read again.
"""

import sqlite3
from typing import Final

import msgspec

from fhir_server.search.parameters import BUILT_IN, Account, ParameterSet

_GENERATION: Final = "parameters:generation"
_ACCOUNT: Final = "parameters"
_SETTING: Final = "SELECT value FROM setting WHERE name = ?"
_SET: Final = "INSERT OR REPLACE INTO setting VALUES (?, ?)"


class StoredParameters:
    """What one connection knows of them; it may be in a transaction."""

    def __init__(self) -> None:
        self._generation = 0
        self._known = BUILT_IN

    def current(self, connection: sqlite3.Connection) -> ParameterSet:
        row = connection.execute(_SETTING, (_GENERATION,)).fetchone()
        generation = 0 if row is None else row[0]
        if generation != self._generation:
            # A later generation's account is as good; the next look reads it once more.
            self._known, self._generation = _account(connection), generation
        return self._known

    def forget(self) -> None:
        self._generation, self._known = 0, BUILT_IN


def save(connection: sqlite3.Connection, known: ParameterSet) -> None:
    """Keep the account; `connection` is in a write transaction."""
    row = connection.execute(_SETTING, (_GENERATION,)).fetchone()
    connection.execute(_SET, (_GENERATION, 1 if row is None else row[0] + 1))
    connection.execute(_SET, (_ACCOUNT, msgspec.json.encode(known.account)))


def _account(connection: sqlite3.Connection) -> ParameterSet:
    row = connection.execute(_SETTING, (_ACCOUNT,)).fetchone()
    return BUILT_IN if row is None else ParameterSet(msgspec.json.decode(row[0], type=Account))
