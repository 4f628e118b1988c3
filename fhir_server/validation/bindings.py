"""Required bindings: the value must be in the value set.

Source: https://hl7.org/fhir/R4/terminologies.html#required. A value set whose codes cannot be
listed (mime types, UCUM) is not checked against.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from fhir_server.fhir.definitions import required_codes
from fhir_server.validation.places import Place
from fhir_server.validation.primitives import ACCEPTED, Accepts, PrimitiveCheck, Problem, shown
from fhir_server.validation.report import CODED, Report, add

_MAX_LISTED: Final = 25


def bound_codes(value_set: str, check: PrimitiveCheck) -> PrimitiveCheck:
    """A primitive that is also one of the codes of any system of the value set."""
    systems = required_codes(value_set)
    if systems is None:
        return check
    codes = frozenset[str]().union(*systems.values())

    def bound(value: object) -> Problem:
        if isinstance(value, str) and value in codes:
            return None
        return check(value) or f"must be {_one_of(codes)}, not {shown(str(value))}"

    return bound


def accepted_codes(value_set: str, type_: str) -> Accepts | None:
    """What is plainly right of a primitive that is bound."""
    systems = required_codes(value_set)
    if systems is None:
        return ACCEPTED.get(type_)
    return frozenset[str]().union(*systems.values()).__contains__


def _one_of(codes: Iterable[str]) -> str:
    listed = sorted(codes)
    rest = len(listed) - _MAX_LISTED
    return "one of " + ", ".join(listed[:_MAX_LISTED]) + (f" and {rest} more" if rest > 0 else "")


def bound_concepts(
    value_set: str, type_: str
) -> Callable[[Mapping[str, Any], Place, Report], None]:
    """A CodeableConcept with at least one coding in the value set; a Coding or Quantity in it."""
    systems = required_codes(value_set)

    def check(node: Mapping[str, Any], place: Place, report: Report) -> None:
        if systems is None:
            return
        codings = node.get("coding") if type_ == "CodeableConcept" else [node]
        if isinstance(codings, list) and any(_is_in(item, systems) for item in codings):
            return
        if not report.has_wrong(place, CODED):
            add(report, place, f"needs a code of {value_set}: {_allowed(systems)}", "code-invalid")

    return check


def _is_in(coding: object, systems: Mapping[str, frozenset[str]]) -> bool:
    if not isinstance(coding, dict):
        return False
    system, code = coding.get("system"), coding.get("code")
    return isinstance(system, str) and isinstance(code, str) and code in systems.get(system, ())


def _allowed(systems: Mapping[str, frozenset[str]]) -> str:
    return "; ".join(f"{_one_of(codes)} ({system})" for system, codes in sorted(systems.items()))
