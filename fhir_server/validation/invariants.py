"""Invariants: the one place where FHIRPath comes in.

Sources: https://hl7.org/fhir/R4/elementdefinition.html (`ElementDefinition.constraint`),
https://hl7.org/fhir/R4/fhirpath.html
"""

from collections.abc import Callable, Sequence
from functools import lru_cache

from fhir_server.fhirpath import names
from fhir_server.fhirpath.invariant import Invariant, compile_invariant
from fhir_server.fhirpath.parse import parse
from fhir_server.validation.places import Place, expression
from fhir_server.validation.profiles.items import Item
from fhir_server.validation.report import Note, Report

Holds = Callable[[Item, Report], bool]


def invariant(text: str, types: Sequence[str]) -> Holds:
    """Does it hold of a value of one of the types?

    Raises:
        ValueError: for an expression that is none, or that names what the types do not have.
    """
    by_type = {name: compile_invariant(text, name, tuple(types)) for name in types}
    only = by_type[types[0]]
    if len(by_type) == 1:
        return _alone(only)

    def holds(item: Item, report: Report) -> bool:
        chosen = by_type.get(item.type, only)
        return chosen(item.value, report.scope, item.sibling)

    return holds


def _alone(only: Invariant) -> Holds:
    look = only.surely
    if look is None:
        return lambda item, report: only(item.value, report.scope, item.sibling)

    def holds(item: Item, report: Report) -> bool:
        value = item.value
        met = type(value) is dict and look(value)
        return met or only(value, report.scope, item.sibling)

    return holds


def looks(text: str, place: Place, report: Report) -> Note:
    """What an invariant looks at, for `echoes.told_once`.

    `status = 'final' implies …` cannot hold where the status is missing or mistyped: what the
    expression looks at is mended first. There is that error, so nothing gets in by this.
    """
    of_focus, of_resource = _looked_at(text)
    at = (expression(place), of_focus), (expression(report.place or place), of_resource)
    return Note(at)


@lru_cache(maxsize=1024)
def _looked_at(text: str) -> tuple[frozenset[str], frozenset[str]]:
    """Paths from the focus, with '' for itself, and those from the resource."""
    found = names.paths(parse(text))
    of_resource = {".".join(path[1:]) for path in found if path[0] == names.RESOURCE}
    of_focus = {".".join(path) for path in found if path[0] != names.RESOURCE}
    return frozenset({"", *of_focus}), frozenset(of_resource)
