"""_include and _revinclude: what the matches point to, and what points to them.

https://hl7.org/fhir/R4/search.html#include. Every candidate passes the session, as any read.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from fhir_server.access.session import Data, StoredVersion
from fhir_server.errors import Issue
from fhir_server.fhir import json
from fhir_server.fhir.references import LocalReference, parse_local
from fhir_server.interactions.exchange import Server
from fhir_server.search.ast import Include, Query, ReferenceTo, disjunction
from fhir_server.search.extract import extract
from fhir_server.search.parameters import ParameterSet
from fhir_server.search.parse import SearchRequest
from fhir_server.search.values import ReferenceValue

MAX_ROUNDS: Final = 10
"""Steps that `:iterate` goes from the matches."""


@dataclass(slots=True)
class Included:
    """What came along, each once, and what is to be said about it."""

    versions: list[StoredVersion] = field(default_factory=list)
    notes: list[Issue] = field(default_factory=list)


async def included(
    data: Data, server: Server, search: SearchRequest, matches: Sequence[StoredVersion]
) -> Included:
    """The resources that the includes add to a page of matches, at most `max_includes`."""
    found, known = Included(), search.known
    seen = {(version.type, version.id) for version in matches}
    frontier, pending = matches, search.includes
    for _ in range(MAX_ROUNDS):
        fresh = await _round(_Round(data, server, known, seen), pending, frontier)
        found.versions += fresh
        pending = tuple(include for include in search.includes if include.iterate)
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


class _Round(NamedTuple):
    """What each step from the matches knows."""

    data: Data
    server: Server
    known: ParameterSet
    seen: set[tuple[str, str]]


async def _round(
    here: _Round, includes: Sequence[Include], sources: Sequence[StoredVersion]
) -> list[StoredVersion]:
    """What the includes add that has not been seen; a little more than is allowed, at the most."""
    fresh: list[StoredVersion] = []
    for include in includes:
        collect = _referring if include.reverse else _referred
        for version in await collect(here, include, sources):
            if (version.type, version.id) not in here.seen:
                here.seen.add((version.type, version.id))
                fresh.append(version)
        if len(fresh) > here.server.max_includes:
            break
    return fresh


def _told(text: str) -> Issue:
    return Issue(
        f"{text} are on this page; ask for fewer matches with _count to see the others",
        severity="warning",
        code="too-costly",
    )


async def _referred(
    here: _Round, include: Include, sources: Sequence[StoredVersion]
) -> list[StoredVersion]:
    targets = dict.fromkeys(
        target
        for version in sources
        if include.source in ("*", version.type)
        for target in _targets(version, include, here)
        if include.target in (None, target.type) and (target.type, target.id) not in here.seen
    )
    found: list[StoredVersion] = []
    for target in targets:
        version = await here.data.read(target.type, target.id)
        if version is not None and not version.deleted:
            found.append(version)
        if len(found) > here.server.max_includes:
            break
    return found


def _targets(version: StoredVersion, include: Include, here: _Round) -> Iterator[LocalReference]:
    indexes = _indexes(here.known, version.type, include.code)
    resource = json.decode_resource(version.body)
    for index, value in (*extract(resource), *here.known.values(resource)):
        if index in indexes and isinstance(value, ReferenceValue):
            local = parse_local(value.target, here.server.base)
            if local is not None:
                yield LocalReference(local.type, local.id)


def _indexes(known: ParameterSet, resource_type: str, code: str) -> frozenset[str]:
    """Where the values of the reference parameter stand, or of all that the type has (`*`)."""
    return frozenset(
        parameter.index
        for name, parameter in known.indexed(resource_type).items()
        if parameter.type == "reference" and code in ("*", name)
    )


async def _referring(
    here: _Round, include: Include, sources: Sequence[StoredVersion]
) -> Sequence[StoredVersion]:
    targets = [
        f"{version.type}/{version.id}"
        for version in sources
        if include.target in (None, version.type)
    ]
    if not targets:
        return ()
    absolute = [f"{here.server.base}/{target}" for target in targets]
    indexes = sorted(_indexes(here.known, include.source, include.code))
    refers = disjunction(*(ReferenceTo(index, (*targets, *absolute)) for index in indexes))
    query = Query(include.source, refers)
    # What has been seen may be among what is found, and must not stand for what has not.
    page = await here.data.search(query, here.server.max_includes + 1 + len(here.seen))
    return page.matches
