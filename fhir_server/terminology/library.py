"""Where value sets and code systems come from, by canonical address.

Those on the server that the caller may read come first, then the project's, then the value sets
of R4's tables. Source: https://hl7.org/fhir/R4/references.html#canonical.
"""

import asyncio
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Final, Protocol

from fhir_server.fhir import json
from fhir_server.fhir.definitions import required_codes
from fhir_server.fhir.json import Resource
from fhir_server.search.ast import Query, Search, TokenIs, UriIs, conjunction
from fhir_server.storage.interface import Page, Position, StoredVersion
from fhir_server.terminology.codes import CodeSet, Members
from fhir_server.terminology.elements import text

FOLDER: Final = Path(__file__).parents[2] / "terminology"
_MOST: Final = 100
"""Versions of one value set that are looked at."""
_LARGE: Final = 64 * 1024
"""Bytes."""
_R4: Final = ("", "4.0.1")


class Reads(Protocol):
    """What a library needs of a session or a commit."""

    async def read(self, resource_type: str, resource_id: str) -> StoredVersion | None: ...

    async def search(self, query: Search, count: int, after: Position | None = None) -> Page: ...


class Library:
    """Value sets and code systems that one caller may use."""

    def __init__(self, data: Reads) -> None:
        self._data = data

    async def at(self, local: str) -> Resource | None:
        """The ValueSet `ValueSet/id`."""
        found = await self._data.read(*local.split("/"))
        if found is None or found.deleted:
            return None
        (resource,) = await _decoded([found])
        return resource

    async def named(self, resource_type: str, canonical: str) -> Resource | None:
        """The resource with this address; of several versions, where none is named, the newest."""
        url, _, version = canonical.partition("|")
        known = [
            *await self._stored(resource_type, url, version),
            *(
                one
                for one in [_shipped().get((resource_type, url))]
                if one is not None and version in ("", text(one, "version"))
            ),
        ]
        return max(known, key=_recency, default=None)

    async def _stored(self, resource_type: str, url: str, version: str) -> list[Resource]:
        where = conjunction(
            UriIs("url", url), *([TokenIs("version", None, version)] if version else [])
        )
        page = await self._data.search(Query(resource_type, where), _MOST)
        return await _decoded(page.matches)


async def _decoded(versions: Sequence[StoredVersion]) -> list[Resource]:
    """As resources; large ones are read beside the loop, which goes on meanwhile."""
    bodies = [version.body for version in versions]
    if sum(map(len, bodies)) < _LARGE:
        return [*map(json.decode_resource, bodies)]
    return await asyncio.to_thread(lambda: [*map(json.decode_resource, bodies)])


def of_r4(canonical: str) -> CodeSet | None:
    """A value set of R4's own, where its codes can be listed."""
    url, _, version = canonical.partition("|")
    found = required_codes(url) if version in _R4 else None
    if found is None:
        return None
    return CodeSet({system: Members(codes) for system, codes in found.items()})


@cache
def _shipped() -> Mapping[tuple[str, str], Resource]:
    """The project's own, by type and address."""
    resources = [json.decode_resource(path.read_bytes()) for path in sorted(FOLDER.glob("*.json"))]
    return {(one["resourceType"], text(one, "url")): one for one in resources}


_STATUS: Final = {"active": 3, "draft": 2, "unknown": 1}
_NUMBERS: Final = re.compile(r"\d{1,18}", re.ASCII)


def _recency(resource: Resource) -> tuple[object, ...]:
    """Active before draft before retired; then the version, 1.10 after 1.9; then the last edit."""
    version = text(resource, "version")
    return (
        _STATUS.get(text(resource, "status"), 0),
        [int(part) for part in _NUMBERS.findall(version)],
        version,
        text(resource.get("meta"), "lastUpdated"),
        text(resource, "id"),
    )
