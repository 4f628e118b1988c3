"""Slicing by each discriminator: https://hl7.org/fhir/R4/profiling.html#slicing."""

from typing import Any

import pytest

from tests.validation.profiles import R4, URL, checker, found, profile

Json = dict[str, Any]
Found = tuple[str | None, str | None, str]
PHONE = {"system": "phone", "value": "1"}
EMAIL = {"system": "email", "value": "a@example.org"}
FAX = {"system": "fax", "value": "2"}


def sliced(path: str, *slices: Json, rules: str = "open", **more: Any) -> Json:
    """A profile of Patient.telecom, sliced by what is at `path`."""
    discriminators = [{"type": more.pop("by", "value"), "path": path}]
    slicing = {"discriminator": discriminators, "rules": rules, **more}
    return profile("Patient", {"id": "Patient.telecom", "slicing": slicing}, *slices)


def named(name: str, **rules: Any) -> Json:
    return {"id": f"Patient.telecom:{name}", **rules}


def fixed(name: str, code: str) -> Json:
    return {"id": f"Patient.telecom:{name}.system", "fixedCode": code}


def patient(*telecom: Json) -> Json:
    return {"resourceType": "Patient", "telecom": list(telecom)}


ONE_PHONE = (named("phone", min=1, max="1"), fixed("phone", "phone"))
TWO = (named("phone"), fixed("phone", "phone"), named("email"), fixed("email", "email"))


def test_each_slice_has_its_own_cardinality() -> None:
    definition = sliced("system", *ONE_PHONE)
    assert found(patient(EMAIL, PHONE), definition) == []
    assert found(patient(EMAIL), definition) == [("Patient.telecom", "min", "error")]
    assert found(patient(PHONE, PHONE), definition) == [("Patient.telecom", "max", "error")]


def test_a_resource_without_the_element_lacks_the_slice() -> None:
    bare = {"resourceType": "Patient", "active": True}
    assert found(bare, sliced("system", *ONE_PHONE)) == [("Patient.telecom", "min", "error")]


def test_a_slice_has_rules_of_its_own() -> None:
    rules = (*ONE_PHONE, {"id": "Patient.telecom:phone.use", "min": 1})
    place = ("Patient.telecom[1].use", "min", "error")
    assert found(patient(EMAIL, PHONE), sliced("system", *rules)) == [place]


@pytest.mark.parametrize(
    ("rules", "ordered", "telecom", "places"),
    [
        ("open", False, (FAX, EMAIL, PHONE), []),
        ("closed", False, (EMAIL, FAX, PHONE), ["Patient.telecom[1]"]),
        ("open", True, (EMAIL, PHONE), ["Patient.telecom[1]"]),
        ("open", True, (PHONE, FAX, EMAIL), []),
        ("openAtEnd", False, (PHONE, FAX, EMAIL), ["Patient.telecom[2]"]),
        ("openAtEnd", False, (EMAIL, PHONE, FAX), []),
    ],
)
def test_what_belongs_to_no_slice_and_the_order(
    rules: str, ordered: bool, telecom: tuple[Json, ...], places: list[str]
) -> None:
    definition = sliced("system", *TWO, rules=rules, ordered=ordered)
    expected: list[Found] = [(place, "slicing", "error") for place in places]
    assert found(patient(*telecom), definition) == expected


def test_by_a_pattern_of_the_slice_itself() -> None:
    rules = named("phone", max="1", patternContactPoint={"system": "phone"})
    definition = sliced("$this", rules, by="pattern")
    assert found(patient(PHONE, EMAIL), definition) == []
    assert found(patient(PHONE, PHONE), definition) == [("Patient.telecom", "max", "error")]


def test_by_whether_something_is_there() -> None:
    slices = (
        named("ranked", max="1"),
        {"id": "Patient.telecom:ranked.rank", "min": 1},
        named("plain", max="1"),
        {"id": "Patient.telecom:plain.rank", "max": "0"},
    )
    definition = sliced("rank", *slices, by="exists")
    assert found(patient({**PHONE, "rank": 1}, EMAIL), definition) == []
    assert found(patient(PHONE, EMAIL), definition) == [("Patient.telecom", "max", "error")]


def test_by_position() -> None:
    slices = (named("first"), fixed("first", "phone"), named("second"), fixed("second", "email"))
    definition = sliced("$this", *slices, by="position")
    assert found(patient(PHONE, EMAIL), definition) == []
    assert found(patient(EMAIL, EMAIL), definition) == [
        ("Patient.telecom[0].system", "fixed", "error")
    ]


def test_by_type_of_a_choice() -> None:
    definition = profile(
        "Observation",
        {
            "id": "Observation.value[x]",
            "slicing": {"discriminator": [{"type": "type", "path": "$this"}], "rules": "open"},
        },
        {"id": "Observation.value[x]:valueString", "type": [{"code": "string"}], "maxLength": 3},
        {"id": "Observation.value[x]:valueQuantity", "type": [{"code": "Quantity"}]},
        {"id": "Observation.value[x]:valueQuantity.unit", "min": 1},
    )
    observation = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}}
    assert found({**observation, "valueString": "abc"}, definition) == []
    assert found({**observation, "valueString": "abcd"}, definition) == [
        ("Observation.value", "maxLength", "error")
    ]
    assert found({**observation, "valueQuantity": {"value": 1}}, definition) == [
        ("Observation.value.unit", "min", "error")
    ]
    assert found({**observation, "valueBoolean": True}, definition) == []


