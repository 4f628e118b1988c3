"""Reads as a caller may do them."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from fhir_server.access.caller import Caller
from fhir_server.search.ast import Search
from fhir_server.search.parameters import ParameterSet
from fhir_server.storage.interface import HistoryEntry, HistoryOf, Page, Position, StoredVersion
from fhir_server.terminology.service import Terminology


class Data(Protocol):
    """Reads as the caller may do them, in a session or inside its commit."""

    @property
    def caller(self) -> Caller: ...

    async def read(self, resource_type: str, resource_id: str) -> StoredVersion | None: ...

    async def vread(
        self, resource_type: str, resource_id: str, version: int
    ) -> StoredVersion | None: ...

    async def history(
        self, scope: HistoryOf, count: int, before: int | None = None
    ) -> Sequence[HistoryEntry]: ...

    async def search(
        self,
        query: Search,
        count: int,
        after: Position | None = None,
        until: Position | None = None,
    ) -> Page: ...

    async def total(self, query: Search) -> int: ...

    async def parameters(self) -> ParameterSet: ...

    def terminology(self) -> Terminology: ...

    def shows(self, versions: Iterable[StoredVersion]) -> None: ...
