"""Chains: what they lead to is looked up first, in the same snapshot, and put in their place.

A chain becomes a reference to one of the resources at its end, a reverse chain becomes the ids
that are referred to. Both are bounded: a filter holds so much and no more.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Final, Protocol

from fhir_server.errors import FhirError, Kind
from fhir_server.search.ast import (
    And,
    Chain,
    Has,
    IdIn,
    Node,
    Not,
    Nothing,
    Or,
    Queries,
    Query,
    ReferenceTo,
    Search,
)
from fhir_server.storage.mongo.conditions import where
from fhir_server.storage.mongo.documents import TEXTS
from fhir_server.storage.mongo.driver import Document

MOST: Final = 20_000
"""Resources that one step of a chain may pass through."""


class Ask(Protocol):
    async def __call__(self, stages: list[Document]) -> list[Document]:
        """The answer to an aggregation over all versions."""


async def resolved(query: Search, ask: Ask) -> Search:
    """The query with nothing in it that leads to other resources.

    Raises:
        FhirError: TOO_COSTLY when a step passes through too many resources.
    """
    if isinstance(query, Queries):
        return replace(query, parts=tuple([await _resolved(one, ask) for one in query.parts]))
    return await _resolved(query, ask)


async def _resolved(query: Query, ask: Ask) -> Query:
    return replace(query, where=await _node(query.where, ask))


async def _node(node: Node, ask: Ask) -> Node:
    match node:
        case And(nodes):
            return And(tuple([await _node(inner, ask) for inner in nodes]))
        case Or(nodes):
            return Or(tuple([await _node(inner, ask) for inner in nodes]))
        case Not(inner):
            return Not(await _node(inner, ask))
        case Chain():
            return await _chain(node, ask)
        case Has():
            return await _has(node, ask)
        case _:
            return node


async def _chain(node: Chain, ask: Ask) -> Node:
    end = where(node.target, await _node(node.node, ask))
    found = await ask([{"$match": end}, {"$limit": MOST + 1}, {"$project": {"id": 1}}])
    ids = [document["id"] for document in _bounded(found)]
    targets = tuple(form + resource_id for resource_id in ids for form in node.forms)
    return ReferenceTo(node.code, targets) if targets else Nothing()


async def _has(node: Has, ask: Ask) -> Node:
    source = where(node.source, await _node(node.node, ask))
    found = await ask(
        [
            {"$match": source},
            {"$project": {TEXTS: 1}},
            {"$unwind": f"${TEXTS}"},
            {"$match": {f"{TEXTS}.p": {"$eq": node.code}}},
            {"$group": {"_id": f"${TEXTS}.c"}},
            {"$limit": MOST + 1},
        ]
    )
    ids = _ids((document["_id"] for document in _bounded(found)), node.forms)
    return IdIn(ids) if ids else Nothing()


def _bounded(found: list[Document]) -> list[Document]:
    if len(found) > MOST:
        raise FhirError(
            Kind.TOO_COSTLY,
            f"A chain passes through more than {MOST} resources; narrow what stands after its dot, "
            "or ask in several searches",
        )
    return found


def _ids(targets: Iterable[str], forms: tuple[str, ...]) -> tuple[str, ...]:
    """What follows one of the forms in a reference."""
    return tuple(
        target[len(form) :] for target in targets for form in forms if target.startswith(form)
    )
