"""From nodes to filters on the current versions of one type.

Chains are not among them: `links` has put what they lead to in their place.
"""

from collections.abc import Iterable
from typing import Any

from fhir_server.search.ast import (
    LAST_UPDATED,
    And,
    CompositeMatches,
    DateCompares,
    Everything,
    IdIn,
    Missing,
    Node,
    Not,
    Nothing,
    Or,
    ReferenceTo,
    TokenIs,
    UriIs,
)
from fhir_server.storage.mongo.documents import ENTRIES, GROUPS, TEXTS, name_of, part
from fhir_server.storage.mongo.driver import Document
from fhir_server.storage.mongo.predicates import array_of, test, updated

NOWHERE: Document = {"_id": {"$in": []}}


def where(resource_type: str, node: Node) -> Document:
    """Current resources of the type that satisfy the node."""
    condition = _condition(resource_type, node)
    return {"live": True, "type": resource_type, **({"$and": [condition]} if condition else {})}


def _condition(resource_type: str, node: Node) -> Document:
    match node:
        case Everything():
            return {}
        case Nothing():
            return NOWHERE
        case And(nodes):
            return _all([_condition(resource_type, inner) for inner in nodes])
        case Or(nodes):
            return _either(resource_type, nodes)
        case Not(inner):
            return _not(_condition(resource_type, inner))
        case IdIn(ids):
            return {"resource": {"$in": [name_of(resource_type, one) for one in ids]}}
        case _:
            return _criterion(node)


def _criterion(node: Any) -> Document:
    match node:
        case Missing(code):
            return _missing(code)
        case CompositeMatches(code):
            return {GROUPS: {"$elemMatch": {"p": {"$eq": code}, **_parts(node)}}}
        case DateCompares(code=code) if code == LAST_UPDATED:
            return updated(node)
        case _:
            return _exists(array_of(node), node.code, test(node))


def _exists(array: str, code: str, entry: Document) -> Document:
    """There is an entry of the parameter that passes the test."""
    return {array: {"$elemMatch": {"p": {"$eq": code}, **entry}}}


def _missing(code: str) -> Document:
    if code == LAST_UPDATED:
        return NOWHERE
    return {"$nor": [{f"{array}.p": {"$eq": code}} for array in ENTRIES]}


def _parts(node: CompositeMatches) -> Document:
    return {part(index): {"$elemMatch": test(inner)} for index, inner in enumerate(node.nodes)}


def _all(conditions: list[Document]) -> Document:
    kept = [condition for condition in conditions if condition]
    return {"$and": kept} if kept else {}


def _not(condition: Document) -> Document:
    return {"$nor": [condition]} if condition else NOWHERE


def _either(resource_type: str, nodes: Iterable[Node]) -> Document:
    """Alternatives that differ in nothing but one text share one test."""
    texts: dict[str, dict[str, None]] = {}
    parts: list[Document] = []
    for node in nodes:
        match node:
            case TokenIs(code, None, str(text)) | UriIs(code, text):
                texts.setdefault(code, {})[text] = None
            case ReferenceTo(code, targets, ""):
                texts.setdefault(code, {}).update(dict.fromkeys(targets))
            case _:
                parts.append(_condition(resource_type, node))
    parts += [_exists(TEXTS, code, {"c": {"$in": [*found]}}) for code, found in texts.items()]
    if not all(parts):
        return {}
    return {"$or": parts} if parts else NOWHERE
