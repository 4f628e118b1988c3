"""What an index entry must be to satisfy a predicate, as a filter on its fields.

Every value stands behind an operator (`$eq`, `$gte`, …), so none can be read as one.
"""

import re
import string
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import singledispatch
from typing import Any, Final

from fhir_server.errors import FhirError, Kind
from fhir_server.search.ast import (
    DateCompares,
    DateCovers,
    NumberCompares,
    Or,
    Prefix,
    QuantityCompares,
    ReferenceTo,
    StringMatches,
    StringMode,
    TokenIn,
    TokenIs,
    TokenLike,
    UriBelow,
    UriIs,
)
from fhir_server.search.values import fold
from fhir_server.storage.mongo.documents import RANGES, TEXTS
from fhir_server.storage.mongo.driver import Document

_LONGEST_PATTERN: Final = 30_000
"""Bytes; MongoDB takes 32764 (https://www.mongodb.com/docs/manual/reference/operator/query/regex/)."""

_END: Final = r"(?![\s\S])"
"""The end of a text, whatever it ends with: `$` would also hold before a last line break."""
_LETTERS: Final = frozenset(string.ascii_lowercase)
_SIGNS: Final = {
    StringMode.EQUALS: "$eq",
    StringMode.GT: "$gt",
    StringMode.LT: "$lt",
    StringMode.GE: "$gte",
    StringMode.LE: "$lte",
}

_Bounds = tuple[tuple[str, str, str], ...]
"""Field, operator, and the end of the asked range to hold it against."""

_DATES: Final[Mapping[Prefix, Sequence[_Bounds]]] = {
    # A bound on the low where the high alone is in question changes nothing, as no low is above
    # its high, but lets the index, which goes by the low, serve it.
    Prefix.EQ: [(("l", "$gte", "low"), ("l", "$lt", "high"), ("h", "$lte", "high"))],
    Prefix.NE: [(("l", "$lt", "low"),), (("h", "$gt", "high"),)],
    Prefix.GT: [(("h", "$gt", "high"),)],
    Prefix.LT: [(("l", "$lt", "low"),)],
    Prefix.GE: [(("h", "$gt", "high"),), (("l", "$gte", "low"),)],
    Prefix.LE: [(("l", "$lt", "low"),), (("h", "$lte", "high"),)],
    Prefix.SA: [(("l", "$gte", "high"),)],
    Prefix.EB: [(("l", "$lt", "low"), ("h", "$lte", "low"))],
    Prefix.AP: [(("l", "$lt", "high"), ("h", "$gt", "low"))],
}
_NUMBERS: Final[Mapping[Prefix, Sequence[_Bounds]]] = {
    Prefix.EQ: [(("l", "$gte", "low"), ("l", "$lt", "high"), ("h", "$lt", "high"))],
    Prefix.NE: [(("l", "$lt", "low"),), (("h", "$gte", "high"),)],
    Prefix.GT: [(("h", "$gt", "value"),)],
    Prefix.LT: [(("l", "$lt", "value"),)],
    Prefix.GE: [(("h", "$gte", "value"),)],
    Prefix.LE: [(("l", "$lte", "value"),)],
    Prefix.SA: [(("l", "$gt", "value"),)],
    Prefix.EB: [(("l", "$lt", "value"), ("h", "$lt", "value"))],
    Prefix.AP: [(("l", "$lte", "high"), ("h", "$gte", "low"))],
}
_INSTANTS: Final[Mapping[Prefix, Sequence[_Bounds]]] = {
    Prefix.EQ: [(("updated", "$gte", "low"), ("updated", "$lt", "high"))],
    Prefix.NE: [(("updated", "$lt", "low"),), (("updated", "$gte", "high"),)],
    Prefix.GT: [(("updated", "$gte", "high"),)],
    Prefix.LT: [(("updated", "$lt", "low"),)],
    Prefix.GE: [(("updated", "$gte", "low"),)],
    Prefix.LE: [(("updated", "$lt", "high"),)],
    Prefix.SA: [(("updated", "$gte", "high"),)],
    Prefix.EB: [(("updated", "$lt", "low"),)],
    Prefix.AP: [(("updated", "$gte", "low"), ("updated", "$lt", "high"))],
}
"""`_DATES` for `[updated, updated + 1)`."""


@dataclass(frozen=True, slots=True)
class Canonically:
    """A canonical reference to one of the urls, without a version or with one of these."""

    code: str
    urls: tuple[str, ...]
    versions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class At:
    """A position that is one of these, in degrees."""

    code: str
    places: tuple[tuple[float, float], ...]


def array_of(node: Any) -> str:
    """The array with the entries that a predicate is about."""
    if isinstance(node, Or):
        return array_of(node.nodes[0])
    return RANGES if isinstance(node, _RANGED) else TEXTS


_RANGED: Final = (DateCompares, DateCovers, NumberCompares, QuantityCompares, At)