def test_by_what_a_reference_leads_to_and_its_profile() -> None:
    nurse = profile("Practitioner", {"id": "Practitioner.gender", "min": 1}, url=URL + "0")
    element = {
        "id": "Patient.generalPractitioner",
        "slicing": {"discriminator": [{"type": "profile", "path": "resolve()"}], "rules": "open"},
    }
    one = {
        "id": "Patient.generalPractitioner:nurse",
        "min": 1,
        "type": [{"code": "Reference", "targetProfile": [URL + "0"]}],
    }
    definition = profile("Patient", element, one)
    sent = {
        "resourceType": "Patient",
        "contained": [{"resourceType": "Practitioner", "id": "n", "gender": "female"}],
        "generalPractitioner": [{"reference": "#n"}],
    }
    assert found(sent, definition, nurse) == []
    sent["contained"] = [{"resourceType": "Practitioner", "id": "n", "active": True}]
    assert found(sent, definition, nurse) == [("Patient.generalPractitioner", "min", "error")]


def test_entries_of_a_bundle_by_the_type_of_their_resources() -> None:
    slicing = {"discriminator": [{"type": "type", "path": "resource"}], "rules": "closed"}
    definition = profile(
        "Bundle",
        {"id": "Bundle.entry", "slicing": slicing},
        {"id": "Bundle.entry:who", "min": 1},
        {"id": "Bundle.entry:who.resource", "type": [{"code": "Patient"}]},
    )
    entry = {"resource": {"resourceType": "Patient", "active": True}}
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": [entry]}
    assert found(bundle, definition) == []
    other = {"resource": {"resourceType": "Basic", "code": {"text": "x"}}}
    place = ("Bundle.entry[1]", "slicing", "error")
    assert found({**bundle, "entry": [entry, other]}, definition) == [place]


def test_extensions_are_sliced_by_their_urls() -> None:
    url = "http://example.org/StructureDefinition/colour"
    colour = profile("Extension", {"id": "Extension.url", "fixedUri": url}, url=url)
    element = {
        "id": "Patient.extension:colour",
        "min": 1,
        "max": "1",
        "type": [{"code": "Extension", "profile": [url]}],
    }
    definition = profile("Patient", element)
    one = {"url": url, "valueString": "red"}
    other = {"url": "http://example.org/other", "valueString": "x"}
    patient = {"resourceType": "Patient", "extension": [other, one]}
    assert found(patient, definition, colour) == []
    assert found({**patient, "extension": [other]}, definition, colour) == [
        ("Patient.extension", "min", "error")
    ]
    assert found({**patient, "extension": [one, one]}, definition, colour) == [
        ("Patient.extension", "max", "error")
    ]


def test_a_slice_of_a_slice_is_refused_clearly() -> None:
    definition = sliced("system", *ONE_PHONE, named("phone/home"))
    (issue,) = checker(definition).check(patient(PHONE), profiles=[URL]).errors
    assert "slices of slices are not supported" in issue.text


def test_a_slice_whose_discriminator_finds_nothing_is_refused_clearly() -> None:
    definition = sliced("system", named("phone", min=1))
    (issue,) = checker(definition).check(patient(PHONE), profiles=[URL]).errors
    assert "nothing is fixed where the discriminator of the slice looks" in issue.text
    assert "Patient.telecom:phone" in issue.text


def test_blood_pressure_of_the_standard_needs_both_components() -> None:
    """https://hl7.org/fhir/R4/bp.html"""

    def part(code: str) -> Json:
        unit = {
            "value": 90,
            "unit": "mmHg",
            "system": "http://unitsofmeasure.org",
            "code": "mm[Hg]",
        }
        coding = {"system": "http://loinc.org", "code": code}
        return {"code": {"coding": [coding]}, "valueQuantity": unit}

    category = "http://terminology.hl7.org/CodeSystem/observation-category"
    observation: Json = {
        "resourceType": "Observation",
        "status": "final",
        "category": [{"coding": [{"system": category, "code": "vital-signs"}]}],
        "code": {"coding": [{"system": "http://loinc.org", "code": "85354-9"}]},
        "subject": {"reference": "Patient/p"},
        "effectiveDateTime": "2026-06-01",
        "component": [part("8480-6"), part("8462-4")],
    }
    profiles = (R4 + "bp",)
    assert found(observation, profiles=profiles) == []
    lacking = {**observation, "component": [part("8480-6"), part("1-8")]}
    assert ("Observation.component", "min", "error") in found(lacking, profiles=profiles)
    other_unit = part("8480-6")
    other_unit["valueQuantity"]["code"] = "kPa"
    wrong = {**observation, "component": [other_unit, part("8462-4")]}
    assert found(wrong, profiles=profiles) == [
        ("Observation.component[0].value", "binding", "error"),
        ("Observation.component[0].value.code", "fixed", "error"),
    ]


def test_what_is_missing_altogether_is_told_once_by_its_slice() -> None:
    """HL7's body mass index needs a category, and among the categories that of vital signs."""
    observation = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}}
    issues = checker().check(observation, profiles=[R4 + "bmi"]).errors
    told = [each.text for each in issues if each.expression == "Observation.category"]
    assert len(told) == 1
    assert "VSCat" in told[0]


def test_an_invariant_of_a_profile_is_told_in_words() -> None:
    observation = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}}
    issues = checker().check(observation, profiles=[R4 + "vitalsigns"]).errors
    (told,) = [each.text for each in issues if each.rule == "vs-2"]
    assert "dataAbsentReason says why" in told
    # A body mass index has to have a value anyway, which is told.
    issues = checker().check(observation, profiles=[R4 + "bmi"]).errors
    assert "vs-2" not in [each.rule for each in issues]
