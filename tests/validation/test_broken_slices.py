"""A slice that is broken in a resource that keeps its profile is told at its place.

The slices come from the differentials (`tests.validation.slices`): of the project's profiles, of
R4's own vital signs (https://hl7.org/fhir/R4/bp.html) and of UK Core.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import pytest

from fhir_server.fhir import json
from fhir_server.fhir.definitions import PROFILES
from fhir_server.validation.checker import Checker, Policy
from tests.validation.mutating import DROPPED, NO_CODE, NOWHERE, changed
from tests.validation.slices import Mark, Path, SlicedElement, slices, values_at

Json = dict[str, Any]
Steps = tuple[str | int, ...]
R4: Final = "http://hl7.org/fhir/StructureDefinition"
UK_CORE: Final = "https://fhir.hl7.org.uk/StructureDefinition"
LOINC: Final = "http://loinc.org"
CHECKER: Final = Checker(policy=Policy({}))
"""Every profile as grave as it says itself."""


def _observation(profile: str, code: Json, **more: Any) -> Json:
    category = {"system": "http://terminology.hl7.org/CodeSystem/observation-category"}
    return {
        "resourceType": "Observation",
        "meta": {"profile": [profile]},
        "status": "final",
        "category": [{"coding": [category | {"code": "vital-signs"}]}],
        "code": code,
        "subject": {"reference": "Patient/p"},
        "effectiveDateTime": "2026-05-01",
        **more,
    }


def _loinc(*codes: str, **more: Any) -> Json:
    return {"coding": [{"system": LOINC, "code": code} for code in codes], **more}


def _quantity(value: int, code: str, unit: str = "") -> Json:
    ucum = "http://unitsofmeasure.org"
    return {"valueQuantity": {"value": value, "unit": unit or code, "system": ucum, "code": code}}


def _pressure(value: int) -> Json:
    return _quantity(value, "mm[Hg]", "millimeter of mercury")


def _identified(type_name: str, system: str, **more: Any) -> Json:
    return {
        "resourceType": type_name,
        "meta": {"profile": [f"{UK_CORE}/UKCore-{type_name}"]},
        "identifier": [{"system": f"https://fhir.nhs.uk/Id/{system}", "value": "9990000018"}],
        **more,
    }


BP: Final = _observation(
    f"{R4}/bp",
    _loinc("85354-9"),
    component=[
        {"code": _loinc("8480-6")} | _quantity(120, "mm[Hg]"),
        {"code": _loinc("8462-4")} | _quantity(80, "mm[Hg]"),
    ],
)
WEIGHT: Final = _observation(f"{R4}/bodyweight", _loinc("29463-7"), **_quantity(60, "kg"))
RATE: Final = _observation(f"{R4}/heartrate", _loinc("8867-4"), **_quantity(60, "/min"))
AVERAGE: Final = _observation(
    f"{UK_CORE}/UKCore-Observation-AverageBloodPressure",
    _loinc("96607-7"),
    component=[
        {"code": _loinc("96608-5", text="Systolic blood pressure")} | _pressure(120),
        {"code": _loinc("96609-3", text="Diastolic blood pressure")} | _pressure(80),
    ],
)
OTHERS: Final = {
    "bp": BP,
    "bodyweight": WEIGHT,
    "heartrate": RATE,
    "average": AVERAGE,
    "patient": _identified("Patient", "nhs-number"),
    "organization": _identified("Organization", "ods-organization-code", name="Synthetic"),
    "location": _identified("Location", "ods-site-code", name="Synthetic"),
}
RESOURCES: Final[dict[str, Json]] = OTHERS | {
    f"{path.parts[-3]}/{path.stem}": json.decode_resource(path.read_bytes())
    for path in sorted(PROFILES.glob("*/examples/valid-*.json"))
}


@dataclass(frozen=True, slots=True)
class Break:
    """What is put at `path`, and the place and rule that are broken by it."""

    name: str
    path: Steps
    value: object
    place: str
    rule: str


@dataclass(frozen=True, slots=True)
class _Array:
    """The sliced element where it stands in a resource; `is_alone` where nothing is beside it."""

    of: SlicedElement
    path: Steps
    place: str
    items: list[Any]
    is_alone: bool

    def broken(self) -> Iterator[Break]:
        members = [n for n, item in enumerate(self.items) if self.of.has(item)]
        if not members:
            return
        first = members[0]
        if self.of.least:
            yield from self._too_few(members)
        if self.of.most == "1":
            yield self._whole("two of", [*self.items, self.items[first]], "max")
        for need in self.of.needs:
            yield from self._without(first, need)

    def _too_few(self, members: list[int]) -> Iterator[Break]:
        rest = [item for n, item in enumerate(self.items) if n not in members]
        if rest or not self.is_alone:
            yield self._whole("none of", rest or DROPPED, "min")
        for mark in self.of.marks:
            at = (members[0], *_steps(self.items[members[0]], mark))
            other = changed(self.items, at, _other(mark))
            yield self._whole(f"another {'.'.join(mark.path) or 'value'} in", other, "min")

    def _whole(self, name: str, value: object, rule: str) -> Break:
        return Break(f"{name} {self.of.name}", self.path, value, self.place, rule)

    def _without(self, first: int, need: Path) -> Iterator[Break]:
        """One required element of an item, unless the item is told by it."""
        if any(mark.path[: len(need)] == need for mark in self.of.marks):
            return
        *before, last = need
        name = last.removesuffix("[x]")
        (holder,) = values_at(self.items[first], before)
        (key,) = [each for each in holder if each == name or _is_choice(last, each)]
        place = ".".join([f"{self.place}[{first}]", *map(_base_name, [*before, name])])
        path = (*self.path, first, *before, key)
        yield Break(f"no {'.'.join(need)} in {self.of.name}", path, DROPPED, place, "min")


def _is_choice(name: str, key: str) -> bool:
    return name.endswith("[x]") and key.startswith(name.removesuffix("[x]"))


def _base_name(step: str) -> str:
    """`valueQuantity` is written `value` in FHIRPath; no other choice is within a slice here."""
    return "value" if step.startswith("value") else step


def _steps(item: Any, mark: Mark) -> Iterator[str | int]:
    """The path of the first value that bears the mark, with its indices."""
    for step in mark.path:
        yield step
        item = item[step]
        if isinstance(item, list):
            yield 0
            item = item[0]


def _other(mark: Mark) -> object:
    if isinstance(mark.value, str):
        return NO_CODE if not mark.value.startswith("http") else NOWHERE
    return {"coding": [{"system": NOWHERE, "code": NO_CODE}]}


def breaks(resource: Json) -> Iterator[Break]:
    for canonical in resource["meta"].get("profile", ()):
        for of in _all_slices(canonical):
            for array in _arrays(resource, of):
                yield from array.broken()
    for number, extension in enumerate(resource.get("extension", ())):
        for of in _all_slices(extension["url"]):
            items = extension.get("extension", [])
            place = f"{resource['resourceType']}.extension[{number}].extension"
            yield from _Array(of, ("extension", number, "extension"), place, items, False).broken()


def _all_slices(canonical: str) -> Iterator[SlicedElement]:
    """Those of the profiles that it is made from as well."""
    definition = CHECKER.library.definition(canonical)
    while definition is not None:
        yield from slices(definition)
        definition = CHECKER.library.definition(definition["baseDefinition"])


def _arrays(resource: Json, of: SlicedElement) -> Iterator[_Array]:
    """Where each element on the way stands once."""
    node: Any = resource
    for step in of.path[:-1]:
        node = node.get(step) if isinstance(node, dict) else None
    items = node.get(of.path[-1]) if isinstance(node, dict) else None
    if isinstance(items, list):
        place = ".".join([resource["resourceType"], *of.path])
        yield _Array(of, of.path, place, items, len(node) == 1)


CASES: Final = [
    pytest.param(resource, each, id=f"{name}: {each.name}")
    for name, resource in RESOURCES.items()
    for each in breaks(resource)
]
SLICED: Final = {
    "competence",
    "kw-care-plan",
    "kw-consent",
    "kw-discharge-plan",
    "kw-episode-of-care",
    "kw-event-message",
    "kw-goal",
    "kw-inpatient-encounter",
    "kw-patient",
    "kw-rating-flag",
    "kw-related-person",
    "kw-step-down-plan",
    "kw-transition-plan",
    "parental-responsibility",
}
"""The project's profiles that have slices which an example uses."""


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_broken_below_is_right(name: str) -> None:
    assert CHECKER.check(OTHERS[name]).errors == []


@pytest.mark.parametrize(("resource", "broken"), CASES)
def test_a_broken_slice_is_told_at_its_place(resource: Json, broken: Break) -> None:
    found = CHECKER.check(changed(resource, broken.path, broken.value)).errors
    assert (broken.place, broken.rule) in {(each.expression, each.rule) for each in found}
    elsewhere = [each for each in found if not _is_near(str(each.expression), broken.place)]
    assert [each for each in elsewhere if each.code != "invariant"] == []


def _is_near(place: str, broken: str) -> bool:
    """In what is broken, or around it: a quantity without its code is in no value set."""
    return place.startswith(broken) or broken.startswith(f"{place}.")


def test_the_slices_of_each_profile_are_tried() -> None:
    tried = {name.partition("/")[0] for name, each in RESOURCES.items() if any(breaks(each))}
    assert tried == {*OTHERS, *SLICED}
    assert len(CASES) > 150
