"""What a connection that never writes has read, for as long as nobody has committed since.

`PRAGMA data_version` is another number after each commit of any other connection, of whatever
process (https://www.sqlite.org/pragma.html#pragma_data_version). To ask for it costs less than
half of what it takes to find a row.
"""

import sqlite3
from collections.abc import Callable
from typing import Final

from fhir_server.search.parameters import ParameterSet
from fhir_server.storage.interface import Memo
from fhir_server.storage.sqlite import memos
from fhir_server.storage.sqlite.parameters import StoredParameters

_MOST: Final = 2000
"""Answers that are remembered."""
_LARGE: Final = 4096
"""Bytes of a memo that is read anew each time."""
_VERSION: Final = "PRAGMA data_version"


class Unchanged:
    """Answers that hold until the next commit; of memos, until one of them expires."""

    def __init__(self, connection: sqlite3.Connection, parameters: StoredParameters) -> None:
        self._connection = connection
        self._cursor = connection.cursor()
        self._stored = parameters
        self._version = -1
        self._parameters: ParameterSet | None = None
        self._memos: dict[tuple[object, ...], tuple[int, int, tuple[Memo, ...]]] = {}
        """With the span of time, `[low, high)`, in which each is as it was read."""

    def parameters(self) -> ParameterSet:
        self._look()
        if self._parameters is None:
            self._parameters = self._stored.current(self._connection)
        return self._parameters

    def memo(self, space: str, key: str, now: int) -> Memo | None:
        found = self._found((space, key), now, lambda: self._one(space, key, now))
        return found[0] if found else None

    def memos(self, space: str, prefix: str, count: int, after: str, now: int) -> tuple[Memo, ...]:
        def read() -> tuple[Memo, ...]:
            return tuple(memos.several(self._connection, space, prefix, count, after, now))

        return self._found((space, prefix, count, after), now, read)

    def _one(self, space: str, key: str, now: int) -> tuple[Memo, ...]:
        found = memos.one(self._connection, space, key, now)
        return () if found is None else (found,)

    def _found(
        self, key: tuple[object, ...], now: int, read: Callable[[], tuple[Memo, ...]]
    ) -> tuple[Memo, ...]:
        self._look()
        known = self._memos.get(key)
        if known is not None and known[0] <= now < known[1]:
            return known[2]
        found = read()
        if sum(len(memo.value) for memo in found) <= _LARGE:
            ends = [memo.expires for memo in found if memo.expires]
            self._memos[key] = (now, min(ends, default=memos.NEVER), found)
        return found

    def _look(self) -> None:
        """Before anything is read: what is committed in between makes the next look forget it."""
        (version,) = self._cursor.execute(_VERSION).fetchone()
        if version != self._version or len(self._memos) > _MOST:
            self._version, self._parameters = version, None
            self._memos.clear()
