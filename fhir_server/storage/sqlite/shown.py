"""Versions that pages showed lately, as objects that are shown again.

A version never changes, and the row of its resource says which one it is: so what is found by
that row's number is what SQLite would read, if it is of the same resource and moment. A number is
given again only after its version was taken out, and then with another moment.
"""

from collections.abc import Sequence
from typing import Any, Final

from fhir_server.storage.interface import StoredVersion

MOST: Final = 4 * 1024 * 1024
"""Bytes that are kept of them; with more, all are let go."""
_LARGE: Final = 16 * 1024
"""Bytes of one that is not kept: few of those would leave no room for others."""
_AROUND: Final = 400
"""Bytes that one takes besides its body, or so."""


class Shown:
    """Of one connection."""

    def __init__(self, most: int = MOST) -> None:
        self._most: Final = most
        self._size = 0
        self._versions: dict[int, StoredVersion] = {}

    def of(self, row: Sequence[Any]) -> StoredVersion | None:
        """What a row of `FOUND` stands for; None where it has to be read."""
        known = self._versions.get(row[0])
        if known is None or known[3] != row[4] or known[1] != row[3] or known[0] != row[2]:
            return None
        return known

    def keep(self, number: int, version: StoredVersion) -> None:
        size = len(version.body)
        if size > _LARGE:
            return
        if self._size > self._most:
            self._versions.clear()
            self._size = 0
        self._size += size + _AROUND
        self._versions[number] = version
