"""From the search AST to SQL.

Every criterion becomes a condition on `r.rid`. The one that promises the fewest resources leads,
as an IN that SQLite walks by value; the others probe the candidates, one seek each. A hash is
followed by the text itself where it is at hand.
"""

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import singledispatchmethod
from typing import Any, Final

from fhir_server.search.ast import (
    LAST_UPDATED,
    And,
    DateCompares,
    Everything,
    IdIn,
    Missing,
    Node,
    Not,
    Nothing,
    NumberCompares,
    Or,
    Prefix,
    QuantityCompares,
    Query,
    ReferenceTo,
    SortKey,
    StringMatches,
    StringMode,
    TokenIs,
    UriIs,
)
from fhir_server.search.values import fold
from fhir_server.storage.interface import Position
from fhir_server.storage.sqlite.entries import Hash

NumberOf = Callable[[str, str], int]
"""The number of (resource type, parameter code), 0 for one without entries."""


@dataclass(slots=True)
class Sql:
    """A piece of SQL with its arguments in order."""

    text: str
    arguments: list[Any] = field(default_factory=list)


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
_INSTANTS: Final = {
    Prefix.EQ: ("r.updated >= ? AND r.updated < ?", "lh"),
    Prefix.NE: ("(r.updated < ? OR r.updated >= ?)", "lh"),
    Prefix.GT: ("r.updated >= ?", "h"),
    Prefix.LT: ("r.updated < ?", "l"),
    Prefix.GE: ("r.updated >= ?", "l"),
    Prefix.LE: ("r.updated < ?", "h"),
    Prefix.SA: ("r.updated >= ?", "h"),
    Prefix.EB: ("r.updated < ?", "l"),
    Prefix.AP: ("r.updated < ? AND r.updated >= ?", "hl"),
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
_BY_RESOURCE: Final = "e INDEXED BY sqlite_autoindex_{table}_1"
"""A probe of one candidate goes by the primary key; SQLite, left alone, may walk a value."""


@dataclass(frozen=True, slots=True)
class _AnyOf:
    """One of many codes, targets or addresses, whatever their systems or versions."""

    code: str
    texts: tuple[str, ...]


class Compiler:
    """Compiles queries of one resource type."""

    def __init__(self, query: Query, hashed: Hash, number: NumberOf) -> None:
        self._query = query
        self._hashed = hashed
        self._number = number
        self._nodes = query.where.nodes if isinstance(query.where, And) else (query.where,)
        leader = min(self._nodes, key=_breadth, default=Everything())
        self._leader: Final = leader if _breadth(leader) < _UNFIT else None

    def total(self) -> Sql:
        where = self._where()
        return Sql(f"SELECT count(*) FROM resource r WHERE {where.text}", where.arguments)

    def page(self, count: int, after: Position | None) -> Sql:
        """Rows of seq, rid and the sort values, one more than `count` to tell if there is more."""
        source = self._found() if self._computed else Sql("resource")
        conditions = [] if self._computed else [self._where()]
        if after is not None:
            conditions.append(self._beyond(after))
        where = _joined(" AND ", conditions) if conditions else Sql("1")
        keys = "".join(f", {self._place(i)}" for i in range(len(self._query.sort)))
        return Sql(
            f"SELECT r.seq, r.rid{keys} FROM {source.text} r WHERE {where.text}"
            f" ORDER BY {self._order()} LIMIT ?",
            [*source.arguments, *where.arguments, count + 1],
        )

    @property
    def _computed(self) -> bool:
        """Whether it is sorted by what stands in the index, not in `resource` itself."""
        return any(key.code not in _COLUMNS for key in self._query.sort)

    def _found(self) -> Sql:
        """The matches with their sort values, worked out once for each."""
        where = self._where()
        keys = [self._sort_value(key) for key in self._query.sort]
        columns = "".join(f", {key.text} AS k{i}" for i, key in enumerate(keys))
        return Sql(
            # The LIMIT keeps SQLite from working the columns out again wherever they are named.
            f"(SELECT r.seq, r.rid{columns} FROM resource r WHERE {where.text} LIMIT -1)",
            [arg for key in keys for arg in key.arguments] + where.arguments,
        )

    def _place(self, i: int) -> str:
        """Where the value of the i-th sort key stands."""
        return f"r.k{i}" if self._computed else _COLUMNS[self._query.sort[i].code]

    def _where(self) -> Sql:
        nodes = list(self._nodes)
        parts = [Sql("r.type = ? AND NOT r.deleted", [self._query.resource_type])]
        if self._leader is not None:
            nodes.remove(self._leader)
            parts.append(self._leading(self._leader))
        parts += [self._condition(node) for node in nodes]
        return _joined(" AND ", parts)

    def _leading(self, node: Node) -> Sql:
        if isinstance(node, Nothing):
            return self._condition(node)
        if isinstance(node, IdIn):
            among = _among("i.id", node.ids)
            return Sql(
                f"r.rid IN (SELECT i.rid FROM resource i WHERE i.type = ? AND {among.text})",
                [self._query.resource_type, *among.arguments],
            )
        alternatives = _gathered(node.nodes) if isinstance(node, Or) else [node]
        selects = [self._select(alternative) for alternative in alternatives]
        if len(selects) > _MANY:
            return self._condition(node)
        found = _joined(" UNION ", selects)
        return Sql(f"r.rid IN ({found.text})", found.arguments)

    def _select(self, node: "Node | _AnyOf") -> Sql:
        assert isinstance(node, _LEADERS)  # noqa: S101 - _breadth lets no other through
        test = self._test(node)
        return Sql(
            f"SELECT e.rid FROM {_table(node)} e WHERE e.parameter = ? AND {test.text}",
            [self._number(self._query.resource_type, node.code), *test.arguments],
        )

    def _condition(self, node: "Node | _AnyOf") -> Sql:
        match node:
            case Everything():
                return Sql("1")
            case Nothing():
                return Sql("0")
            case And(nodes):
                inner_nodes = [self._condition(inner) for inner in nodes]
                return _joined(" AND ", inner_nodes) if inner_nodes else Sql("1")
            case Or(nodes):
                return self._either(nodes)
            case Not(inner):
                negated = self._condition(inner)
                return Sql(f"NOT ({negated.text})", negated.arguments)
            case IdIn(ids):
                return _among("r.id", ids)
            case Missing(code, kind):
                return self._missing(code, kind)
            case DateCompares(code=code) if code == LAST_UPDATED:
                return _compared(node, _INSTANTS)
            case _:
                return self._exists(node)

    def _either(self, nodes: Iterable[Node]) -> Sql:
        """Alternatives on one parameter share one probe."""
        probes: dict[tuple[str, str], list[Sql]] = {}
        parts: list[Sql] = []
        for node in _gathered(nodes):
            if isinstance(node, _PROBED) and node.code != LAST_UPDATED:
                probes.setdefault((_table(node), node.code), []).append(self._test(node))
            else:
                parts.append(self._condition(node))
        parts += [
            self._probe(table, code, _balanced_or(tests)) for (table, code), tests in probes.items()
        ]
        return _balanced_or(parts)

    def _exists(self, node: Any) -> Sql:
        return self._probe(_table(node), node.code, self._test(node))

    def _missing(self, code: str, kind: str) -> Sql:
        if code == LAST_UPDATED:
            return Sql("0")
        found = self._probe("entry_string" if kind == "string" else "entry", code, Sql("1"))
        return Sql(f"NOT {found.text}", found.arguments)

    def _probe(self, table: str, code: str, test: Sql) -> Sql:
        return Sql(
            f"EXISTS (SELECT 1 FROM {table} {_BY_RESOURCE.format(table=table)}"
            f" WHERE e.rid = r.rid AND e.parameter = ? AND ({test.text}))",
            [self._number(self._query.resource_type, code), *test.arguments],
        )

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
        return _joined(" AND ", parts) if parts else Sql("1")

    @_test.register
    def _(self, node: _AnyOf) -> Sql:
        hashes = _among("e.low", [self._hashed(text) for text in node.texts])
        return _joined(" AND ", [hashes, _among("e.text", node.texts)])

    @_test.register
    def _(self, node: ReferenceTo) -> Sql:
        found = self._test(_AnyOf(node.code, node.targets))
        if node.version:
            found = _joined(" AND ", [found, Sql("e.high = ?", [self._hashed(node.version)])])
        return found

    @_test.register
    def _(self, node: UriIs) -> Sql:
        return self._is(node.uri)

    def _is(self, text: str) -> Sql:
        return Sql("e.low = ? AND e.text = ?", [self._hashed(text), text])

    @_test.register
    def _(self, node: StringMatches) -> Sql:
        match node.mode:
            case StringMode.EXACT:
                return Sql("e.text = ? AND e.exact = ?", [fold(node.text), node.text])
            case StringMode.CONTAINS:
                return Sql("instr(e.text, ?) > 0", [node.text])
            case StringMode.STARTS:
                end = _successor(node.text)
                if end is None:
                    return Sql("e.text >= ?", [node.text])
                return Sql("e.text >= ? AND e.text < ?", [node.text, end])

    @_test.register
    def _(self, node: DateCompares) -> Sql:
        return _compared(node, _DATES)

    @_test.register
    def _(self, node: NumberCompares) -> Sql:
        return _compared(node, _NUMBERS)

    @_test.register
    def _(self, node: QuantityCompares) -> Sql:
        parts = [_compared(node, _NUMBERS)]
        if node.system:
            parts.append(Sql("e.system = ? AND e.text = ?", [node.system, node.unit]))
        elif node.unit:
            parts.append(Sql("(e.text = ? OR e.unit = ?)", [node.unit, node.unit]))
        return _joined(" AND ", parts)

    def _sort_value(self, key: SortKey) -> Sql:
        if key.code in _COLUMNS:
            return Sql(_COLUMNS[key.code])
        table = "entry_string" if key.kind == "string" else "entry"
        column = _SORT_COLUMNS[key.kind][key.descending]
        # The + keeps SQLite from walking the parameter's index in order until the row turns up.
        return Sql(
            f"(SELECT {'max' if key.descending else 'min'}(+e.{column}) FROM {table} e"
            " WHERE e.rid = r.rid AND e.parameter = ?)",
            [self._number(self._query.resource_type, key.code)],
        )

    def _order(self) -> str:
        keys = [
            f"{self._plainly}{self._place(i)} {_direction(key)}"
            if key.code in _COLUMNS
            else f"{self._place(i)} IS NULL, {self._place(i)} {_direction(key)}"
            for i, key in enumerate(self._query.sort)
        ]
        return ", ".join([*keys, f"r.rid {'DESC' if self._backwards else 'ASC'}"])

    @property
    def _plainly(self) -> str:
        """Where a criterion leads, the few that it leaves are sorted: no walk in the order."""
        return "+" if self._leader is not None else ""

    @property
    def _backwards(self) -> bool:
        """Equals follow the last key's direction, so that one index gives the whole order."""
        return bool(self._query.sort) and self._query.sort[-1].descending

    def _beyond(self, after: Position) -> Sql:
        """Rows that come later in the order than the row at `after`."""
        *values, rid = after
        alternatives: list[Sql] = []
        equal: list[Sql] = []
        for i, (key, value) in enumerate(zip(self._query.sort, values, strict=True)):
            if value is not None:
                alternatives.append(_joined(" AND ", [*equal, self._later(i, key, value)]))
            equal.append(Sql(f"{self._plainly}{self._place(i)} IS ?", [value]))
        further = Sql(f"r.rid {'<' if self._backwards else '>'} ?", [rid])
        alternatives.append(_joined(" AND ", [*equal, further]))
        beyond = _joined(" OR ", alternatives)
        if not self._query.sort or self._query.sort[0].code not in _COLUMNS:
            return beyond
        # Says nothing new, but lets SQLite begin in the index where the last page ended.
        sign = "<=" if self._query.sort[0].descending else ">="
        bound = Sql(f"{self._plainly}{self._place(0)} {sign} ?", [values[0]])
        return _joined(" AND ", [bound, beyond])

    def _later(self, i: int, key: SortKey, value: Any) -> Sql:
        sign = "<" if key.descending else ">"
        later = Sql(f"{self._plainly}{self._place(i)} {sign} ?", [value])
        if key.code in _COLUMNS:
            return later
        return Sql(f"({later.text} OR {self._place(i)} IS NULL)", later.arguments)


def _direction(key: SortKey) -> str:
    return "DESC" if key.descending else "ASC"


_COLUMNS: Final = {"_id": "r.id", LAST_UPDATED: "r.updated"}
"""Sort keys that every resource has, in its own row."""

_SORT_COLUMNS: Final = {
    "string": ("text", "text"),
    "token": ("text", "text"),
    "reference": ("text", "text"),
    "uri": ("text", "text"),
    "date": ("low", "high"),
    "number": ("low", "high"),
    "quantity": ("low", "high"),
}
"""The column to sort by, ascending and descending."""

_LEADERS: Final = (TokenIs, ReferenceTo, UriIs, StringMatches, DateCompares, _AnyOf)
_PROBED: Final = (*_LEADERS, NumberCompares, QuantityCompares)
_UNFIT: Final = 100
_MANY: Final = 100
"""Beyond so many, alternatives are not walked one by one, and lists are one JSON argument:
SQLite bounds the selects of a UNION, the depth of an expression and the number of variables."""


def _table(node: Any) -> str:
    return "entry_string" if isinstance(node, StringMatches) else "entry"


def _gathered(nodes: Iterable[Node]) -> "list[Node | _AnyOf]":
    """Alternatives that differ in nothing but one text become one."""
    texts: dict[str, dict[str, None]] = {}
    others: list[Node | _AnyOf] = []
    for node in nodes:
        match node:
            case TokenIs(code, None, str(text)) | UriIs(code, text):
                texts.setdefault(code, {})[text] = None
            case ReferenceTo(code, targets, ""):
                texts.setdefault(code, {}).update(dict.fromkeys(targets))
            case _:
                others.append(node)
    return [*(_AnyOf(code, tuple(found)) for code, found in texts.items()), *others]


def _successor(text: str) -> str | None:
    """The first text after all that begin with `text`; None where there is none."""
    for at in range(len(text) - 1, -1, -1):
        point = ord(text[at])
        if point < sys.maxunicode:
            return text[:at] + chr(0xE000 if point == 0xD7FF else point + 1)
    return None


def _breadth(node: Node) -> int:
    """How many resources a criterion is likely to leave, as a rank."""
    match node:
        case Nothing() | IdIn():
            return 0
        case ReferenceTo(targets=targets):
            return 1 if len(targets) <= 8 else 3
        case TokenIs(code=code, token=token) if token is not None:
            return 2 if code == "identifier" else 10
        case UriIs():
            return 5
        case StringMatches(mode=StringMode.STARTS | StringMode.EXACT):
            return 4
        case Or(nodes):
            ranks = [_breadth(inner) for inner in nodes]
            fit = all(isinstance(inner, _LEADERS) for inner in nodes)
            return max(ranks) if fit else _UNFIT
        case DateCompares(code=code) if code != LAST_UPDATED:
            return 20
        case _:
            return _UNFIT


def _compared(
    node: DateCompares | NumberCompares | QuantityCompares,
    table: dict[Prefix, tuple[str, str]],
) -> Sql:
    text, order = table[node.prefix]
    bounds = {"l": node.low, "h": node.high, "v": getattr(node, "value", None)}
    return Sql(text, [bounds[name] for name in order])


def _joined(operator: str, parts: list[Sql]) -> Sql:
    if len(parts) == 1:
        return parts[0]
    bracketed = operator != " UNION "
    texts = [f"({part.text})" if bracketed else part.text for part in parts]
    return Sql(operator.join(texts), [arg for part in parts for arg in part.arguments])


def _balanced_or(parts: list[Sql]) -> Sql:
    """Bracketed by halves: SQLite bounds the depth of an expression."""
    if len(parts) <= 2:
        return _joined(" OR ", parts) if parts else Sql("0")
    half = len(parts) // 2
    return _joined(" OR ", [_balanced_or(parts[:half]), _balanced_or(parts[half:])])


def _among(column: str, values: Sequence[Any]) -> Sql:
    if len(values) > _MANY:
        return Sql(f"{column} IN (SELECT value FROM json_each(?))", [json.dumps(values)])
    return Sql(f"{column} IN ({', '.join('?' * len(values))})", list(values))
