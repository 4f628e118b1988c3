"""What a Provenance names beside the patients by whom it is decided.

A commit writes plans, answers and labelled tasks together, and not everybody who may read one of
them may know of the others. So targets and entities that are hidden from the caller are left out
of what is shown, which is then marked as SUBSETTED: https://hl7.org/fhir/R4/resource.html#Meta.
By what is left out, a Provenance is not found either.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from fhir_server.access.membership import PATIENT, Standing, standing
from fhir_server.fhir import json
from fhir_server.fhir.json import Resource
from fhir_server.fhir.references import parse_relative
from fhir_server.fhir.summary import SUBSETTED
from fhir_server.search.ast import (
    And,
    Chain,
    Contains,
    Has,
    Node,
    Not,
    Nothing,
    Or,
    Queries,
    Query,
    ReferenceTo,
    Search,
    TextMatches,
    TokenIn,
    TokenIs,
)
from fhir_server.storage.interface import StoredVersion

TYPE: Final = "Provenance"
_NAMING: Final = ("target", "entity")
"""Its search parameters for what is left out where it is hidden."""
_AROUND: Final = (*(f"{name}:identifier" for name in _NAMING), "_content")
"""Of the number and the words of a target it cannot be told whether it is hidden."""
IsSeen = Callable[[str, str], Awaitable[bool]]
"""Whether the caller may see the resource of that type and id."""


async def as_told(version: StoredVersion, is_seen: IsSeen) -> StoredVersion:
    """The version with what the caller may know of; others than of a Provenance as they are."""
    if version.type != TYPE or version.deleted:
        return version
    resource = json.decode_own(version.body)
    told = {
        "target": [one for one in resource["target"] if await _is_known(one, is_seen)],
        "entity": [
            one for one in resource.get("entity", ()) if await _is_known(one["what"], is_seen)
        ],
    }
    if all(len(some) == len(resource.get(name, ())) for name, some in told.items()):
        return version
    return version._replace(body=json.encode(_without(resource, told)))


def _without(resource: Mapping[str, Any], told: Mapping[str, list[Any]]) -> Resource:
    meta = resource.get("meta", {})
    marked = {**meta, "tag": [*meta.get("tag", ()), SUBSETTED]}
    shown = {**resource, "meta": marked, **told}
    return {name: value for name, value in shown.items() if value or name not in told}


async def _is_known(reference: Mapping[str, Any], is_seen: IsSeen) -> bool:
    """What is in no record is known; the patients decide about the whole by themselves."""
    named = parse_relative(reference.get("reference", ""))
    if named is None or named.type == PATIENT or standing(named.type) is Standing.SHARED:
        return True
    return await is_seen(named.type, named.id)


async def asked(search: Search, is_seen: IsSeen) -> Search:
    """The search without what it asks of a Provenance by what the caller may not know of."""
    if isinstance(search, Query) and search.resource_type != TYPE and not _leads_on(search.where):
        return search
    if isinstance(search, Queries):
        return replace(search, parts=tuple([await _query(one, is_seen) for one in search.parts]))
    return await _query(search, is_seen)


def _leads_on(node: Node) -> bool:
    """Whether it comes to other resources, which may be Provenances; most searches do not."""
    match node:
        case And(nodes) | Or(nodes):
            return any(map(_leads_on, nodes))
        case Not(one):
            return _leads_on(one)
    return isinstance(node, Chain | Has | Contains)


async def _query(query: Query, is_seen: IsSeen) -> Query:
    where = await _node(query.where, query.resource_type, is_seen)
    return query if where is query.where else replace(query, where=where)


async def _node(node: Node, resource_type: str, is_seen: IsSeen) -> Node:
    """The same node where nothing of it is hidden."""
    match node:
        case ReferenceTo(code, named) if resource_type == TYPE and code in _NAMING:
            known = [one for one in named if await _is_known({"reference": one}, is_seen)]
            if len(known) == len(named):
                return node
            return replace(node, targets=tuple(known)) if known else Nothing()
        case TokenIs(code) | TokenIn(code) | TextMatches(code) if (
            resource_type == TYPE and code in _AROUND
        ):
            return Nothing()
        case And(nodes) | Or(nodes):
            inner = tuple([await _node(one, resource_type, is_seen) for one in nodes])
            same = all(one is other for one, other in zip(inner, nodes, strict=True))
            return node if same else type(node)(inner)
        case Not(one):
            return Not(await _node(one, resource_type, is_seen))
        case Chain(target=landing) | Has(source=landing) | Contains(resource_type=landing):
            beyond = await _node(node.node, landing, is_seen)
            return node if beyond is node.node else replace(node, node=beyond)
    return node
