"""What an index entry must be to satisfy a predicate, as a filter on its fields.

Every value stands behind an operator (`$eq`, `$gte`, …), so none can be read as one.
"""

import re
import sys
from functools import singledispatch
from typing import Any, Final

from fhir_server.errors import FhirError, Kind
from fhir_server.search.ast import (
    DateCompares,
    NumberCompares,
    Or,
    Prefix,
    QuantityCompares,
    ReferenceTo,
    StringMatches,
    StringMode,
    TokenIs,
    UriBelow,
    UriIs,
)
from fhir_server.search.values import fold
from fhir_server.storage.mongo.documents import RANGES, TEXTS
from fhir_server.storage.mongo.driver import Document

_LONGEST_PATTERN: Final = 30_000
"""Bytes; MongoDB takes 32764 (https://www.mongodb.com/docs/manual/reference/operator/query/regex/)."""

# A bound on the low where only the high is in question changes nothing, as no low is above its
# high, but lets the index, which goes by the low, serve it.
_Bounds = tuple[tuple[str, str, str], ...]
_DATES: Final[dict[Prefix, _Bounds]] = {
    Prefix.EQ: (("l", "$gte", "low"), ("l", "$lt", "high"), ("h", "$lte", "high")),
    Prefix.GT: (("h", "$gt", "high"),),
    Prefix.LT: (("l", "$lt", "low"),),
    Prefix.SA: (("l", "$gte", "high"),),
    Prefix.EB: (("l", "$lt", "low"), ("h", "$lte", "low")),
    Prefix.AP: (("l", "$lt", "high"), ("h", "$gt", "low")),
}
_EITHER_DATE: Final[dict[Prefix, _Bounds]] = {
    Prefix.NE: (("l", "$lt", "low"), ("h", "$gt", "high")),
    Prefix.GE: (("h", "$gt", "high"), ("l", "$gte", "low")),
    Prefix.LE: (("l", "$lt", "low"), ("h", "$lte", "high")),
}
_NUMBERS: Final[dict[Prefix, _Bounds]] = {
    Prefix.EQ: (("l", "$gte", "low"), ("l", "$lt", "high"), ("h", "$lt", "high")),
    Prefix.GT: (("h", "$gt", "value"),),
    Prefix.LT: (("l", "$lt", "value"),),
    Prefix.GE: (("h", "$gte", "value"),),
    Prefix.LE: (("l", "$lte", "value"),),
    Prefix.SA: (("l", "$gt", "value"),),
    Prefix.EB: (("l", "$lt", "value"), ("h", "$lt", "value")),
    Prefix.AP: (("l", "$lte", "high"), ("h", "$gte", "low")),
}
_EITHER_NUMBER: Final[dict[Prefix, _Bounds]] = {
    Prefix.NE: (("l", "$lt", "low"), ("h", "$gte", "high")),
}
_INSTANTS: Final[dict[Prefix, _Bounds]] = {
    Prefix.EQ: (("updated", "$gte", "low"), ("updated", "$lt", "high")),
    Prefix.GT: (("updated", "$gte", "high"),),
    Prefix.LT: (("updated", "$lt", "low"),),
    Prefix.GE: (("updated", "$gte", "low"),),
    Prefix.LE: (("updated", "$lt", "high"),),
    Prefix.SA: (("updated", "$gte", "high"),),
    Prefix.EB: (("updated", "$lt", "low"),),
    Prefix.AP: (("updated", "$gte", "low"), ("updated", "$lt", "high")),
}
"""`_DATES` for `[updated, updated + 1)`."""
_EITHER_INSTANT: Final[dict[Prefix, _Bounds]] = {
    Prefix.NE: (("updated", "$lt", "low"), ("updated", "$gte", "high")),
}


def array_of(node: Any) -> str:
    """The array with the entries that a predicate is about."""
    if isinstance(node, Or):
        return array_of(node.nodes[0])
    ranged = isinstance(node, DateCompares | NumberCompares | QuantityCompares)
    return RANGES if ranged else TEXTS


@singledispatch
def test(node: object) -> Document:
    """A filter on one entry."""
    raise TypeError(f"{node!r} is not a predicate")


@test.register
def _(node: TokenIs) -> Document:
    fields = {"c": node.token, "s": node.system}
    return {name: {"$eq": text} for name, text in fields.items() if text is not None}


@test.register
def _(node: ReferenceTo) -> Document:
    version = {"v": {"$eq": node.version}} if node.version else {}
    return {"c": {"$in": [*node.targets]}, **version}


@test.register
def _(node: UriIs) -> Document:
    return {"c": {"$eq": node.uri}}


@test.register
def _(node: UriBelow) -> Document:
    end = f"{node.stem}0"  # the character after the slash
    below = {"c": {"$gte": f"{node.stem}/", "$lt": end}}
    return {"$or": [{"c": {"$eq": node.stem}}, below]}


@test.register
def _(node: StringMatches) -> Document:
    match node.mode:
        case StringMode.EXACT:
            return {"c": {"$eq": fold(node.text)}, "x": {"$eq": node.text}}
        case StringMode.CONTAINS:
            return {"c": {"$regex": _literally(node.text)}}
        case StringMode.STARTS:
            return {"c": starting(node.text)}


@test.register
def _(node: DateCompares) -> Document:
    return _compared(node, _DATES, _EITHER_DATE)


@test.register
def _(node: NumberCompares) -> Document:
    return _compared(node, _NUMBERS, _EITHER_NUMBER)


@test.register
def _(node: QuantityCompares) -> Document:
    return both(_compared(node, _NUMBERS, _EITHER_NUMBER), _unit(node))


@test.register
def _(node: Or) -> Document:
    """Of one component of a composite."""
    return {"$or": [test(inner) for inner in node.nodes]}


def updated(node: DateCompares) -> Document:
    """A filter on the time of the version."""
    return _compared(node, _INSTANTS, _EITHER_INSTANT)


def both(one: Document, other: Document) -> Document:
    """Filters that both must hold, whatever names they share."""
    return {"$and": [one, other]} if one and other else one or other


def starting(text: str) -> Document:
    """A range: all texts that begin like that."""
    end = _successor(text)
    return {"$gte": text} if end is None else {"$gte": text, "$lt": end}


def _compared(node: Any, table: dict[Prefix, _Bounds], either: dict[Prefix, _Bounds]) -> Document:
    if node.prefix in either:
        bounds = either[node.prefix]
        return {"$or": [{field: {sign: getattr(node, end)}} for field, sign, end in bounds]}
    found: dict[str, Document] = {}
    for field, sign, end in table[node.prefix]:
        found.setdefault(field, {})[sign] = getattr(node, end)
    return found


def _unit(node: QuantityCompares) -> Document:
    if node.system:
        return {"s": {"$eq": node.system}, "c": {"$eq": node.unit}}
    if node.unit:
        return {"$or": [{"c": {"$eq": node.unit}}, {"u": {"$eq": node.unit}}]}
    return {}


def _literally(text: str) -> str:
    """A pattern for the text itself; a pattern ends at a NUL unless it is written out."""
    pattern = re.escape(text).replace("\0", r"\x00")
    if len(pattern.encode()) > _LONGEST_PATTERN:
        raise FhirError(
            Kind.TOO_COSTLY, "The text to look for within others is too long for the store"
        )
    return pattern


def _successor(text: str) -> str | None:
    """The first text after all that begin with `text`; None where there is none."""
    for at in range(len(text) - 1, -1, -1):
        point = ord(text[at])
        if point < sys.maxunicode:
            return text[:at] + chr(0xE000 if point == 0xD7FF else point + 1)
    return None
