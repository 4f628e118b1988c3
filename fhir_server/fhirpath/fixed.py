"""Which parts of an expression are the same for every element of a resource.

dom-3 asks of each contained resource whether it is in what `%resource.descendants()` refers to:
such a part is evaluated once, or a large resource would cost the square of its size.
"""

from collections.abc import Iterator
from typing import Final

from fhir_server.fhirpath.ast import (
    Binary,
    Call,
    Empty,
    External,
    Given,
    Index,
    Literal,
    Moment,
    Node,
    QuantityLiteral,
    Sign,
    Step,
    TypeTest,
    Variable,
)

PER_ITEM: Final = frozenset({"where", "select", "all", "exists", "repeat", "iif", "aggregate"})
"""Functions whose arguments are evaluated with an item as focus."""
OF_TYPE: Final = frozenset({"is", "as", "ofType"})
"""Functions whose argument is the name of a type, and not a step."""
_CONSTANTS: Final = (Literal, Empty, Moment, QuantityLiteral)


def is_fixed(node: Node) -> bool:
    """Whether the result depends only on what `%` names, not on the focus."""
    match node:
        case Variable() | Given():
            return False
        case Step(source=source):
            return source is not None and is_fixed(source)
        case Call(source=source, name=name, arguments=arguments):
            return source is not None and is_fixed(source) and _are_fixed(name, arguments)
        case Index(source=source, index=index):
            return is_fixed(source) and is_fixed(index)
        case Sign(operand=operand):
            return is_fixed(operand)
        case Binary(left=left, right=right):
            return is_fixed(left) and is_fixed(right)
        case TypeTest(left=left):
            return is_fixed(left)
    return True


def _are_fixed(name: str, arguments: tuple[Node, ...]) -> bool:
    if name in OF_TYPE:
        return True
    return all(map(_is_free if name in PER_ITEM else is_fixed, arguments))


def _is_free(argument: Node) -> bool:
    """Whether a criterion looks only at its item; `$index` might be that of another."""
    return not any(isinstance(node, Variable) and node.name != "this" for node in nodes(argument))


def mentions_context(node: Node) -> bool:
    return any(isinstance(one, External) and one.name == "context" for one in nodes(node))


def is_trivial(node: Node) -> bool:
    return isinstance(node, (*_CONSTANTS, External))


def nodes(node: Node) -> Iterator[Node]:
    """A node and all below it."""
    yield node
    for inner in _inner(node):
        yield from nodes(inner)


def _inner(node: Node) -> tuple[Node, ...]:
    match node:
        case Step(source=source):
            return (source,) if source else ()
        case Call(source=source, arguments=arguments):
            return (source, *arguments) if source else arguments
        case Index(source=source, index=index):
            return (source, index)
        case Sign(operand=operand):
            return (operand,)
        case Binary(left=left, right=right):
            return (left, right)
        case TypeTest(left=left):
            return (left,)
    return ()
