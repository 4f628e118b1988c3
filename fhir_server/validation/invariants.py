"""Invariants: the one place where FHIRPath comes in.

Sources: https://hl7.org/fhir/R4/elementdefinition.html (`ElementDefinition.constraint`),
https://hl7.org/fhir/R4/fhirpath.html
"""

from collections.abc import Callable, Sequence

from fhir_server.fhirpath.invariant import compile_invariant
from fhir_server.validation.profiles.items import Item
from fhir_server.validation.report import Report

Holds = Callable[[Item, Report], bool]


def invariant(expression: str, types: Sequence[str]) -> Holds:
    """Does it hold of a value of one of the types?

    Raises:
        ValueError: for an expression that is none, or that names what the types do not have.
    """
    by_type = {name: compile_invariant(expression, name, tuple(types)) for name in types}
    only = by_type[types[0]]
    if len(by_type) == 1:
        return lambda item, report: only(item.value, report.scope, item.sibling)

    def holds(item: Item, report: Report) -> bool:
        chosen = by_type.get(item.type, only)
        return chosen(item.value, report.scope, item.sibling)

    return holds
