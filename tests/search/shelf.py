"""Value sets and code systems in memory, for what asks a terminology service."""

from collections.abc import Iterable
from typing import Any

from fhir_server.fhir import json
from fhir_server.fhir.json import Resource
from fhir_server.search.ast import Queries, Search
from fhir_server.search.match import match
from fhir_server.storage.interface import Page, Position, StoredVersion


class Shelf:
    """Resources that are found by what `match` says."""

    def __init__(self, resources: Iterable[Resource]) -> None:
        self._resources = list(resources)

    async def read(self, resource_type: str, resource_id: str) -> StoredVersion | None:
        for one in self._resources:
            if (one["resourceType"], one.get("id")) == (resource_type, resource_id):
                return _version(one)
        return None

    async def search(self, query: Search, count: int, after: Position | None = None) -> Page:
        assert not isinstance(query, Queries)
        assert after is None
        found = [
            _version(one)
            for one in self._resources
            if one["resourceType"] == query.resource_type and match(query.where, one)
        ]
        return Page(found[:count], None)


def _version(resource: dict[str, Any]) -> StoredVersion:
    body = json.encode(resource)
    return StoredVersion(resource["resourceType"], resource.get("id", ""), 1, 0, "PUT", body)