Alternatives = list[Document]
"""Filters on the fields of one entry; one of them must hold."""


@singledispatch
def test(node: object) -> Alternatives:
    """What an entry of the predicate's parameter must be."""
    raise TypeError(f"{node!r} is not a predicate")


@test.register
def _(node: TokenIs) -> Alternatives:
    fields = {"c": node.token, "s": node.system}
    return [{name: {"$eq": text} for name, text in fields.items() if text is not None}]


@test.register
def _(node: TokenIn) -> Alternatives:
    """However many codes there are, they are a list or two for each system."""
    listed = [{"s": {"$eq": s}, "c": {"$in": codes}} for s, codes in _by_system(node.pairs)]
    but = dict(_by_system(node.but))
    others = [{"s": {"$eq": s}, "c": {"$nin": ["", *but.get(s, ())]}} for s in node.systems]
    return [*listed, *others]


def _by_system(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, list[str]]]:
    found: dict[str, list[str]] = {}
    for system, code in sorted(pairs):
        found.setdefault(system, []).append(code)
    return [*found.items()]


@test.register
def _(node: At) -> Alternatives:
    found: dict[float, list[float]] = {}
    for latitude, longitude in node.places:
        found.setdefault(latitude, []).append(longitude)
    return [{"l": {"$eq": one}, "h": {"$in": others}} for one, others in found.items()]


@test.register
def _(node: ReferenceTo) -> Alternatives:
    version = {"v": {"$eq": node.version}} if node.version else {}
    return [{"c": {"$in": [*node.targets]}, **version}]


@test.register
def _(node: UriIs) -> Alternatives:
    return [{"c": {"$eq": node.uri}}]


@test.register
def _(node: UriBelow) -> Alternatives:
    end = f"{node.stem}0"  # the character after the slash
    return [{"c": {"$eq": node.stem}}, {"c": {"$gte": f"{node.stem}/", "$lt": end}}]


@test.register
def _(node: StringMatches) -> Alternatives:
    match node.mode:
        case StringMode.EXACT:
            return [{"c": {"$eq": fold(node.text)}, "x": {"$eq": node.text}}]
        case StringMode.CONTAINS:
            return [{"c": {"$regex": _literally(node.text)}}]
        case StringMode.ENDS:
            return [{"c": {"$regex": _literally(node.text) + _END}}]
        case StringMode.STARTS:
            return [{"c": starting(node.text)}]
        case mode:
            return [{"c": {_SIGNS[mode]: node.text}}]


@test.register
def _(node: TokenLike) -> Alternatives:
    system = {} if node.system is None else {"s": {"$eq": node.system}}
    return [{"c": {"$regex": f"^{_in_any_case(node.token)}{_END}"}, **system}]


@test.register
def _(node: DateCompares) -> Alternatives:
    return _compared(node, _DATES)


@test.register
def _(node: DateCovers) -> Alternatives:
    return [{"l": {"$lte": node.low}, "h": {"$gte": node.high}}]


@test.register
def _(node: Canonically) -> Alternatives:
    return [{"c": {"$in": [*node.urls]}, "v": {"$in": ["", *node.versions]}}]


@test.register
def _(node: NumberCompares) -> Alternatives:
    return _compared(node, _NUMBERS)


@test.register
def _(node: QuantityCompares) -> Alternatives:
    units = _units(node)
    return [{**bounds, **unit} for bounds in _compared(node, _NUMBERS) for unit in units]


@test.register
def _(node: Or) -> Alternatives:
    """Of one component of a composite."""
    return [one for inner in node.nodes for one in test(inner)]


def updated(node: DateCompares) -> Alternatives:
    """Filters on the time of the version."""
    return _compared(node, _INSTANTS)


def starting(text: str) -> Document:
    """A range: all texts that begin like that."""
    end = _successor(text)
    return {"$gte": text} if end is None else {"$gte": text, "$lt": end}


def _compared(node: Any, table: Mapping[Prefix, Sequence[_Bounds]]) -> Alternatives:
    found: Alternatives = []
    for bounds in table[node.prefix]:
        found.append({})
        for field, sign, end in bounds:
            found[-1].setdefault(field, {})[sign] = getattr(node, end)
    return found


def _units(node: QuantityCompares) -> Alternatives:
    if node.system:
        return [{"s": {"$eq": node.system}, "c": {"$eq": node.unit}}]
    if node.unit:
        return [{"c": {"$eq": node.unit}}, {"u": {"$eq": node.unit}}]
    return [{}]


def _literally(text: str) -> str:
    """A pattern for the text itself; a pattern ends at a NUL unless it is written out."""
    return _bounded(re.escape(text).replace("\0", r"\x00"))


def _in_any_case(text: str) -> str:
    """A pattern for the text with each of a to z small or capital, and no other letter so."""
    return _bounded(
        "".join(
            f"[{char}{char.upper()}]" if char in _LETTERS else _literally(char) for char in text
        )
    )


def _bounded(pattern: str) -> str:
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
