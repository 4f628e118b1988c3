"""Which types of resources were changed, by whichever process.

Each write of a resource adds a version, with the number after the last; the version that is current
is never taken out, nor is therefore the newest of a type that has changed. So whoever knows the
last number that there was reads what has changed since from the versions after it, however often
the file was committed to for something else: the audit writes all the time.

What changes answers without a version, such as an index that is made anew, changes a setting, and
counts as a change of all types.
"""

import itertools
import sqlite3
from collections.abc import Collection, Iterator
from typing import Any, Final

from fhir_server.storage.sqlite.reindex import ACCOUNTS

_SINCE: Final = """
    SELECT v.seq, v.rid, v.version, v.updated, r.type
    FROM version v JOIN resource r ON r.rid = v.rid
    WHERE v.seq >= ? ORDER BY v.seq LIMIT ?
"""
_LAST: Final = "SELECT max(seq) FROM version"
_MOST: Final = 256
"""Versions that are gone through; after more, all types count as changed."""
_MENDED: Final = "index:mended"
_BESIDES: Final = "SELECT name, value FROM setting WHERE name IN (?, ?, ?, ?)"
_MEND: Final = """
    INSERT INTO setting VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET value = value + 1
"""


class Changed:
    """What one connection has seen of it.

    `look` is to come after each commit of whomever, before what is read then is relied upon.
    """

    _counts: Iterator[int] = itertools.count(1)
    """Of all connections, so that none tells what another has told: they may be to other files."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._last: tuple[Any, ...] | None = None
        """The newest version: its number and, as that may be given again, what else it is."""
        self._besides: list[Any] = []
        self._of_all = 0
        self._of_types: dict[str, int] = {}
        """The count at their last change."""

    def generation(self, types: Collection[str]) -> int:
        """Another number once anything of these types was changed."""
        found = self._of_types
        return max([self._of_all, *(found.get(one, 0) for one in types)])

    def look(self) -> None:
        """Count what has changed since the last look."""
        count = next(self._counts)
        types = self._since()
        besides = self._connection.execute(_BESIDES, (*ACCOUNTS, _MENDED)).fetchall()
        if types is None or besides != self._besides:
            self._besides = besides
            self._of_all = count
        else:
            self._of_types.update(dict.fromkeys(types, count))

    def _since(self) -> set[str] | None:
        """The types of what was written since; None where that cannot be told."""
        if self._last is not None:
            found = self._connection.execute(_SINCE, (self._last[0], _MOST)).fetchall()
            if found and found[0] == self._last and len(found) < _MOST:
                self._last = found[-1]
                return {one[4] for one in found[1:]}
        (number,) = self._connection.execute(_LAST).fetchone()
        self._last = self._connection.execute(_SINCE, (number, 1)).fetchone()
        return None


def mended(connection: sqlite3.Connection) -> None:
    """Tell that the index was mended; `connection` is in a write transaction."""
    connection.execute(_MEND, (_MENDED,))
