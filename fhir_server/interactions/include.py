"""_include and _revinclude: what the matches point to, and what points to them.

https://hl7.org/fhir/R4/search.html#include. Every candidate passes the session, as any read.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from fhir_server.access.session import Data, StoredVersion
from fhir_server.errors import Issue
from fhir_server.fhir import json
from fhir_server.fhir.references import LocalReference, parse_local
from fhir_server.interactions.exchange import Server
from fhir_server.search.ast import Include, Query, ReferenceTo
from fhir_server.search.extract import extract
from fhir_server.search.values import ReferenceValue


@dataclass(slots=True)
class Included:
    """What came along, each once, and what is to be said about it."""

    versions: list[StoredVersion] = field(default_factory=list)
    notes: list[Issue] = field(default_factory=list)


async def included(
    data: Data, server: Server, includes: Sequence[Include], matches: Sequence[StoredVersion]
) -> Included:
    """The resources that the includes add to a page of matches, at most `max_includes`."""
    found = Included()
    seen = {(version.type, version.id) for version in matches}
    for include in includes:
        collect = _referring if include.reverse else _referred
        for version in await collect(data, server, include, matches):
            if (version.type, version.id) not in seen:
                seen.add((version.type, version.id))
                found.versions.append(version)
    if len(found.versions) > server.max_includes:
        del found.versions[server.max_includes :]
        found.notes.append(
            Issue(
                f"Only the first {server.max_includes} included resources are on this page; "
                "ask for fewer matches with _count to see the others",
                severity="warning",
                code="too-costly",
            )
        )
    return found


async def _referred(
    data: Data, server: Server, include: Include, matches: Sequence[StoredVersion]
) -> list[StoredVersion]:
    sources = [version for version in matches if version.type == include.source]
    targets = dict.fromkeys(
        target
        for version in sources
        for target in _targets(version, include, server.base)
        if include.target in (None, target.type)
    )
    found = [
        await data.read(target.type, target.id)
        for target in list(targets)[: server.max_includes + 1]
    ]
    return [version for version in found if version is not None and not version.deleted]


def _targets(version: StoredVersion, include: Include, base: str) -> Iterator[LocalReference]:
    for code, value in extract(json.decode_resource(version.body)):
        if code == include.code and isinstance(value, ReferenceValue):
            local = parse_local(value.target, base)
            if local is not None:
                yield LocalReference(local.type, local.id)


async def _referring(
    data: Data, server: Server, include: Include, matches: Sequence[StoredVersion]
) -> Sequence[StoredVersion]:
    targets = [
        f"{version.type}/{version.id}"
        for version in matches
        if include.target in (None, version.type)
    ]
    if not targets:
        return ()
    absolute = [f"{server.base}/{target}" for target in targets]
    query = Query(include.source, ReferenceTo(include.code, (*targets, *absolute)))
    page = await data.search(query, server.max_includes + 1)
    return page.matches
