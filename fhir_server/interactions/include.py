"""_include and _revinclude: what the matches point to, and what points to them.

https://hl7.org/fhir/R4/search.html#include. Every candidate passes the session, as any read.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Final

from fhir_server.access.session import Data, StoredVersion
from fhir_server.errors import Issue
from fhir_server.fhir import json
from fhir_server.fhir.references import LocalReference, parse_local
from fhir_server.interactions.exchange import Server
from fhir_server.search.ast import Include, Query, ReferenceTo, disjunction
from fhir_server.search.extract import extract, indexed_parameters
from fhir_server.search.values import ReferenceValue

MAX_ROUNDS: Final = 10
"""Steps that `:iterate` goes from the matches."""


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
    frontier, pending = matches, includes
    for _ in range(MAX_ROUNDS):
        fresh = await _round(data, server, pending, frontier, seen)
        found.versions += fresh
        pending = [include for include in includes if include.iterate]
        if len(found.versions) > server.max_includes:
            del found.versions[server.max_includes :]
            found.notes.append(_told(f"Only the first {server.max_includes} included resources"))
            break
        if not (fresh and pending):
            break
        frontier = fresh
    else:
        found.notes.append(_told(f"Only includes of includes up to {MAX_ROUNDS} steps away"))
    return found


async def _round(
    data: Data,
    server: Server,
    includes: Sequence[Include],
    sources: Sequence[StoredVersion],
    seen: set[tuple[str, str]],
) -> list[StoredVersion]:
    """What the includes add that has not been seen; a little more than is allowed, at the most."""
    fresh: list[StoredVersion] = []
    for include in includes:
        collect = _referring if include.reverse else _referred
        for version in await collect(data, server, include, sources, seen):
            if (version.type, version.id) not in seen:
                seen.add((version.type, version.id))
                fresh.append(version)
        if len(fresh) > server.max_includes:
            break
    return fresh


def _told(text: str) -> Issue:
    return Issue(
        f"{text} are on this page; ask for fewer matches with _count to see the others",
        severity="warning",
        code="too-costly",
    )


Seen = Collection[tuple[str, str]]


async def _referred(
    data: Data, server: Server, include: Include, sources: Sequence[StoredVersion], seen: Seen
) -> list[StoredVersion]:
    targets = dict.fromkeys(
        target
        for version in sources
        if include.source in ("*", version.type)
        for target in _targets(version, include, server.base)
        if include.target in (None, target.type) and (target.type, target.id) not in seen
    )
    found: list[StoredVersion] = []
    for target in targets:
        version = await data.read(target.type, target.id)
        if version is not None and not version.deleted:
            found.append(version)
        if len(found) > server.max_includes:
            break
    return found


def _targets(version: StoredVersion, include: Include, base: str) -> Iterator[LocalReference]:
    codes = _codes(version.type) if include.code == "*" else (include.code,)
    for code, value in extract(json.decode_resource(version.body)):
        if code in codes and isinstance(value, ReferenceValue):
            local = parse_local(value.target, base)
            if local is not None:
                yield LocalReference(local.type, local.id)


@cache
def _codes(resource_type: str) -> frozenset[str]:
    """The type's reference parameters."""
    parameters = indexed_parameters(resource_type).items()
    return frozenset(code for code, parameter in parameters if parameter.type == "reference")


async def _referring(
    data: Data, server: Server, include: Include, sources: Sequence[StoredVersion], seen: Seen
) -> Sequence[StoredVersion]:
    targets = [
        f"{version.type}/{version.id}"
        for version in sources
        if include.target in (None, version.type)
    ]
    if not targets:
        return ()
    absolute = [f"{server.base}/{target}" for target in targets]
    codes = sorted(_codes(include.source)) if include.code == "*" else [include.code]
    refers = disjunction(*(ReferenceTo(code, (*targets, *absolute)) for code in codes))
    query = Query(include.source, refers)
    # What has been seen may be among what is found, and must not stand for what has not.
    page = await data.search(query, server.max_includes + 1 + len(seen))
    return page.matches
