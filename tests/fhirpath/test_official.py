"""The constraints of R4's and UK Core's own definitions, on official and synthetic resources.

The nightly form asks every resource of the packages, this one some of each type.
"""

import os
from collections import Counter
from typing import Any, Final

import pytest

from fhir_server.fhirpath.compile import Compiler
from fhir_server.fhirpath.invariant import Invariant, compile_invariant
from fhir_server.fhirpath.items import is_primitive
from fhir_server.fhirpath.parse import parse
from fhir_server.fhirpath.plan import Scope
from fhir_server.fhirpath.problems import BadExpression, FhirPathError
from tests.fhirpath.official import (
    Constraint,
    Place,
    base_invariants,
    constraints,
    places,
    resources,
)
from tests.fhirpath.oracle import FAILED, theirs
from tests.support import needs_package

_NIGHTLY: Final = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
_RESOURCES_OF_A_TYPE: Final = 100_000 if _NIGHTLY else 10
_ASKED_OF_FHIRPATHPY: Final = 500 if _NIGHTLY else 25
"""Times that each constraint is asked of one type: fhirpathpy takes a millisecond each."""

WRONG_IN_R4: Final = {
    "cid-0": "ChargeItemDefinition has no name in R4, only a title",
    "inv-1": "written for AllergyIntolerance; it stands on the extension's root, which has no"
    " substanceExposureRisk",
}
"""Constraints on an element that is not there: the compiler must say so."""

_UK_CORE_IDS: Final = ("UKCore-", "Extension-UKCore-")
BROKEN: Final[dict[str, tuple[str, ...]]] = {
    # R4's logical models that are neither abstract nor based on anything.
    "sdf-4": ("Definition", "Event", "FiveWs", "Request"),
    # UK Core's files have no ids on the elements of the differential.
    "sdf-14": _UK_CORE_IDS,
    "sdf-17": _UK_CORE_IDS,
}
"""Official resources that break R4's rules: key -> how their ids begin."""

DIFFERENT: Final = {
    "dom-3": "fhirpathpy has as() raise on several items; R4's own dom-3 filters with it",
    "ele-1": "fhirpathpy counts no child that is a primitive with extensions only",
}
"""Where fhirpathpy and the compiler do not agree."""


def _wrong(constraint: Constraint) -> bool:
    names = ("substanceExposureRisk", "name.matches")
    return constraint.key in WRONG_IN_R4 and constraint.expression.startswith(names)


def _others(types: tuple[str, ...], name: str) -> tuple[str, ...]:
    return tuple(other for other in types if other != name)


@needs_package
def test_every_constraint_compiles_for_the_types_that_it_stands_on() -> None:
    asked = Counter[str]()
    for constraint in constraints():
        for name in constraint.types:
            asked[constraint.key] += 1
            if name == "ChargeItemDefinition" and constraint.key in WRONG_IN_R4:
                continue
            if not _wrong(constraint):
                # The compiler itself, so that none gets by with fhirpathpy.
                types = frozenset(constraint.types)
                Compiler(types).plan(parse(constraint.expression), types)
                compile_invariant(constraint.expression, name, _others(constraint.types, name))
    assert len(asked) > 180
    assert asked.total() > 1500


@needs_package
@pytest.mark.parametrize(
    ("key", "type_name"), [("cid-0", "ChargeItemDefinition"), ("inv-1", "Extension")]
)
def test_a_constraint_on_an_element_that_is_not_there_is_found(key: str, type_name: str) -> None:
    (expression,) = {
        one.expression for one in constraints() if one.key == key and one.types == (type_name,)
    }
    with pytest.raises(BadExpression, match="is not an element of"):
        compile_invariant(expression, type_name)


@needs_package
def test_no_official_or_synthetic_resource_breaks_an_invariant_of_its_base_types() -> None:
    invariants = {
        name: [(key, compile_invariant(text, name)) for key, text in of_type.items()]
        for name, of_type in base_invariants().items()
        if name != "ChargeItemDefinition"
    }
    asked, broken = Counter[str](), []
    for resource in resources(_RESOURCES_OF_A_TYPE):
        for place in places(resource):
            for key, invariant in invariants.get(place.item.type, ()):
                asked[key] += 1
                if not (invariant.holds(place.item, _scope(place)) or _is_known(key, resource)):
                    broken.append((key, resource.get("id"), place.item))
    assert not broken
    assert asked.total() > 30_000
    assert len(asked) > 40


def _is_known(key: str, resource: dict[str, Any]) -> bool:
    return str(resource.get("id", "")).startswith(BROKEN.get(key, ()))


def _scope(place: Place) -> Scope:
    return Scope(place.resource.value, place.root.value)


@needs_package
def test_the_compiler_and_fhirpathpy_agree_on_official_and_synthetic_resources() -> None:
    invariants = _by_type()
    asked, different = Counter[tuple[str, str]](), []
    for resource in resources(_RESOURCES_OF_A_TYPE):
        for place in places(resource):
            for key, invariant in invariants.get(place.item.type, ()):
                asked[key, place.item.type] += 1
                if asked[key, place.item.type] <= _ASKED_OF_FHIRPATHPY:
                    different += _differences(key, invariant, place)
    assert {key for key, _ in different} <= DIFFERENT.keys(), different[:3]
    assert len({key for key, _ in asked}) > 90


def _by_type() -> dict[str, list[tuple[str, Invariant]]]:
    found: dict[str, list[tuple[str, Invariant]]] = {}
    for constraint in constraints():
        for name in constraint.types:
            if is_primitive(name) or _wrong(constraint) or constraint.key == "cid-0":
                continue
            invariant = compile_invariant(
                constraint.expression, name, _others(constraint.types, name)
            )
            if (constraint.key, invariant) not in found.setdefault(name, []):
                found[name].append((constraint.key, invariant))
    return found


def _differences(key: str, invariant: Invariant, place: Place) -> list[tuple[str, object]]:
    try:
        found = invariant.outcome(place.item.value, _scope(place))
    except FhirPathError:
        return [] if _theirs(invariant, place) == FAILED else [(key, place.item)]
    ours = [] if found is None else [found]
    return [] if ours == _theirs(invariant, place) else [(key, place.item)]


def _theirs(invariant: Invariant, place: Place) -> object:
    return theirs(
        invariant.expression,
        place.item.value,
        place.item.type,
        place.resource.value,
        place.root.value,
    )
