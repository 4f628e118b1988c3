"""SQL of pages whose shape was met before: searches that differ in whom and what they name.

To make the SQL of a small search takes longer than to run it. It is a function of the search
alone, and of the numbers of its parameters: what it names stands in the arguments.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple

from fhir_server.search.ast import (
    And,
    Everything,
    Missing,
    Node,
    Not,
    Or,
    Query,
    ReferenceTo,
    TokenIs,
)
from fhir_server.storage.sqlite.entries import Hash, ParameterNumbers
from fhir_server.storage.sqlite.leading import conjuncts
from fhir_server.storage.sqlite.sql import Sql

_MOST_SHAPES: Final = 512
_SEVERAL: Final = 8
"""Names in one criterion beyond which it is compiled in another way."""
_MOST_NODES: Final = 16

Shape = tuple[Any, ...]


class Slot(NamedTuple):
    """The argument at `place` is the text with that number, or its hash."""

    place: int
    text: int
    hashed: bool


class _Known(NamedTuple):
    sql: str
    arguments: tuple[Any, ...]
    slots: tuple[Slot, ...]


class Shapes:
    """The SQL of first pages on one connection, by their shape."""

    def __init__(self, hashed: Hash, numbers: ParameterNumbers) -> None:
        self._hashed = hashed
        self._numbers = numbers
        self._known: dict[Shape, _Known] = {}
        self._age = numbers.age

    def page(
        self, query: Query, count: int, compiled: Callable[[Query], tuple[Sql, bool]]
    ) -> Sql | None:
        """The SQL of the first page; None where there is no saying what the shape is.

        Args:
            compiled: SQL whose last argument is one more than the count, and whether it is good
                for as long as no number is forgotten.
        """
        split = _split(query)
        if split is None:
            return None
        shape, texts = split
        if self._age != self._numbers.age:
            # Of a commit that was rolled back, whosever it was, the numbers go to others.
            self._age = self._numbers.age
            self._known.clear()
        known = self._known.get(shape)
        if known is None:
            known = self._learn(shape, query, len(texts), compiled)
        if known is None:
            return None
        arguments = [*known.arguments, count + 1]
        for place, text, hashed in known.slots:
            arguments[place] = self._hashed(texts[text]) if hashed else texts[text]
        return Sql(known.sql, arguments)

    def _learn(
        self,
        shape: Shape,
        query: Query,
        size: int,
        compiled: Callable[[Query], tuple[Sql, bool]],
    ) -> _Known | None:
        """What the same search comes to that names nothing which anybody can."""
        names = [f"\x00{number}" for number in range(size)]
        sql, is_lasting = compiled(_named(query, names))
        if not is_lasting or self._age != self._numbers.age:
            return None
        *arguments, _ = sql.arguments
        slots = tuple(_slots(arguments, names, self._hashed))
        if len(self._known) >= _MOST_SHAPES:
            self._known.clear()
        found = self._known[shape] = _Known(sql.text, tuple(arguments), slots)
        return found


def _slots(arguments: Iterable[Any], names: Iterable[str], hashed: Hash) -> Iterator[Slot]:
    slots: dict[Any, tuple[int, bool]] = {}
    for number, name in enumerate(names):
        slots |= {name: (number, False), hashed(name): (number, True)}
    for place, argument in enumerate(arguments):
        if argument in slots:
            yield Slot(place, *slots[argument])


def _split(query: Query) -> tuple[Shape, list[str]] | None:
    """The shape, and the texts that are in it; None for what is not so plain."""
    texts: list[str] = []
    shape: list[Any] = [query.resource_type, query.sort]
    for node in conjuncts(query.where):
        match node:
            case ReferenceTo(code, targets, "") if len(targets) <= _SEVERAL:
                texts += targets
                shape.append((code, len(targets)))
            case TokenIs(code, system, str(token)) if token:
                texts.append(token)
                shape.append((code, system, ""))
            case _ if _is_plain(node):
                shape.append(node)
            case _:
                return None
    return tuple(shape), texts


def _is_plain(node: Node) -> bool:
    """Whether it is small: it is a part of the shape as it is."""
    match node:
        case Or(nodes):
            return len(nodes) <= _MOST_NODES and all(type(one) is TokenIs for one in nodes)
        case Not(inner):
            return type(inner) is Missing
        case _:
            return type(node) in (TokenIs, Missing, Everything)


def _named(query: Query, names: list[str]) -> Query:
    """The same search, of other names."""
    left = iter(names)
    nodes: list[Node] = []
    for node in conjuncts(query.where):
        match node:
            case ReferenceTo(code, targets, "") if len(targets) <= _SEVERAL:
                nodes.append(ReferenceTo(code, tuple(next(left) for _ in targets)))
            case TokenIs(code, system, str(token)) if token:
                nodes.append(TokenIs(code, system, next(left)))
            case _:
                nodes.append(node)
    where = nodes[0] if len(nodes) == 1 else And(tuple(nodes))
    return Query(query.resource_type, where, query.sort)
