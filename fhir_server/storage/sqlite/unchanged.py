"""What a connection that never writes has read, for as long as nobody has committed since.

`PRAGMA data_version` is another number after each commit of any other connection, of whatever
process (https://www.sqlite.org/pragma.html#pragma_data_version). To ask for it costs less than
half of what it takes to find a row.
"""

import sqlite3
from collections.abc import Collection
from typing import Final

from fhir_server.search.parameters import ParameterSet
from fhir_server.storage.interface import Memo
from fhir_server.storage.sqlite import memos
from fhir_server.storage.sqlite.changed import Changed
from fhir_server.storage.sqlite.parameters import StoredParameters

_MOST: Final = 2000
"""Answers that are remembered."""
_LARGE: Final = 4096
"""Bytes of a memo that is read anew each time."""
_VERSION: Final = "PRAGMA data_version"
_Answer = tuple[int, int, tuple[Memo, ...]]
"""The span of time, `[low, high)`, in which the memos are as they were read, and the memos."""


class Unchanged:
    """Answers that hold until the next commit; of memos, until one of them expires."""

    def __init__(self, connection: sqlite3.Connection, parameters: StoredParameters) -> None:
        self._connection = connection
        self._cursor = connection.cursor()
        self._stored = parameters
        self._version = -1
        self._epoch = object()
        self._changed = Changed(connection)
        self._counted: object = None
        """The epoch in which it was last looked at."""
        self._parameters: ParameterSet | None = None
        self._memos: dict[tuple[object, ...], _Answer] = {}

    def epoch(self) -> object:
        """Another object once anybody has committed."""
        self._look()
        return self._epoch

    @property
    def seen(self) -> object:
        """The epoch at the last look."""
        return self._epoch

    def generation(self, types: Collection[str]) -> int:
        """Another number once anybody has changed a resource of these types."""
        self._look()
        if self._counted is not self._epoch:
            self._counted = self._epoch
            self._changed.look()
        return self._changed.generation(types)

    def parameters(self) -> ParameterSet:
        self._look()
        if self._parameters is None:
            self._parameters = self._stored.current(self._connection)
        return self._parameters

    def memo(self, space: str, key: str, now: int) -> Memo | None:
        self._look()
        known = self._memos.get((space, key))
        if known is None or not known[0] <= now < known[1]:
            known = self._keep((space, key), now, self._one(space, key, now))
        return known[2][0] if known[2] else None

    def memos(self, space: str, prefix: str, count: int, after: str, now: int) -> tuple[Memo, ...]:
        self._look()
        known = self._memos.get((space, prefix, count, after))
        if known is None or not known[0] <= now < known[1]:
            found = tuple(memos.several(self._connection, space, prefix, count, after, now))
            known = self._keep((space, prefix, count, after), now, found)
        return known[2]

    def _one(self, space: str, key: str, now: int) -> tuple[Memo, ...]:
        found = memos.one(self._connection, space, key, now)
        return () if found is None else (found,)

    def _keep(self, key: tuple[object, ...], now: int, found: tuple[Memo, ...]) -> _Answer:
        ends = [memo.expires for memo in found if memo.expires]
        answer = (now, min(ends, default=memos.NEVER), found)
        if sum(len(memo.value) for memo in found) <= _LARGE:
            self._memos[key] = answer
        return answer

    def _look(self) -> None:
        """Before anything is read: what is committed in between makes the next look forget it."""
        (version,) = self._cursor.execute(_VERSION).fetchone()
        if version != self._version or len(self._memos) > _MOST:
            self._version, self._parameters = version, None
            self._epoch = object()
            self._memos.clear()
