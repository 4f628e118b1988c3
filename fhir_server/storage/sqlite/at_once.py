"""Reads of the store for whoever cannot wait: on the loop, or not at all.

What decides about a resource hangs on one memo, which says whether anything has changed. It is
read in the same question as the resource, of the same state of the file: to ask for it by itself
takes nearly as long as to find the resource.
"""

from typing import Final

from fhir_server.errors import FhirError, Kind
from fhir_server.storage.interface import Memo, StoredVersion
from fhir_server.storage.sqlite.opened import Opened
from fhir_server.storage.sqlite.store import SqliteStore


class AtOnce(SqliteStore):
    """The same store. Resources by id and a few memos are read; all else is UNAVAILABLE.

    Args:
        watched: space and key of the memo that is asked for after each read of a resource.
    """

    def __init__(self, store: SqliteStore, watched: tuple[str, str] | None = None) -> None:
        self._path, self._terms = store._path, store._terms
        self._place, self._pool, self._brief = store._place, store._pool, 0
        self._watched: Final = watched
        self._last: Memo | None = None
        self._is_fresh = False
        """Whether `last` is as it was with the resource that was read last."""

    async def read(self, resource_type: str, resource_id: str) -> StoredVersion | None:
        if self._watched is None:
            return await super().read(resource_type, resource_id)
        self._is_fresh = False
        opened = self._place.at_hand() or await self._current()
        now = self._terms.clock()
        found, value = opened.read_beside((resource_type, resource_id), self._watched, now)
        if found is not None:
            self._keep(value)
        return found

    def _keep(self, value: bytes | None) -> None:
        if value is None or self._watched is None:
            self._last = None
        elif self._last is None or self._last.value != value:
            self._last = Memo(*self._watched, value)
        self._is_fresh = True

    async def memo(self, space: str, key: str) -> Memo | None:
        """Once after each read, as that found it; any further time as it is by then."""
        if self._is_fresh and (space, key) == self._watched:
            self._is_fresh = False
            return self._last
        return await super().memo(space, key)

    async def _current(self) -> Opened:
        raise FhirError(Kind.UNAVAILABLE, "The store would have to be waited for")
