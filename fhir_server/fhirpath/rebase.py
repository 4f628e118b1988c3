"""An argument whose focus is a whole collection, as that of `iif` is."""

from dataclasses import replace

from fhir_server.fhirpath.ast import (
    Binary,
    Call,
    Given,
    Index,
    Node,
    Sign,
    Step,
    TypeTest,
    Variable,
)
from fhir_server.fhirpath.fixed import OF_TYPE, PER_ITEM


def rebased(node: Node, focus: Given) -> Node:
    """The expression with `focus` wherever it begins at its focus."""
    match node:
        case Variable(name="this"):
            return focus
        case Step(source=source):
            return replace(node, source=_source(source, focus))
        case Call():
            return _call(node, focus)
        case Index(source=source, index=index):
            return Index(rebased(source, focus), rebased(index, focus))
        case Sign(operand=operand):
            return replace(node, operand=rebased(operand, focus))
        case Binary(left=left, right=right):
            return Binary(node.operator, rebased(left, focus), rebased(right, focus))
        case TypeTest(left=left):
            return replace(node, left=rebased(left, focus))
    return node


def _source(source: Node | None, focus: Given) -> Node:
    return focus if source is None else rebased(source, focus)


def _call(node: Call, focus: Given) -> Call:
    """Criteria have foci of their own, and the name of a type is no step."""
    arguments = node.arguments
    if node.name not in PER_ITEM | OF_TYPE:
        arguments = tuple(rebased(one, focus) for one in arguments)
    return replace(node, source=_source(node.source, focus), arguments=arguments)
