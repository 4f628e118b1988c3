"""Which of the resources that a page's matches contain are those that were looked for.

https://hl7.org/fhir/R4/search.html#contained. The store is asked again, so that the criteria mean
what they meant in the search, chains and value sets among them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from fhir_server.access.session import Data, StoredVersion
from fhir_server.errors import FhirError, Kind
from fhir_server.fhir import json
from fhir_server.fhir.json import Resource
from fhir_server.search.ast import Contains, IdIn, Node, Query, conjunction
from fhir_server.search.contained import Contained
from fhir_server.search.parse import SearchRequest

_MOST: Final = 5000
"""Contained resources of one page, each of which is asked for by its id."""

Name = tuple[str, str]
"""The type and id of a match."""


@dataclass(slots=True)
class Alone:
    """What is shown of a page: matches that stand by themselves, and what matches contain."""

    by_themselves: set[Name] = field(default_factory=set)
    within: dict[Name, list[Resource]] = field(default_factory=dict)


async def alone(data: Data, search: SearchRequest, matches: Sequence[StoredVersion]) -> Alone:
    contained = search.contained
    if contained is None:
        return Alone({(match.type, match.id) for match in matches})
    found = Alone()
    if contained.also:
        own = [match.id for match in matches if match.type == contained.resource_type]
        found.by_themselves = await _own(data, contained, own)
    held = _held(matches, contained.resource_type)
    if len(held) > _MOST:
        text = f"The matches contain more than {_MOST} of them; ask for fewer matches with _count"
        raise FhirError.at(Kind.TOO_COSTLY, "http._containedType", text)
    for (kind, inner_id), holders in held.items():
        node = conjunction(IdIn((inner_id,)), contained.node)
        where = Contains(contained.resource_type, node)
        for name in await _among(data, kind, tuple(holders), where):
            found.within.setdefault(name, []).append(holders[name[1]])
    return found


async def _own(data: Data, contained: Contained, ids: Sequence[str]) -> set[Name]:
    if not ids:
        return set()
    return set(await _among(data, contained.resource_type, ids, contained.own))


def _held(
    matches: Sequence[StoredVersion], resource_type: str
) -> Mapping[Name, dict[str, Resource]]:
    """Contained resources of the type by the type of the container and their own id, and those
    by the container's id."""
    held: dict[Name, dict[str, Resource]] = {}
    for match in matches:
        for inner in json.decode_resource(match.body).get("contained", ()):
            if inner["resourceType"] == resource_type and "id" in inner:
                held.setdefault((match.type, inner["id"]), {})[match.id] = inner
    return held


async def _among(data: Data, kind: str, ids: Sequence[str], where: Node) -> list[Name]:
    page = await data.search(Query(kind, conjunction(IdIn(tuple(ids)), where)), len(ids))
    return [(match.type, match.id) for match in page.matches]
