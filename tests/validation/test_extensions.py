"""Extensions by their definitions: https://hl7.org/fhir/R4/extensibility.html."""

from typing import Any, Final

import pytest

from fhir_server.validation.checker import DEFAULT_POLICY, Checker
from tests.validation.profiles import R4, URL, checker, profile

Json = dict[str, Any]
BIRTH_PLACE: Final = R4 + "patient-birthPlace"
TIME: Final = R4 + "patient-birthTime"
OTHER_SYSTEM: Final = "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-BirthSex"


def told(resource: Json, given: Checker | None = None) -> list[tuple[str | None, str, str]]:
    issues = (given or checker()).check(resource).issues
    return [
        (each.expression, each.severity, each.code or "") for each in issues if each.rule != "dom-6"
    ]


def patient(**more: Any) -> Json:
    return {"resourceType": "Patient", "birthDate": "2011-05-14", **more}


def test_a_known_extension_is_checked_wherever_it_stands() -> None:
    right = {"url": BIRTH_PLACE, "valueAddress": {"city": "York"}}
    assert told(patient(extension=[right])) == []
    wrong = {"url": BIRTH_PLACE, "valueString": "York"}
    assert told(patient(extension=[wrong])) == [
        ("Patient.extension[0].value", "error", "structure")
    ]
    on_primitive = {"url": TIME, "valueString": "noon"}
    assert told(patient(_birthDate={"extension": [on_primitive]})) == [
        ("Patient.birthDate.extension[0].value", "error", "structure")
    ]


def test_the_parts_of_a_complex_extension_are_checked() -> None:
    nationality = R4 + "patient-nationality"
    part = {"url": "code", "valueCodeableConcept": {"text": "British"}}
    assert told(patient(extension=[{"url": nationality, "extension": [part]}])) == []
    wrong = {"url": "code", "valueString": "British"}
    (issue,) = told(patient(extension=[{"url": nationality, "extension": [wrong]}]))
    assert issue == ("Patient.extension[0].extension[0].value", "error", "structure")
    two = {"url": nationality, "extension": [part, part]}
    assert [issue[0] for issue in told(patient(extension=[two]))] == [
        "Patient.extension[0].extension"
    ]


ADMISSION_METHOD = "Extension-UKCore-AdmissionMethod"


def test_an_extension_with_the_address_of_nobody_and_a_known_name_is_refused() -> None:
    """NHS England's own example of an invalid Encounter: what it says would be ignored."""
    extension = {
        "url": f"https://fhir.nhs.uk/StructureDefinition/{ADMISSION_METHOD}",
        "valueCodeableConcept": {"text": "emergency"},
    }
    encounter = {
        "resourceType": "Encounter",
        "status": "finished",
        "class": {"code": "IMP"},
        "hospitalization": {"extension": [extension]},
    }
    found = [each for each in Checker().check(encounter).issues if each.rule == "address"]
    assert [(each.severity, each.expression) for each in found] == [
        ("error", "Encounter.hospitalization.extension[0].url")
    ]
    assert f"https://fhir.hl7.org.uk/StructureDefinition/{ADMISSION_METHOD}" in found[0].text


def test_a_name_that_two_may_have_is_a_warning() -> None:
    theirs = {"url": "https://example.org/StructureDefinition/pathway-state", "valueCode": "x"}
    assert told(patient(extension=[theirs]), Checker()) == [
        ("Patient.extension[0].url", "warning", "extension")
    ]


def test_an_unknown_extension_is_fine_and_an_unknown_modifier_is_refused() -> None:
    unknown = {"url": "http://example.org/x", "valueString": "x"}
    assert told(patient(extension=[unknown])) == []
    assert told(patient(modifierExtension=[unknown])) == [
        ("Patient.modifierExtension[0].url", "error", "extension")
    ]


def test_a_modifier_extension_belongs_in_modifier_extension() -> None:
    url = URL + "-not"
    root = {"id": "Extension", "isModifier": True}
    given = checker(profile("Extension", root, url=url))
    extension = {"url": url, "valueBoolean": True}
    assert told(patient(modifierExtension=[extension]), given) == []
    assert told(patient(extension=[extension]), given) == [
        ("Patient.extension[0]", "error", "extension")
    ]


