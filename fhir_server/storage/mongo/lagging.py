"""Reads that a secondary may answer, where a setting allows it."""

from collections.abc import Collection, Sequence
from typing import Final

from fhir_server.search.ast import Search
from fhir_server.search.parameters import ParameterSet
from fhir_server.storage.interface import (
    HistoryEntry,
    HistoryOf,
    Memo,
    Page,
    Position,
    Reader,
    StoredVersion,
)


class LaggingReader:
    """What resources are comes from a secondary; all else from the primary.

    Args:
        behind: may be some moments behind.
        primary: never is.
    """

    def __init__(self, behind: Reader, primary: Reader) -> None:
        self._behind: Final = behind
        self._primary: Final = primary

    async def read(self, resource_type: str, resource_id: str) -> StoredVersion | None:
        return await self._behind.read(resource_type, resource_id)

    async def vread(
        self, resource_type: str, resource_id: str, version: int
    ) -> StoredVersion | None:
        return await self._behind.vread(resource_type, resource_id, version)

    async def history(
        self, scope: HistoryOf, count: int, before: int | None = None
    ) -> Sequence[HistoryEntry]:
        return await self._behind.history(scope, count, before)

    async def search(
        self,
        query: Search,
        count: int,
        after: Position | None = None,
        until: Position | None = None,
    ) -> Page:
        return await self._behind.search(query, count, after, until)

    async def total(self, query: Search) -> int:
        return await self._behind.total(query)

    async def referring(
        self, types: Collection[str], code: str, targets: Sequence[str]
    ) -> frozenset[str]:
        return await self._behind.referring(types, code, targets)

    async def parameters(self) -> ParameterSet:
        return await self._primary.parameters()

    async def memo(self, space: str, key: str) -> Memo | None:
        return await self._primary.memo(space, key)

    async def memos(
        self, space: str, prefix: str = "", count: int = 100, after: str = ""
    ) -> Sequence[Memo]:
        return await self._primary.memos(space, prefix, count, after)
