"""What a filter cannot say is looked up first, in the same snapshot, and put in its place.

A chain becomes a reference to one of the resources at its end, a reverse chain becomes the ids
that are referred to, a distance becomes the places within it. All are bounded: a filter holds so
much and no more.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol, cast

from fhir_server.errors import FhirError, Kind
from fhir_server.search.ast import (
    And,
    Chain,
    Contains,
    Has,
    IdIn,
    Near,
    Node,
    Not,
    Nothing,
    Or,
    Queries,
    Query,
    ReferenceTo,
    Search,
    TokenIs,
    UriIs,
)
from fhir_server.search.geography import box, metres
from fhir_server.storage.mongo.conditions import where
from fhir_server.storage.mongo.documents import CONTAINED, RANGES, TEXTS
from fhir_server.storage.mongo.driver import Document
from fhir_server.storage.mongo.predicates import At, Canonically

MOST: Final = 20_000
"""Resources that one step of a chain may pass through."""


class Ask(Protocol):
    async def __call__(self, stages: list[Document]) -> list[Document]:
        """The answer to an aggregation over all versions."""


async def resolved(query: Search, ask: Ask) -> Search:
    """The query with nothing in it that leads to other resources, or is a distance.

    Raises:
        FhirError: TOO_COSTLY when a step passes through too many resources.
    """
    if isinstance(query, Queries):
        return replace(query, parts=tuple([await _resolved(one, ask) for one in query.parts]))
    return await _resolved(query, ask)


async def _resolved(query: Query, ask: Ask) -> Query:
    return replace(query, where=await _node(query.where, _Place(query.resource_type), ask))


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a node stands: at a resource, or at one that such a resource contains."""

    resource_type: str
    contained: str = ""


async def _node(node: Node, place: _Place, ask: Ask) -> Node:
    match node:
        case And(nodes):
            return And(tuple([await _node(inner, place, ask) for inner in nodes]))
        case Or(nodes):
            return Or(tuple([await _node(inner, place, ask) for inner in nodes]))
        case Not(inner):
            return Not(await _node(inner, place, ask))
        case Contains(contained, inner):
            within = _Place(place.resource_type, contained)
            return Contains(contained, await _node(inner, within, ask))
        case Near():
            return await _places(node, place, ask)
        case Chain():
            return await _chain(node, ask)
        case Has():
            return await _has(node, ask)
        case _:
            return node


async def _chain(node: Chain, ask: Ask) -> Node:
    end = where(node.target, await _node(node.node, _Place(node.target), ask))
    if node.canonical:
        return await _to_addresses(node, end, ask)
    found = await ask([{"$match": end}, {"$limit": MOST + 1}, {"$project": {"id": 1}}])
    ids = [document["id"] for document in _bounded(found)]
    targets = tuple(form + resource_id for resource_id in ids for form in node.forms)
    return ReferenceTo(node.code, targets) if targets else Nothing()


async def _to_addresses(node: Chain, end: Document, ask: Ask) -> Node:
    """To what names one of the resources by its url, and if by a version, by its own."""
    named = {f"{TEXTS}.p": {"$in": ["url", "version"]}}
    one = {"_id": "$_id", "code": f"${TEXTS}.p", "text": f"${TEXTS}.c"}
    found = await ask([*_unwound(end, named), {"$project": one}, {"$limit": MOST + 1}])
    by_resource: dict[str, dict[str, list[str]]] = {}
    for entry in _bounded(found):
        names = by_resource.setdefault(entry["_id"], {"url": [], "version": []})
        names[entry["code"]].append(entry["text"])
    # Resources with the same versions, none mostly, are asked for together.
    urls: dict[tuple[str, ...], list[str]] = {}
    for names in by_resource.values():
        if names["url"]:
            urls.setdefault(tuple(sorted(names["version"])), []).extend(names["url"])
    nodes = [Canonically(node.code, tuple(found), versions) for versions, found in urls.items()]
    return Or(tuple(cast("list[Node]", nodes))) if nodes else Nothing()


async def _has(node: Has, ask: Ask) -> Node:
    source = where(node.source, await _node(node.node, _Place(node.source), ask))
    one = {"_id": {"text": f"${TEXTS}.c", "version": f"${TEXTS}.v"}}
    asked = _unwound(source, {f"{TEXTS}.p": {"$eq": node.code}})
    found = await ask([*asked, {"$group": one}, {"$limit": MOST + 1}])
    references = [(entry["_id"]["text"], entry["_id"]["version"]) for entry in _bounded(found)]
    if node.canonical:
        return _addressed(references)
    ids = _ids((text for text, _ in references), node.forms)
    return IdIn(ids) if ids else Nothing()


def _unwound(asked: Document, entries: Document) -> list[Document]:
    """Stages to those entries of what is asked for, each for itself."""
    return [
        {"$match": asked},
        {"$project": {TEXTS: 1}},
        {"$unwind": f"${TEXTS}"},
        {"$match": entries},
    ]


def _addressed(references: Sequence[tuple[str, str]]) -> Node:
    """What is named by one of the canonical references: a url, and a version or ''."""
    nodes: list[Node] = [UriIs("url", url) for url, version in references if not version]
    for url, version in references:
        if version:
            nodes.append(And((UriIs("url", url), TokenIs("version", None, version))))
    return Or(tuple(nodes)) if nodes else Nothing()


async def _places(node: Near, place: _Place, ask: Ask) -> Node:
    """The box is what the index can serve; the distance has the last word, as for every backend."""
    within = box(node.latitude, node.longitude, node.distance)
    sides = [{"h": {"$gte": west, "$lte": east}} for west, east in within.longitudes]
    entry = {"l": {"$gte": within.south, "$lte": within.north}, "$or": sides}
    boxed: Document = {RANGES: {"$elemMatch": {"p": {"$eq": node.code}, **entry}}}
    if place.contained:
        boxed = {CONTAINED: {"$elemMatch": {"p": {"$eq": f"#{place.contained}"}, **boxed}}}
    path = f"{CONTAINED}.{RANGES}" if place.contained else RANGES
    stages: list[Document] = [{"$match": {"live": True, "type": place.resource_type, **boxed}}]
    stages += [{"$unwind": f"${CONTAINED}"}] if place.contained else []
    stages += [
        {"$unwind": f"${path}"},
        {"$match": {f"{path}.p": {"$eq": node.code}}},
        {"$group": {"_id": {"l": f"${path}.l", "h": f"${path}.h"}}},
        {"$limit": MOST + 1},
    ]
    found = [(one["_id"]["l"], one["_id"]["h"]) for one in _bounded(await ask(stages))]
    near = [one for one in found if metres(node.latitude, node.longitude, *one) <= node.distance]
    return cast(Node, At(node.code, tuple(near))) if near else Nothing()


def _bounded(found: list[Document]) -> list[Document]:
    if len(found) > MOST:
        raise FhirError(
            Kind.TOO_COSTLY,
            f"A chain passes through more than {MOST} resources, or a distance holds more places; "
            "narrow it, or ask in several searches",
        )
    return found


def _ids(targets: Iterable[str], forms: tuple[str, ...]) -> tuple[str, ...]:
    """What follows one of the forms in a reference."""
    return tuple(
        target[len(form) :] for target in targets for form in forms if target.startswith(form)
    )
