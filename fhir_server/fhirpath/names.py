"""Which elements an expression names at its top: `a` and `b` of `a.exists() implies b.c = 1`."""

from collections.abc import Iterator

from fhir_server.fhirpath.ast import (
    Binary,
    Call,
    External,
    Index,
    Node,
    Sign,
    Step,
    TypeTest,
    Variable,
)
from fhir_server.fhirpath.fixed import OF_TYPE, PER_ITEM, nodes


def of_focus(node: Node) -> Iterator[str]:
    """Elements of the focus; not those that are asked of the items of another collection."""
    match node:
        case Step(source=None | Variable(name="this"), name=name):
            yield name
        case Step(source=source) if source is not None:
            yield from of_focus(source)
        case Call(source=source, name=function, arguments=arguments):
            yield from () if source is None else of_focus(source)
            is_of_items = source is not None and function in PER_ITEM
            for argument in () if is_of_items or function in OF_TYPE else arguments:
                yield from of_focus(argument)
        case Index(source=left, index=right) | Binary(left=left, right=right):
            yield from of_focus(left)
            yield from of_focus(right)
        case Sign(operand=inner) | TypeTest(left=inner):
            yield from of_focus(inner)


def of_resource(node: Node) -> Iterator[str]:
    """Elements of `%resource`, wherever it stands."""
    for one in nodes(node):
        if isinstance(one, Step) and one.source == External("resource"):
            yield one.name
