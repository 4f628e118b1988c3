"""From nodes to conditions on a resource.

The criterion that promises the fewest resources leads, as an IN that SQLite walks by value; the
others probe the candidates, one seek each. A hash is followed by the text itself where it is at
hand. The steps of a chain are joins, not queries within queries, which SQLite takes only so deep.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import count
from typing import Any, Final, NamedTuple

from fhir_server.search.ast import (
    LAST_UPDATED,
    And,
    Chain,
    CompositeMatches,
    Contains,
    DateCompares,
    DateCovers,
    Differs,
    Everything,
    Has,
    IdIn,
    Missing,
    Node,
    Not,
    Nothing,
    NumberCompares,
    Or,
    QuantityCompares,
    ReferenceTo,
    TextMatches,
    TokenLike,
    UriBelow,
    component,
    conjuncts,
)
from fhir_server.storage.sqlite import fulltext
from fhir_server.storage.sqlite.entries import GROUP, IS_CONTAINED, Hash
from fhir_server.storage.sqlite.leading import LEADERS, asked, leader
from fhir_server.storage.sqlite.predicates import (
    INSTANTS,
    AnyOf,
    Predicates,
    compared,
    gathered,
    table_of,
)
from fhir_server.storage.sqlite.sql import MANY, Lists, Sql, among, either, every, joined

NumberOf = Callable[[str, str], int]
"""The number of (resource type, parameter code), 0 for one without entries."""

_PROBED: Final = (*LEADERS, TokenLike, UriBelow, DateCovers, NumberCompares, QuantityCompares)


class _Hop(NamedTuple):
    """A step of a chain, with those that follow it: tables to join, and on what."""

    tables: list[str]
    conditions: list[Sql]


_SEVERAL: Final = 8
"""Targets beyond which each is looked up by itself, up to `MANY`."""


class Conditions:
    """Compiles what resources of one type must satisfy.

    Args:
        resource_type: `Container#Type` for contained resources.
        lists: takes those that are too long for an argument.
        row: what the row of the table `resource`, or `contained`, is called.
        names: numbers for the rows of further steps.
    """

    def __init__(
        self,
        resource_type: str,
        hashed: Hash,
        number: NumberOf,
        lists: Lists,
        row: str = "r",
        names: Iterator[int] | None = None,
    ) -> None:
        self._type = resource_type
        self._table = "contained" if "#" in resource_type else "resource"
        self._hashed = hashed
        self._number = number
        self._row = row
        self._names = count(1) if names is None else names
        self._lists = lists
        self._predicates = Predicates(hashed, lists)

    def among(self, rows: Any, node: Node) -> Sql:
        """Those of the rows that satisfy the node, where all are current, and of the type."""
        told = Sql(f"{self._row}.rid IN (SELECT value FROM json_each(?))", [rows])
        return every([told, *map(self._condition, conjuncts(node))])

    def where(self, node: Node, *, some: bool = False) -> Sql:
        """Current resources of the type that satisfy the node; `some`: the first are enough."""
        nodes = list(conjuncts(node))
        parts: list[Sql] = []
        leading = leader(node, some=some)
        if leading is not None:
            nodes.remove(leading)
            parts.append(self._leading(leading, some=some))
        # Rows whose numbers are known are read at once: the + keeps SQLite from the index of types.
        by_number = "+" if parts and parts[0].text.startswith(f"{self._row}.rid IN (") else ""
        of_type = Sql(f"{by_number}{self._row}.type = ?{self._current}", [self._type])
        return every([of_type, *parts, *map(self._condition, nodes)])

    @property
    def _current(self) -> str:
        """A contained resource is there as long as what contains it."""
        return f" AND NOT {self._row}.deleted" if self._table == "resource" else ""

    def _leading(self, node: Node, *, some: bool) -> Sql:
        if isinstance(node, Nothing):
            return self._condition(node)
        likely = self._predicates.likely(node) if some else None
        if likely is not None:
            return self._likely(node, likely)
        if isinstance(node, IdIn):
            ids = among("i.id", node.ids)
            return Sql(
                f"{self._row}.rid IN"
                f" (SELECT i.rid FROM {self._table} i WHERE i.type = ? AND {ids.text})",
                [self._type, *ids.arguments],
            )
        alternatives = gathered(node.nodes) if isinstance(node, Or) else [node]
        selects = [self._select(alternative) for alternative in alternatives]
        if len(selects) > MANY:
            return self._condition(node)
        found = joined(" UNION ", selects)
        return Sql(f"{self._row}.rid IN ({found.text})", found.arguments)

    def _likely(self, node: Any, test: Sql) -> Sql:
        """By hashes alone, which the index holds; the text is compared where a row is tried."""
        found = Sql(
            f"{self._row}.rid IN (SELECT e.rid FROM {_by_value('e')}"
            f" WHERE e.parameter = ? AND {test.text})",
            [self._number(self._type, node.code), *test.arguments],
        )
        return every([found, self._exists(node)])

    def _select(self, node: Node | AnyOf) -> Sql:
        match node:
            case Chain():
                return self._select_by_chain(node)
            case Has():
                return self._select_by_has(node)
            case CompositeMatches():
                return self._select_composite(node)
            case Contains():
                return self._select_container(node)
            case TextMatches():
                return fulltext.select(node)
            case ReferenceTo(version="") if _SEVERAL < len(node.targets) <= MANY:
                return self._select_by_targets(node)
        assert isinstance(node, LEADERS)  # noqa: S101 - `leader` lets no other through
        test = self._predicates.test(node)
        return Sql(
            f"SELECT e.rid FROM {table_of(node)} e WHERE e.parameter = ? AND {test.text}",
            [self._number(self._type, node.code), *test.arguments],
        )

    def _select_by_targets(self, node: ReferenceTo) -> Sql:
        """From each target to what refers to it: two lists would be compared with each other."""
        values = ", ".join(["(?, ?)"] * len(node.targets))
        told = [part for target in node.targets for part in (self._hashed(target), target)]
        return Sql(
            f"SELECT e.rid FROM (VALUES {values}) w CROSS JOIN {_by_value('e')}"
            " WHERE e.parameter = ? AND e.low = w.column1 AND e.text = w.column2",
            [*told, self._number(self._type, node.code)],
        )

    def _select_by_chain(self, node: Chain) -> Sql:
        """From the resources at the chain's end to those that refer to them."""
        end = self._beyond(node.target)
        found = end.where(node.node)
        if node.canonical:
            return self._select_by_address(node, end, found)
        refers = _refers("e", end._row, node.forms)
        return Sql(
            f"SELECT e.rid FROM resource {end._row}"
            f" CROSS JOIN {_by_value('e')} WHERE {found.text}"
            f" AND e.parameter = ? AND {refers.text}",
            [*found.arguments, self._number(self._type, node.code), *refers.arguments],
        )

    def _select_by_has(self, node: Has) -> Sql:
        """From the resources that refer to those that they refer to."""
        source = self._beyond(node.source)
        found = source.where(node.node)
        if node.canonical:
            return self._select_by_canonical(node, source, found)
        id_of = _id_in_reference("e.text", node.forms)
        return Sql(
            f"SELECT t.rid FROM resource {source._row} CROSS JOIN {_by_resource('entry')}"
            f" CROSS JOIN resource t WHERE {found.text} AND e.rid = {source._row}.rid"
            f" AND e.parameter = ? AND t.type = ? AND t.id = {id_of.text}",
            [
                *found.arguments,
                self._number(node.source, node.code),
                self._type,
                *id_of.arguments,
            ],
        )

    def _select_container(self, node: Contains) -> Sql:
        """From contained resources to what contains them."""
        if not self._ever_contains(node):
            return Sql("SELECT 0 WHERE 0")
        inner = self._within(node)
        found = inner.where(node.node)
        return Sql(
            f"SELECT {inner._row}.container FROM contained {inner._row} WHERE {found.text}",
            found.arguments,
        )

    def _contains(self, node: Contains) -> Sql:
        """Of one candidate: among what it contains."""
        if not self._ever_contains(node):
            return Sql("0")
        inner = self._within(node)
        found = inner._condition(node.node)
        source = f"contained {inner._row} INDEXED BY contained_by_container"
        return Sql(
            f"EXISTS (SELECT 1 FROM {source} WHERE {inner._row}.container = {self._row}.rid"
            f" AND {inner._row}.type = ? AND ({found.text}))",
            [inner._type, *found.arguments],
        )

    def _ever_contains(self, node: Contains) -> bool:
        """Most types never contain most others, and a search may ask all of them."""
        return self._number(f"{self._type}#{node.resource_type}", IS_CONTAINED) != 0

    def _within(self, node: Contains) -> "Conditions":
        return self._beyond(f"{self._type}#{node.resource_type}")

    def _select_by_address(self, node: Chain, end: "Conditions", found: Sql) -> Sql:
        """From the resources at the chain's end by their urls to those that name them."""
        means = self._means("e", "u", end._row, node.target)
        return Sql(
            f"SELECT e.rid FROM resource {end._row} CROSS JOIN {_by_resource('entry', 'u')}"
            f" CROSS JOIN {_by_value('e')} WHERE {found.text}"
            f" AND u.rid = {end._row}.rid AND e.parameter = ? AND {means.text}",
            [*found.arguments, self._number(self._type, node.code), *means.arguments],
        )

    def _select_by_canonical(self, node: Has, source: "Conditions", found: Sql) -> Sql:
        """From the resources that name others by their urls to those others."""
        means = self._means("e", "u", "u", self._type)
        return Sql(
            f"SELECT u.rid FROM resource {source._row} CROSS JOIN {_by_resource('entry')}"
            f" CROSS JOIN {_by_value('u')} WHERE {found.text}"
            f" AND e.rid = {source._row}.rid AND e.parameter = ? AND {means.text}",
            [*found.arguments, self._number(node.source, node.code), *means.arguments],
        )

    def _means(self, entry: str, url: str, row: str, resource_type: str) -> Sql:
        """The entry, a canonical reference, names the url, and if any the version, of the row."""
        return Sql(
            f"{url}.parameter = ? AND {url}.low = {entry}.low AND {url}.text = {entry}.text"
            f" AND ({entry}.high = 0 OR EXISTS (SELECT 1 FROM {_by_resource('entry', 'n')}"
            f" WHERE n.rid = {row}.rid AND n.parameter = ? AND n.low = {entry}.high))",
            [self._number(resource_type, "url"), self._number(resource_type, "version")],
        )

    def _condition(self, node: Node | AnyOf) -> Sql:
        match node:
            case Everything():
                return Sql("1")
            case Nothing():
                return Sql("0")
            case And(nodes):
                return every([self._condition(inner) for inner in nodes])
            case Or(nodes):
                return self._either(nodes)
            case Not(inner):
                negated = self._condition(inner)
                return Sql(f"NOT ({negated.text})", negated.arguments)
            case _:
                return self._criterion(node)

    def _criterion(self, node: Any) -> Sql:
        match node:
            case IdIn(ids):
                place = f"{self._row}.id"
                return self._lists.holds(place, ids) if len(ids) > MANY else among(place, ids)
            case Missing(code, kind):
                return self._missing(code, kind)
            case Chain() | Has():
                return self._linked(node)
            case CompositeMatches():
                return self._composite(node)
            case Contains():
                return self._contains(node)
            case TextMatches():
                found = fulltext.select(node)
                return Sql(f"{self._row}.rid IN ({found.text})", found.arguments)
            case Differs(code, inner):
                test = self._predicates.check(inner)
                return self._probe(table_of(inner), code, Sql(f"NOT ({test.text})", test.arguments))
            case DateCovers(code, low, high) if code == LAST_UPDATED:
                return Sql(
                    f"{self._row}.updated <= ? AND {self._row}.updated + 1 >= ?", [low, high]
                )
            case DateCompares(code=code) if code == LAST_UPDATED:
                return compared(node, INSTANTS, self._row)
            case _:
                return self._exists(node)

    def _either(self, nodes: Iterable[Node]) -> Sql:
        """Alternatives on one parameter share one probe."""
        probes: dict[tuple[str, str], list[Sql]] = {}
        parts: list[Sql] = []
        for node in gathered(nodes):
            if isinstance(node, _PROBED) and node.code != LAST_UPDATED:
                probes.setdefault((table_of(node), node.code), []).append(
                    self._predicates.check(node)
                )
            else:
                parts.append(self._condition(node))
        parts += [
            self._probe(table, code, either(tests)) for (table, code), tests in probes.items()
        ]
        return either(parts)

    def _exists(self, node: Any) -> Sql:
        return self._probe(table_of(node), node.code, self._predicates.check(node))

    def _missing(self, code: str, kind: str) -> Sql:
        if code == LAST_UPDATED:
            return Sql("0")
        if kind == "text":
            some = fulltext.present(code, self._row)
            return Sql(f"NOT ({some.text})", some.arguments)
        if kind == "composite":
            code = component(code, 0)
        found = self._probe("entry_string" if kind == "string" else "entry", code, Sql("1"))
        return Sql(f"NOT {found.text}", found.arguments)

    def _probe(self, table: str, code: str, test: Sql) -> Sql:
        return Sql(
            f"EXISTS (SELECT 1 FROM {_by_resource(table)}"
            f" WHERE e.rid = {self._row}.rid AND e.parameter = ? AND ({test.text}))",
            [self._number(self._type, code), *test.arguments],
        )

    def _composite(self, node: CompositeMatches) -> Sql:
        """Of one candidate: an element that is found for every component."""
        parts = [
            self._part(node, index, f"e.ordinal >> {GROUP}", f"e.rid = {self._row}.rid AND ")
            for index in asked(node)
        ]
        found = joined(" INTERSECT ", parts)
        return Sql(f"EXISTS ({found.text})", found.arguments)

    def _select_composite(self, node: CompositeMatches) -> Sql:
        """What the first component finds, kept where the same element fits the others."""
        leading, *further = asked(node)
        first = self._part(node, leading, f"e.rid, e.ordinal >> {GROUP} AS element", "")
        others = [
            self._part(node, index, "1", f"e.rid = o.rid AND e.ordinal >> {GROUP} = o.element AND ")
            for index in further
        ]
        where = every([Sql(f"EXISTS ({one.text})", one.arguments) for one in others])
        return Sql(
            f"SELECT o.rid FROM ({first.text}) o WHERE {where.text}",
            [*first.arguments, *where.arguments],
        )

    def _part(self, node: CompositeMatches, index: int, columns: str, beside: str) -> Sql:
        inner = node.nodes[index]
        test = self._predicates.test(inner)
        table = table_of(inner)
        source = _by_resource(table) if beside else f"{table} e"
        return Sql(
            f"SELECT {columns} FROM {source} WHERE {beside}e.parameter = ? AND ({test.text})",
            [self._number(self._type, component(node.code, index)), *test.arguments],
        )

    def _linked(self, node: Chain | Has) -> Sql:
        """Of one candidate: along the steps to where they lead."""
        hop = self._hop(node)
        where = joined(" AND ", hop.conditions)
        return Sql(
            f"EXISTS (SELECT 1 FROM {' CROSS JOIN '.join(hop.tables)} WHERE {where.text})",
            where.arguments,
        )

    def _hop(self, node: Chain | Has) -> _Hop:
        match node:
            case Chain(target=landing):
                end = self._beyond(landing)
                step = self._by_canonical if node.canonical else self._forward
                hop = step(node, end)
            case Has(source=landing):
                end = self._beyond(landing)
                back = self._by_address if node.canonical else self._backward
                hop = back(node, end)
        for inner in conjuncts(node.node):
            if isinstance(inner, Chain | Has):
                further = end._hop(inner)
                hop.tables.extend(further.tables)
                hop.conditions.extend(further.conditions)
            else:
                hop.conditions.append(end._condition(inner))
        return hop

    def _forward(self, node: Chain, end: "Conditions") -> _Hop:
        row, entry = end._row, f"e_{end._row}"
        id_of = _id_in_reference(f"{entry}.text", node.forms)
        return _Hop(
            [_by_resource("entry", entry), f"resource {row}"],
            [
                Sql(
                    f"{entry}.rid = {self._row}.rid AND {entry}.parameter = ?",
                    [self._number(self._type, node.code)],
                ),
                Sql(
                    f"{row}.type = ? AND {row}.id = {id_of.text} AND NOT {row}.deleted",
                    [node.target, *id_of.arguments],
                ),
            ],
        )

    def _backward(self, node: Has, end: "Conditions") -> _Hop:
        row, entry = end._row, f"e_{end._row}"
        refers = _refers(entry, self._row, node.forms)
        return _Hop(
            [_by_value(entry), f"resource {row}"],
            [
                Sql(
                    f"{entry}.parameter = ? AND {refers.text}",
                    [self._number(node.source, node.code), *refers.arguments],
                ),
                Sql(f"{row}.rid = {entry}.rid AND NOT {row}.deleted"),
            ],
        )

    def _by_canonical(self, node: Chain, end: "Conditions") -> _Hop:
        row, entry, url = end._row, f"e_{end._row}", f"u_{end._row}"
        return _Hop(
            [_by_resource("entry", entry), _by_value(url), f"resource {row}"],
            [
                Sql(
                    f"{entry}.rid = {self._row}.rid AND {entry}.parameter = ?",
                    [self._number(self._type, node.code)],
                ),
                self._means(entry, url, url, node.target),
                Sql(f"{row}.rid = {url}.rid AND NOT {row}.deleted"),
            ],
        )

    def _by_address(self, node: Has, end: "Conditions") -> _Hop:
        row, entry, url = end._row, f"e_{end._row}", f"u_{end._row}"
        return _Hop(
            [_by_resource("entry", url), _by_value(entry), f"resource {row}"],
            [
                Sql(
                    f"{url}.rid = {self._row}.rid AND {entry}.parameter = ?",
                    [self._number(node.source, node.code)],
                ),
                self._means(entry, url, self._row, self._type),
                Sql(f"{row}.rid = {entry}.rid AND NOT {row}.deleted"),
            ],
        )

    def _beyond(self, resource_type: str) -> "Conditions":
        """Conditions on what a step leads to."""
        row = f"r{next(self._names)}"
        return Conditions(resource_type, self._hashed, self._number, self._lists, row, self._names)


def _by_resource(table: str, name: str = "e") -> str:
    """A probe of one candidate goes by the primary key; SQLite, left alone, may walk a value."""
    return f"{table} {name} INDEXED BY sqlite_autoindex_{table}_1"


def _by_value(name: str) -> str:
    return f"entry {name} INDEXED BY entry_by_value"


def _refers(entry: str, row: str, forms: tuple[str, ...]) -> Sql:
    """The entry refers to the resource."""
    hashes = ", ".join(f"keyed_hash(? || {row}.id)" for _ in forms)
    texts = ", ".join(f"? || {row}.id" for _ in forms)
    return Sql(f"{entry}.low IN ({hashes}) AND {entry}.text IN ({texts})", [*forms, *forms])


def _id_in_reference(text: str, forms: tuple[str, ...]) -> Sql:
    """What follows the form in the text of an entry."""
    cases = " ".join(f"WHEN substr({text}, 1, ?) = ? THEN substr({text}, ?)" for _ in forms)
    return Sql(
        f"CASE {cases} END", [part for form in forms for part in (len(form), form, len(form) + 1)]
    )
