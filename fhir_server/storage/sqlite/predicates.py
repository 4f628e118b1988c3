"""What an index entry `e` must be to satisfy a predicate."""

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, singledispatchmethod
from typing import Any, Final

from fhir_server.search.ast import (
    DateCompares,
    DateCovers,
    Near,
    Node,
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
from fhir_server.search.geography import box
from fhir_server.search.values import fold
from fhir_server.storage.sqlite.entries import Hash
from fhir_server.storage.sqlite.sql import MANY, Lists, Sql, among, either, joined, made

# A value's low is never above its high: where only the high is in question, a bound on the low
# changes nothing but lets the index, which goes by the low, serve it.
_DATES: Final = {
    Prefix.EQ: ("e.low >= ? AND e.low < ? AND e.high <= ?", "lhh"),
    Prefix.NE: ("(e.low < ? OR e.high > ?)", "lh"),
    Prefix.GT: ("e.high > ?", "h"),
    Prefix.LT: ("e.low < ?", "l"),
    Prefix.GE: ("(e.high > ? OR e.low >= ?)", "hl"),
    Prefix.LE: ("(e.low < ? OR e.high <= ?)", "lh"),
    Prefix.SA: ("e.low >= ?", "h"),
    Prefix.EB: ("e.low < ? AND e.high <= ?", "ll"),
    Prefix.AP: ("e.low < ? AND e.high > ?", "hl"),
}
INSTANTS: Final = {
    Prefix.EQ: ("{row}.updated >= ? AND {row}.updated < ?", "lh"),
    Prefix.NE: ("({row}.updated < ? OR {row}.updated >= ?)", "lh"),
    Prefix.GT: ("{row}.updated >= ?", "h"),
    Prefix.LT: ("{row}.updated < ?", "l"),
    Prefix.GE: ("{row}.updated >= ?", "l"),
    Prefix.LE: ("{row}.updated < ?", "h"),
    Prefix.SA: ("{row}.updated >= ?", "h"),
    Prefix.EB: ("{row}.updated < ?", "l"),
    Prefix.AP: ("{row}.updated < ? AND {row}.updated >= ?", "hl"),
}
"""`_DATES` for `[updated, updated + 1)`, put so that an index can serve them."""
_NUMBERS: Final = {
    Prefix.EQ: ("e.low >= ? AND e.low < ? AND e.high < ?", "lhh"),
    Prefix.NE: ("(e.low < ? OR e.high >= ?)", "lh"),
    Prefix.GT: ("e.high > ?", "v"),
    Prefix.LT: ("e.low < ?", "v"),
    Prefix.GE: ("e.high >= ?", "v"),
    Prefix.LE: ("e.low <= ?", "v"),
    Prefix.SA: ("e.low > ?", "v"),
    Prefix.EB: ("e.low < ? AND e.high < ?", "vv"),
    Prefix.AP: ("e.low <= ? AND e.high >= ?", "hl"),
}
_SIGNS: Final = {
    StringMode.EQUALS: "=",
    StringMode.GT: ">",
    StringMode.LT: "<",
    StringMode.GE: ">=",
    StringMode.LE: "<=",
}
_FEW: Final = 8
"""Pairs of system and code that are told one by one: JSON costs more to read."""


@dataclass(frozen=True, slots=True)
class AnyOf:
    """One of many codes, targets or addresses, whatever their systems or versions."""

    code: str
    texts: tuple[str, ...]


class Predicates:
    """Tests on entries, with hashes of one file."""

    def __init__(self, hashed: Hash, lists: Lists) -> None:
        self._hashed = hashed
        self._lists = lists

    def check(self, node: Any) -> Sql:
        """As `test`, of an entry that is at hand already: no list is walked for it."""
        match node:
            case AnyOf(texts=texts) | ReferenceTo(targets=texts, version="") if len(texts) > MANY:
                return self._lists.holds("e.text", texts)
            case _:
                return self.test(node)

    def test(self, node: object) -> Sql:
        """What an entry must be."""
        found: Sql = _test_of(type(node))(self, node)
        return found

    def likely(self, node: object) -> Sql | None:
        """What an entry must be by its hashes; None where they are not what is asked by."""
        match node:
            case TokenIs(token=text) | UriIs(uri=text) if text is not None:
                return Sql("e.low = ?", [self._hashed(text)])
            case ReferenceTo(targets=texts) if len(texts) <= _FEW:
                return among("e.low", [self._hashed(text) for text in texts])
            case _:
                return None

    @singledispatchmethod
    def _test(self, node: object) -> Sql:
        raise TypeError(f"{node!r} is not a predicate")

    @_test.register
    def _(self, node: TokenIs) -> Sql:
        parts: list[Sql] = []
        if node.token is not None:
            parts.append(self._is(node.token))
        if node.system is not None:
            parts.append(Sql("e.high = ?", [self._hashed(node.system)]))
        return joined(" AND ", parts) if parts else Sql("1")

    @_test.register
    def _(self, node: TokenIn) -> Sql:
        """However many codes there are, they are two lists, each read once."""
        parts = [self._pairs(node.pairs, "IN")] if node.pairs else []
        if node.systems:
            system = among("e.high", [self._hashed(system) for system in node.systems])
            other = [self._pairs(node.but, "NOT IN")] if node.but else []
            parts.append(joined(" AND ", [system, Sql("e.low <> 0"), *other]))
        found = either(parts)
        return Sql(f"({found.text})", found.arguments)

    def _pairs(self, pairs: Iterable[tuple[str, str]], relation: str) -> Sql:
        hashed = sorted((self._hashed(system), code) for system, code in pairs)
        if len(hashed) <= _FEW:
            values = ", ".join(["(?, ?)"] * len(hashed))
            told = [part for pair in hashed for part in pair]
            listed = Sql(f"(e.high, e.text) {relation} (VALUES {values})", told)
        else:
            listed = self._listed(hashed, relation)
        if relation == "NOT IN":
            return listed
        codes = {self._hashed(code) for _, code in hashed}
        return joined(" AND ", [among("e.low", sorted(codes)), listed])

    def _listed(self, hashed: Sequence[tuple[int, str]], relation: str) -> Sql:
        return Sql(
            f"(e.high, e.text) {relation}"
            " (SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]')"
            " FROM json_each(?))",
            [json.dumps(hashed)],
        )

    @_test.register
    def _(self, node: Near) -> Sql:
        """The box is what the index can serve; the distance has the last word."""
        south, north, ranges = box(node.latitude, node.longitude, node.distance)
        sides = either([Sql("e.high BETWEEN ? AND ?", [*side]) for side in ranges])
        within = Sql(
            "metres(?, ?, e.low, e.high) <= ?", [node.latitude, node.longitude, node.distance]
        )
        return joined(" AND ", [Sql("e.low BETWEEN ? AND ?", [south, north]), sides, within])

    @_test.register
    def _(self, node: TokenLike) -> Sql:
        same = Sql("e.text = ? COLLATE NOCASE", [node.token])
        if node.system is None:
            return same
        return joined(" AND ", [same, Sql("e.high = ?", [self._hashed(node.system)])])

    @_test.register
    def _(self, node: AnyOf) -> Sql:
        if len(node.texts) <= MANY:
            hashes = among("e.low", [self._hashed(text) for text in node.texts])
            return joined(" AND ", [hashes, among("e.text", node.texts)])
        walked = Sql(
            "e.low IN (SELECT value FROM json_each(?))", [_hashes(node.texts, self._hashed)]
        )
        return joined(" AND ", [walked, self._lists.holds("e.text", node.texts)])

    @_test.register
    def _(self, node: ReferenceTo) -> Sql:
        found = self.test(AnyOf(node.code, node.targets))
        if node.version != "":
            found = joined(" AND ", [found, Sql("e.high = ?", [self._hashed(node.version)])])
        return found

    @_test.register
    def _(self, node: UriIs) -> Sql:
        return self._is(node.uri)

    @_test.register
    def _(self, node: UriBelow) -> Sql:
        stem = f"{node.stem}/"
        end = f"{node.stem}0"  # the character after the slash
        return Sql("(e.text = ? OR (e.text >= ? AND e.text < ?))", [node.stem, stem, end])

    @_test.register
    def _(self, node: Or) -> Sql:
        """Of one component of a composite."""
        found = either([self.test(inner) for inner in node.nodes])
        return Sql(f"({found.text})", found.arguments)

    def _is(self, text: str) -> Sql:
        return Sql("e.low = ? AND e.text = ?", [self._hashed(text), text])

    @_test.register
    def _(self, node: StringMatches) -> Sql:
        match node.mode:
            case StringMode.EXACT:
                return Sql("e.text = ? AND e.exact = ?", [made(fold, node.text), node.text])
            case StringMode.CONTAINS:
                return Sql("instr(e.text, ?) > 0", [node.text])
            case StringMode.STARTS:
                end = made(_successor, node.text)
                if end is None:
                    return Sql("e.text >= ?", [node.text])
                return Sql("e.text >= ? AND e.text < ?", [node.text, end])
            case StringMode.ENDS:
                return Sql("substr(e.text, -length(?)) = ?", [node.text, node.text])
            case mode:
                return Sql(f"e.text {_SIGNS[mode]} ?", [node.text])

    @_test.register
    def _(self, node: DateCompares) -> Sql:
        return compared(node, _DATES)

    @_test.register
    def _(self, node: DateCovers) -> Sql:
        return Sql("e.low <= ? AND e.high >= ?", [node.low, node.high])

    @_test.register
    def _(self, node: NumberCompares) -> Sql:
        return compared(node, _NUMBERS)

    @_test.register
    def _(self, node: QuantityCompares) -> Sql:
        parts = [compared(node, _NUMBERS)]
        if node.system != "":
            parts.append(Sql("e.system = ? AND e.text = ?", [node.system, node.unit]))
        elif node.unit != "":
            parts.append(Sql("(e.text = ? OR e.unit = ?)", [node.unit, node.unit]))
        return joined(" AND ", parts)


@lru_cache(maxsize=16)
def _hashes(texts: tuple[str, ...], hashed: Hash) -> str:
    """As one JSON argument; a policy has the same thousands for each query."""
    return json.dumps([hashed(text) for text in texts])


_test_of: Final = Predicates.__dict__["_test"].dispatcher.dispatch
"""By class; asked by way of an instance, each answer would be a new function with a name."""


def table_of(node: Any) -> str:
    if isinstance(node, Or):
        return table_of(node.nodes[0])
    return "entry_string" if isinstance(node, StringMatches) else "entry"


def gathered(nodes: Iterable[Node]) -> "list[Node | AnyOf]":
    """Alternatives that differ in nothing but one text become one."""
    texts: dict[str, dict[str, None]] = {}
    others: list[Node | AnyOf] = []
    for node in nodes:
        match node:
            case TokenIs(code, None, text) | UriIs(code, text) if text is not None:
                texts.setdefault(code, {})[text] = None
            case ReferenceTo(code, targets, ""):
                texts.setdefault(code, {}).update(dict.fromkeys(targets))
            case _:
                others.append(node)
    return [*(AnyOf(code, tuple(found)) for code, found in texts.items()), *others]


def _successor(text: str) -> str | None:
    """The first text after all that begin with `text`; None where there is none."""
    for at in range(len(text) - 1, -1, -1):
        point = ord(text[at])
        if point < sys.maxunicode:
            return text[:at] + chr(0xE000 if point == 0xD7FF else point + 1)
    return None


def compared(
    node: DateCompares | NumberCompares | QuantityCompares,
    table: dict[Prefix, tuple[str, str]],
    row: str = "",
) -> Sql:
    text, order = table[node.prefix]
    bounds = {"l": node.low, "h": node.high, "v": getattr(node, "value", None)}
    return Sql(text.format(row=row), [bounds[name] for name in order])
