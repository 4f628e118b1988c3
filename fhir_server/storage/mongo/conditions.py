"""From nodes to filters on the current versions of one type.

Chains are not among them: `links` has put what they lead to in their place.
"""

from collections.abc import Iterable
from typing import Any, Final

from fhir_server.search.ast import (
    LAST_UPDATED,
    And,
    CompositeMatches,
    Contains,
    DateCompares,
    DateCovers,
    Differs,
    Everything,
    IdIn,
    Missing,
    Node,
    Not,
    Nothing,
    Or,
    ReferenceTo,
    TextMatches,
    TokenIs,
    UriIs,
)
from fhir_server.search.fulltext import NARRATIVE
from fhir_server.storage.mongo.documents import (
    ARRAYS,
    CONTAINED,
    GROUPS,
    NARRATIVE_WORDS,
    OTHER_WORDS,
    TEXTS,
    WORDS,
    name_of,
    part,
)
from fhir_server.storage.mongo.driver import Document
from fhir_server.storage.mongo.predicates import array_of, starting, test, updated

_MOST_WORDS: Final = 16
"""Words of a phrase that are looked up one by one."""
NOWHERE: Final[Document] = {"_id": {"$in": []}}


def where(resource_type: str, node: Node) -> Document:
    """Current resources of the type that satisfy the node."""
    condition = _condition(resource_type, node)
    return {"live": True, "type": resource_type, **({"$and": [condition]} if condition else {})}


def _condition(resource_type: str, node: Node) -> Document:
    """`resource_type` '' for a contained resource, which is known by its id alone."""
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
        case IdIn(ids) if resource_type:
            return {"resource": {"$in": [name_of(resource_type, one) for one in ids]}}
        case IdIn(ids):
            return {"id": {"$in": [*ids]}}
        case Contains(inner_type, inner):
            return _contains(inner_type, inner)
        case _:
            return _criterion(node)


def _contains(resource_type: str, node: Node) -> Document:
    inner = _condition("", node)
    alone = {"$and": [inner]} if inner else {}
    return {CONTAINED: {"$elemMatch": {"p": {"$eq": f"#{resource_type}"}, **alone}}}


def _criterion(node: Any) -> Document:
    match node:
        case Missing(code, kind):
            return _no_words(code) if kind == "text" else _missing(code)
        case CompositeMatches():
            return _composite(node)
        case TextMatches():
            return _words(node)
        case Differs(code, inner) if code != LAST_UPDATED:
            others = test(inner)
            return _exists(array_of(inner), code, {"$nor": others} if others else {})
        case DateCovers(code, low, high) if code == LAST_UPDATED:
            return {"updated": {"$lte": low, "$gte": high - 1}}
        case DateCompares(code=code) if code == LAST_UPDATED:
            return _any(updated(node))
        case _:
            return _any([_exists(array_of(node), node.code, one) for one in test(node)])


def _exists(array: str, code: str, entry: Document) -> Document:
    """There is an entry of the parameter that passes the test."""
    return {array: {"$elemMatch": {"p": {"$eq": code}, **entry}}}


def _composite(node: CompositeMatches) -> Document:
    """There is an element that satisfies every component."""
    components = [
        _any([{part(index): {"$elemMatch": one}} for one in test(inner)])
        for index, inner in enumerate(node.nodes)
        if not isinstance(inner, Everything)
    ]
    return _exists(GROUPS, node.code, {"$and": components} if components else {})


def _words(node: TextMatches) -> Document:
    """Each of the words, for the index; then whether they stand one after the other."""
    *whole, last = node.words.split(" ")
    each = [{WORDS: {"$eq": word}} for word in whole[:_MOST_WORDS]]
    last_one = {"$elemMatch": starting(last)} if node.prefix else {"$eq": last}
    phrase = f" {node.words}" if node.prefix else f" {node.words} "
    stand = [_holds(field, phrase) for field in _fields(node.code)]
    return _all([*each, {WORDS: last_one}, _any(stand)])


def _holds(field: str, text: str) -> Document:
    """Not a pattern: those are bounded, and a phrase may be long."""
    where_it_stands = {"$indexOfBytes": [{"$ifNull": [f"${field}", ""]}, {"$literal": text}]}
    return {"$expr": {"$gte": [where_it_stands, 0]}}


def _no_words(code: str) -> Document:
    return _all([{field: {"$exists": False}} for field in _fields(code)])


def _fields(code: str) -> tuple[str, ...]:
    return (NARRATIVE_WORDS,) if code == NARRATIVE else (NARRATIVE_WORDS, OTHER_WORDS)


def _missing(code: str) -> Document:
    if code == LAST_UPDATED:
        return NOWHERE
    return {"$nor": [{f"{array}.p": {"$eq": code}} for array in ARRAYS]}


def _all(conditions: list[Document]) -> Document:
    kept = [condition for condition in conditions if condition]
    if len(kept) == 1:
        return kept[0]
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
    return _any(parts)


def _any(alternatives: list[Document]) -> Document:
    if len(alternatives) == 1:
        return alternatives[0]
    if not all(alternatives):
        return {}
    return {"$or": alternatives} if alternatives else NOWHERE


def both(one: Document, other: Document) -> Document:
    return _all([one, other])
