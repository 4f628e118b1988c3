"""Displays of codes: a wrong one is a warning where what the code is called is known.

Source: https://hl7.org/fhir/R4/datatypes.html#Coding.
"""

from typing import Final

import pytest

from fhir_server.errors import Issue
from fhir_server.terminology.known import KnownCodes
from fhir_server.terminology.library import Library, Nowhere
from fhir_server.terminology.packaged import Packaged
from fhir_server.terminology.service import Terminology
from fhir_server.validation.checker import Checker
from fhir_server.validation.settling import Settler
from tests.fhir_operations.terms import SYSTEM, TREE, below, value_set
from tests.validation.profiles import checker, profile

MARITAL: Final = "http://terminology.hl7.org/CodeSystem/v3-MaritalStatus"
RATING: Final = "https://keyworking.example/fhir/CodeSystem/dsr-rating"
UK_ROLE: Final = "https://fhir.hl7.org.uk/CodeSystem/UKCore-AdditionalPersonRelationshipRole"
PLACE: Final = "Basic.code.coding[0].display"


def told(coding: dict[str, str], by: Checker | None = None) -> list[Issue]:
    resource = {"resourceType": "Basic", "code": {"coding": [coding]}}
    return [one for one in (by or checker()).check(resource).issues if one.rule == "display"]


def coded(system: str, code: str, display: str, **more: str) -> dict[str, str]:
    return {"system": system, "code": code, "display": display, **more}


@pytest.mark.parametrize(
    ("system", "code", "right"),
    [(MARITAL, "M", "Married"), (RATING, "amber", "Amber"), (UK_ROLE, "Agent", "Agent of patient")],
)
def test_a_wrong_display_is_a_warning_that_names_the_right_one(
    system: str, code: str, right: str
) -> None:
    (issue,) = told(coded(system, code, "Otherwise"))
    assert issue.text == f"The display 'Otherwise' is not one of '{code}': '{right}'"
    assert (issue.severity, issue.code, issue.expression) == ("warning", "invalid", PLACE)


@pytest.mark.parametrize(
    "coding",
    [
        coded(MARITAL, "M", "Married"),
        coded(MARITAL, "M", "  mARRIED "),
        coded("http://snomed.info/sct", "1", "Anything"),
        coded(MARITAL, "none-such", "Anything"),
        coded(MARITAL, "M", "Wed", version="1900"),
        {"system": MARITAL, "code": "M"},
        {"code": "M", "display": "Wed"},
        {"system": MARITAL, "display": "Wed"},
    ],
)
def test_what_is_right_or_not_known_is_not_told(coding: dict[str, str]) -> None:
    assert not told(coding)


@pytest.mark.parametrize("wrong", [["a"], {"a": "b"}, 1, None])
@pytest.mark.parametrize("name", ["system", "code", "display"])
def test_what_is_no_text_is_told_as_that_alone(name: str, wrong: object) -> None:
    coding = {**coded(MARITAL, "M", "Wed"), name: wrong}
    found = checker().check({"resourceType": "Basic", "code": {"coding": [coding]}})
    assert [one.expression for one in found.errors] == [f"Basic.code.coding[0].{name}"]
    assert not [one for one in found.issues if one.rule == "display"]


def test_what_was_right_is_known_again_and_what_was_wrong_is_told_again() -> None:
    by = checker(codes=KnownCodes())
    for _ in range(2):
        assert not told(coded(MARITAL, "M", "Married"), by)
        assert len(told(coded(MARITAL, "M", "Wed"), by)) == 1
        assert not told(coded(MARITAL, "M", "Wed", version="1900"), by)


@pytest.mark.parametrize("code", ["oak", "sessile"])
def test_a_package_says_what_its_codes_are_called(code: str) -> None:
    by = Checker(codes=KnownCodes(Packaged([SYSTEM])))
    assert told(coded(TREE, code, "Elm tree"), by)
    assert told(coded(TREE, code, "Elm tree")) == []


def test_a_designation_is_a_right_display() -> None:
    concept = {"code": "a", "display": "House", "designation": [{"language": "cy", "value": "Tŷ"}]}
    system = {"resourceType": "CodeSystem", "url": "http://s", "content": "complete"}
    by = Checker(codes=KnownCodes(Packaged([{**system, "concept": [concept]}])))
    assert not told(coded("http://s", "a", "TŶ"), by)
    (issue,) = told(coded("http://s", "a", "Garden"), by)
    assert issue.text.endswith("'House', 'Tŷ'")


def test_a_long_display_is_cut_and_not_remembered() -> None:
    (issue,) = told(coded(MARITAL, "M", "x" * 100_000))
    assert len(issue.text) < 200


def test_it_is_told_once_whatever_profiles_say_of_the_element() -> None:
    bound = {
        "id": "Patient.maritalStatus",
        "binding": {
            "strength": "required",
            "valueSet": "http://hl7.org/fhir/ValueSet/marital-status",
        },
    }
    found = checker(profile("Patient", bound)).check(
        {
            "resourceType": "Patient",
            "meta": {"profile": [profile("Patient", bound)["url"]]},
            "maritalStatus": {"coding": [coded(MARITAL, "M", "Wed")]},
        }
    )
    assert [one.expression for one in found.issues if one.rule == "display"] == [
        "Patient.maritalStatus.coding[0].display"
    ]


@pytest.mark.parametrize(("display", "count"), [("Elm", 1), ("OAK  tree", 0)])
async def test_a_system_that_a_binding_had_looked_up_tells_it_too(display: str, count: int) -> None:
    """What is stored is not at hand while a resource is checked: a question is left open."""
    trees = value_set("trees", below("oak"))
    bound = {"strength": "required", "valueSet": trees["url"]}
    definition = profile("Basic", {"id": "Basic.code", "binding": bound})
    asking = checker(definition, codes=KnownCodes())
    coding = {"coding": [{"code": "x"}, coded(TREE, "oak", display)]}
    findings = asking.check({"resourceType": "Basic", "code": coding}, profiles=[definition["url"]])
    assert len(findings.questions) == 1
    library = Library(Nowhere(), Packaged([SYSTEM, trees]))
    answered = await Settler(Terminology(library)).issues([*findings.questions] * 2)
    assert [one.expression for one in answered] == ["Basic.code.coding[1].display"] * count
    assert all("'Oak tree'" in one.text for one in answered)
