"""Reads of the store for whoever cannot wait: on the loop, or not at all.

What decides about a resource hangs on one memo, which says whether anything has changed. It is
read in the same question as the resource, of the same state of the file: to ask for it by itself
takes nearly as long as to find the resource.
"""

from typing import Final

from fhir_server.errors import FhirError, Kind
from fhir_server.storage.interface import Memo, StoredVersion
from fhir_server.storage.sqlite import memos
from fhir_server.storage.sqlite.opened import Opened
from fhir_server.storage.sqlite.store import SqliteStore


class AtOnce(SqliteStore):
    """The same store. Resources by id and a few memos are read; all else is UNAVAILABLE.

    Args:
        watches: whether `memos.WATCHED` is asked for after each read of a resource.
    """

    def __init__(self, store: SqliteStore, *, watches: bool = False) -> None:
        self._path, self._terms = store._path, store._terms
        self._place, self._pool, self._brief = store._place, store._pool, 0
        self._watches: Final = watches
        self._is_fresh = False
        """Whether `beside` has not been asked for since."""
        self.beside: bytes | None = None
        """What that memo held then; None where it was not asked for, or is not there."""

    async def read(self, resource_type: str, resource_id: str) -> StoredVersion | None:
        if not self._watches:
            return await super().read(resource_type, resource_id)
        self._is_fresh, self.beside = False, None
        opened = self._place.at_hand() or await self._current()
        found, self.beside = opened.read_beside(resource_type, resource_id)
        self._is_fresh = found is not None
        return found

    async def memo(self, space: str, key: str) -> Memo | None:
        """Once after each read, as that found it; any further time as it is by then."""
        if self._is_fresh and (space, key) == memos.WATCHED:
            self._is_fresh, value = False, self.beside
            return None if value is None else Memo(space, key, value)
        return await super().memo(space, key)

    async def _current(self) -> Opened:
        raise FhirError(Kind.UNAVAILABLE, "The store would have to be waited for")
