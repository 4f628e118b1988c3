"""Reads of the store for whoever cannot wait: on the loop, or not at all.

What decides about a resource hangs on one memo, which says whether anything has changed. It is
read in the same question as the resource, of the same state of the file: to ask for it by itself
takes nearly as long as to find the resource.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final, TypeVar

from fhir_server.errors import FhirError, Kind
from fhir_server.search.ast import Search
from fhir_server.search.reach import types_of
from fhir_server.storage.interface import (
    HistoryEntry,
    HistoryOf,
    Memo,
    Page,
    Position,
    StoredVersion,
)
from fhir_server.storage.sqlite import memos
from fhir_server.storage.sqlite.opened import Opened
from fhir_server.storage.sqlite.reader import ConnectionReader, NotBrief
from fhir_server.storage.sqlite.store import SqliteStore

T = TypeVar("T")


class AtOnce(SqliteStore):
    """The same store. Resources by id, a few memos and what a brief search finds are read; all else
    is UNAVAILABLE.

    Args:
        watches: whether `memos.WATCHED` is asked for after each read of a resource.
    """

    def __init__(self, store: SqliteStore, *, watches: bool = False) -> None:
        self._path, self._terms = store._path, store._terms
        self._place, self._pool, self._brief = store._place, store._pool, 0
        self._store: Final = store
        self.long = None
        self._watches: Final = watches
        self._is_fresh = False
        """Whether `beside` has not been asked for since."""
        self.beside: bytes | None = None
        """What that memo held then; None where it was not asked for, or is not there."""
        self.met: set[str] | None = None
        """The types of all that is looked at, while somebody wants to know."""

    @property
    def is_there(self) -> bool:
        """Whether the file is at its name at this moment."""
        return self._place.at_hand() is not None

    def generation(self, types: Collection[str]) -> int | None:
        """Another number once anybody has changed a resource of these types.

        None while the file is not open.
        """
        opened = self._place.lately()
        return None if opened is None else opened.generation(types)

    async def read(self, resource_type: str, resource_id: str) -> StoredVersion | None:
        self._meet((resource_type,))
        if not self._watches:
            return await super().read(resource_type, resource_id)
        self._is_fresh, self.beside = False, None
        opened = self._place.at_hand() or await self._current()
        found, self.beside = opened.read_beside(resource_type, resource_id)
        self._is_fresh = found is not None
        return found

    async def vread(
        self, resource_type: str, resource_id: str, version: int
    ) -> StoredVersion | None:
        self._meet((resource_type,))
        return await super().vread(resource_type, resource_id, version)

    async def referring(
        self, types: Collection[str], code: str, targets: Sequence[str]
    ) -> frozenset[str]:
        self._meet(types)
        return await super().referring(types, code, targets)

    async def memo(self, space: str, key: str) -> Memo | None:
        """Once after each read, as that found it; any further time as it is by then."""
        if self._is_fresh and (space, key) == memos.WATCHED:
            self._is_fresh, value = False, self.beside
            return None if value is None else Memo(space, key, value)
        return await super().memo(space, key)

    async def search(
        self,
        query: Search,
        count: int,
        after: Position | None = None,
        until: Position | None = None,
    ) -> Page:
        if self.met is not None:
            self._meet(types_of(query))
        try:
            found = await super().search(query, count, after, until)
        except NotBrief:
            self._store.long = query  # who asks goes the general way now
            raise _waited_for() from None
        if query is self._store.long:
            self._store.long = None
        return found

    async def total(self, query: Search) -> int:
        if self.met is not None:
            self._meet(types_of(query))
        try:
            return await super().total(query)
        except NotBrief:
            raise _waited_for() from None

    async def history(
        self,
        scope: HistoryOf,  # noqa: ARG002
        count: int,  # noqa: ARG002
        before: int | None = None,  # noqa: ARG002
    ) -> Sequence[HistoryEntry]:
        raise _waited_for()

    async def _soon(self, job: Callable[[ConnectionReader, bool], T], *, try_here: bool) -> T:
        if not try_here:
            raise _waited_for()
        return await self._here(lambda reader: job(reader, True))

    async def _elsewhere(self, job: Callable[[ConnectionReader], T]) -> T:  # noqa: ARG002
        raise _waited_for()

    async def _current(self) -> Opened:
        raise _waited_for()

    def _meet(self, types: Iterable[str]) -> None:
        if self.met is not None:
            self.met.update(types)


def _waited_for() -> FhirError:
    return FhirError(Kind.UNAVAILABLE, "The store would have to be waited for")