@pytest.mark.parametrize(
    ("context", "fits"),
    [
        ("Patient", True),
        ("DomainResource", True),
        ("Element", True),
        ("Patient.name", False),
        ("Encounter", False),
    ],
)
def test_an_extension_stands_where_its_context_says(context: str, fits: bool) -> None:
    url = URL + "-here"
    places = [{"type": "element", "expression": context}]
    given = checker(profile("Extension", url=url, context=places))
    expected = [] if fits else [("Patient.extension[0]", "error", "extension")]
    assert told(patient(extension=[{"url": url, "valueString": "x"}]), given) == expected


@pytest.mark.parametrize(
    "context", ["HumanName", "Patient.name", "Element", "Patient.name.family", "HumanName.family"]
)
def test_a_context_is_a_type_or_a_path(context: str) -> None:
    url = URL + "-here"
    places = [{"type": "element", "expression": context}]
    given = checker(profile("Extension", url=url, context=places))
    extension = [{"url": url, "valueString": "x"}]
    name: Json = {"family": "Synthetic-One"}
    name |= (
        {"_family": {"extension": extension}} if "family" in context else {"extension": extension}
    )
    assert told(patient(name=[name]), given) == []


def test_what_uk_core_says_of_its_extensions_only_warns_by_default() -> None:
    wrong = patient(extension=[{"url": OTHER_SYSTEM, "valueString": "x"}])
    issues = [each for each in Checker(policy=DEFAULT_POLICY).check(wrong).issues if each.profile]
    assert {each.severity for each in issues} == {"warning"}
    assert {each.profile for each in issues} == {OTHER_SYSTEM}
    assert {each[1] for each in told(wrong)} == {"error"}


def test_an_extension_whose_definition_is_broken_is_a_warning() -> None:
    """Its invariant names an element that no extension has."""
    broken = R4 + "allergyintolerance-substanceExposureRisk"
    resource = patient(extension=[{"url": broken, "valueString": "x"}])
    assert told(resource) == [("Patient.extension[0]", "warning", "processing")]


def test_the_url_of_an_extension_is_absolute_but_in_another() -> None:
    """https://hl7.org/fhir/R4/extensibility.html: only parts of an extension have plain names."""
    part = {"url": "part", "valueString": "x"}
    assert told(patient(extension=[part])) == [("Patient.extension[0].url", "error", "value")]
    whole = {"url": "http://example.org/whole", "extension": [part]}
    assert told(patient(extension=[whole])) == []


def test_an_extension_of_the_service_that_it_does_not_have_is_refused() -> None:
    """Most likely a slip of the pen: what it says, such as until when a rating is held, is lost."""
    misspelt = "https://keyworking.example/fhir/StructureDefinition/minimum-untill"
    assert told(patient(extension=[{"url": misspelt, "valueDate": "2026-06-01"}])) == [
        ("Patient.extension[0].url", "error", "extension")
    ]
    foreign = {"url": "https://trust.example/fhir/StructureDefinition/x", "valueDate": "2026-06-01"}
    assert told(patient(extension=[foreign])) == []


def test_a_part_that_an_extension_does_not_have_is_a_warning_that_names_those_it_has() -> None:
    url = "https://keyworking.example/fhir/StructureDefinition/parental-responsibility"
    held: Json = {"url": "held", "valueBoolean": False}
    parts: list[Json] = [
        held,
        {"url": "evidnce", "valueString": "x"},
        {"url": "http://other.example/x"},
    ]
    person: Json = {
        "resourceType": "RelatedPerson",
        "patient": {"reference": "Patient/1"},
        "extension": [{"url": url, "extension": [held]}],
    }
    assert told(person) == []
    person["extension"] = [{"url": url, "extension": [*parts[:2], {**parts[2], "valueCode": "y"}]}]
    (issue,) = [each for each in checker().check(person).issues if each.rule == "part"]
    assert (issue.expression, issue.severity) == (
        "RelatedPerson.extension[0].extension[1].url",
        "warning",
    )
    assert "'evidnce' is no part of this extension" in issue.text
    assert issue.text.endswith("there are evidence, held")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "Extension-UKCore-BirthSexx",
            "did you mean https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-BirthSex?",
        ),
        ("Extension-Nobody-Knows", "so it would be ignored"),
    ],
)
def test_an_extension_that_uk_core_does_not_have_is_a_warning(name: str, text: str) -> None:
    """It may be of a newer release than the one that is known here."""
    url = f"https://fhir.hl7.org.uk/StructureDefinition/{name}"
    found = checker().check(patient(extension=[{"url": url, "valueCode": "x"}])).issues
    (issue,) = [each for each in found if each.rule == "address"]
    assert (issue.expression, issue.severity) == ("Patient.extension[0].url", "warning")
    assert text in issue.text
