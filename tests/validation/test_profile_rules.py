"""What a profile adds to R4, each rule kept and broken.

Source: https://hl7.org/fhir/R4/elementdefinition.html, https://hl7.org/fhir/R4/profiling.html
"""

from typing import Any, Final

import pytest

from fhir_server.validation.codes import Membership
from tests.validation.profiles import R4, URL, checker, found, profile

Json = dict[str, Any]
PATIENT: Json = {
    "resourceType": "Patient",
    "active": True,
    "name": [{"family": "Synthetic-One", "given": ["Ada"]}],
    "birthDate": "2011-05-14",
    "telecom": [{"system": "phone", "value": "1"}, {"system": "email", "value": "a@example.org"}],
    "generalPractitioner": [{"reference": "Organization/o"}],
}
OBSERVATION: Json = {
    "resourceType": "Observation",
    "status": "final",
    "code": {"coding": [{"system": "http://loinc.org", "code": "1"}], "text": "one"},
    "valueQuantity": {"value": 7, "unit": "kg"},
}


class _Codes:
    """Colours: red and green are in the set, of `odd` nobody knows."""

    def is_member(self, value_set: str, system: str, code: str) -> Membership:
        assert system.endswith((":", "/c"))
        assert value_set == "http://example.org/ValueSet/colours"
        return "unknown" if code == "odd" else "yes" if code in ("red", "green") else "no"

    def draws_on(self, value_set: str, system: str) -> bool:
        return value_set == "http://example.org/ValueSet/colours" and system.endswith("/c")

    well_called = frozenset[tuple[object, object, object]]()

    def other_names(self, system: str, code: str, display: str) -> tuple[str, ...]:
        wrong = system.endswith("/c") and display.casefold() != code
        return (code,) if wrong else ()


COLOURS = "http://example.org/ValueSet/colours|1.0"
RULES: list[tuple[Json, Json, Json, str, str]] = [
    # the resource, the element of its profile, what breaks it, where, the rule
    (PATIENT, {"id": "Patient.birthDate", "min": 1}, {"birthDate": None}, "birthDate", "min"),
    (PATIENT, {"id": "Patient.photo", "max": "0"}, {"photo": [{"title": "x"}]}, "photo", "max"),
    (
        PATIENT,
        {"id": "Patient.name", "max": "1"},
        {"name": [{"text": "a"}, {"text": "b"}]},
        "name",
        "max",
    ),
    (PATIENT, {"id": "Patient.active", "fixedBoolean": True}, {"active": False}, "active", "fixed"),
    (
        PATIENT,
        {"id": "Patient.name.family", "min": 1},
        {"name": [{"family": "x"}, {"text": "b"}]},
        "name[1].family",
        "min",
    ),
    (
        PATIENT,
        {"id": "Patient.name.family", "maxLength": 13},
        {"name": [{"family": "Synthetic-Longer"}]},
        "name[0].family",
        "maxLength",
    ),
    (
        PATIENT,
        {"id": "Patient.birthDate", "minValueDate": "2011-01-01"},
        {"birthDate": "2010-12-31"},
        "birthDate",
        "minValue",
    ),
    (
        PATIENT,
        {
            "id": "Patient.generalPractitioner",
            "type": [{"code": "Reference", "targetProfile": [R4 + "Organization"]}],
        },
        {"generalPractitioner": [{"reference": "Practitioner/p"}]},
        "generalPractitioner[0]",
        "targetProfile",
    ),
    (
        PATIENT,
        {
            "id": "Patient.name",
            "constraint": [
                {"key": "p-1", "severity": "error", "expression": "family.exists()", "human": "x"}
            ],
        },
        {"name": [{"text": "a"}]},
        "name[0]",
        "p-1",
    ),
    (
        OBSERVATION,
        {"id": "Observation.value[x]", "type": [{"code": "Quantity"}, {"code": "string"}]},
        {"valueQuantity": None, "valueBoolean": True},
        "value",
        "type",
    ),
    (
        OBSERVATION,
        {"id": "Observation.valueQuantity.unit", "min": 1},
        {"valueQuantity": {"value": 7}},
        "value.unit",
        "min",
    ),
    (
        OBSERVATION,
        {"id": "Observation.code", "patternCodeableConcept": {"coding": [{"code": "1"}]}},
        {"code": {"coding": [{"code": "2"}]}},
        "code",
        "pattern",
    ),
    (
        OBSERVATION,
        {
            "id": "Observation.valueQuantity",
            "type": [{"code": "Quantity", "profile": [R4 + "SimpleQuantity"]}],
        },
        {"valueQuantity": {"value": 7, "comparator": "<"}},
        "value.comparator",
        "max",
    ),
]


@pytest.mark.parametrize(
    ("resource", "element", "change", "place", "rule"),
    RULES,
    ids=[f"{rule[1]['id']}-{rule[4]}" for rule in RULES],
)
def test_a_rule_of_an_element_is_kept_or_told_once(
    resource: Json, element: Json, change: Json, place: str, rule: str
) -> None:
    name = resource["resourceType"]
    definition = profile(name, {"id": name}, element)
    assert found(resource, definition) == []
    changed = {key: value for key, value in {**resource, **change}.items() if value is not None}
    assert found(changed, definition) == [(f"{name}.{place}", rule, "error")]


@pytest.mark.parametrize(
    ("strength", "code", "severity"),
    [
        ("required", "red", None),
        ("required", "blue", "error"),
        ("extensible", "blue", "warning"),
        ("extensible", "green", None),
        ("preferred", "blue", None),
    ],
)
def test_a_binding_is_enforced_by_its_strength(
    strength: str, code: str, severity: str | None
) -> None:
    definition = profile(
        "Observation",
        {"id": "Observation.code", "binding": {"strength": strength, "valueSet": COLOURS}},
    )
    coding = {"system": "http://example.org/c", "code": code}
    resource = {**OBSERVATION, "code": {"coding": [coding]}}
    expected = [] if severity is None else [("Observation.code", "binding", severity)]
    assert found(resource, definition, codes=_Codes()) == expected


def test_a_binding_that_cannot_be_decided_at_once_is_an_open_question() -> None:
    definition = profile(
        "Observation",
        {"id": "Observation.code", "binding": {"strength": "required", "valueSet": COLOURS}},
    )
    resource = {**OBSERVATION, "code": {"coding": [{"system": "s:", "code": "odd"}]}}
    findings = checker(definition, codes=_Codes()).check(resource, profiles=[URL])
    assert findings.errors == []
    question = next(each for each in findings.questions if each.profile == URL)
    assert question.codings == (("s:", "odd"),)
    assert (question.expression, question.strength) == ("Observation.code", "required")


def test_a_warning_of_an_invariant_does_not_refuse() -> None:
    constraint = {"key": "p-2", "severity": "warning", "expression": "gender.exists()"}
    definition = profile("Patient", {"id": "Patient", "constraint": [constraint]})
    assert found(PATIENT, definition) == [("Patient", "p-2", "warning")]


def test_a_profile_on_a_profile_has_the_rules_of_both_and_tells_each_once() -> None:
    parent = profile("Patient", {"id": "Patient.birthDate", "min": 1}, url=URL + "0")
    child = profile("Patient", {"id": "Patient.gender", "min": 1}, base=URL + "0")
    empty = {"resourceType": "Patient"}
    places = [("Patient.birthDate", "min", "error"), ("Patient.gender", "min", "error")]
    assert sorted(found(empty, child, parent)) == places
    assert sorted(found(empty, child, parent, profiles=(URL, URL + "0"))) == places


def test_a_reference_to_what_is_contained_has_to_lead_to_the_profile() -> None:
    target = profile("Organization", {"id": "Organization.name", "min": 1}, url=URL + "0")
    kind = [{"code": "Reference", "targetProfile": [URL + "0"]}]
    definition = profile("Patient", {"id": "Patient.managingOrganization", "type": kind})
    trust = {"resourceType": "Organization", "id": "o", "name": "A trust"}
    resource = {**PATIENT, "managingOrganization": {"reference": "#o"}}
    assert found({**resource, "contained": [trust]}, definition, target) == []
    unnamed = {**trust, "identifier": [{"value": "1"}]}
    del unnamed["name"]
    place = ("Patient.managingOrganization", "targetProfile", "error")
    assert found({**resource, "contained": [unnamed]}, definition, target) == [place]


def test_a_profile_that_leads_to_itself_is_compiled() -> None:
    kind = [{"code": "Reference", "targetProfile": [URL]}]
    definition = profile("Patient", {"id": "Patient.link.other", "type": kind})
    other = {"resourceType": "Patient", "id": "q"}
    link = [{"type": "seealso", "other": {"reference": "#q"}}]
    assert found({**PATIENT, "contained": [other], "link": link}, definition) == []


BROKEN: list[tuple[Json, str, str]] = [
    ({"id": "Patient.shoeSize", "min": 1}, "Patient.shoeSize", "there is no shoeSize"),
    ({"id": "Patient.deceased[x].x", "min": 1}, "Patient.deceased[x].x", "cannot be walked into"),
    ({"id": "Patient.identifier:a", "min": 1}, "Patient.identifier:a", "without discriminator"),
    (
        {"id": "Patient", "constraint": [{"key": "p-1", "expression": "shoeSize.exists()"}]},
        "Patient",
        "p-1: ",
    ),
    (
        {"id": "Patient.name", "type": [{"code": "HumanName", "profile": [URL + "-none"]}]},
        "Patient.name",
        "is not known",
    ),
]


@pytest.mark.parametrize(("element", "place", "reason"), BROKEN)
def test_a_profile_that_cannot_be_compiled_tells_element_and_reason(
    element: Json, place: str, reason: str
) -> None:
    findings = checker(profile("Patient", element)).check(PATIENT, profiles=[URL])
    (issue,) = findings.errors
    assert issue.code == "processing"
    assert f"profile {URL}, element {place} cannot be used" in issue.text
    assert reason in issue.text


def test_a_profile_without_a_known_base_or_made_from_itself_is_told() -> None:
    for base in ("http://example.org/none", URL):
        findings = checker(profile("Patient", base=base)).check(PATIENT, profiles=[URL])
        assert [issue.code for issue in findings.errors] == ["processing"]


def test_a_profile_of_another_type_is_no_profile_of_this() -> None:
    assert found(PATIENT, profile("Observation")) == [("Patient", "type", "error")]


def test_a_claimed_profile_in_a_contained_resource_and_in_an_entry_is_checked() -> None:
    definition = profile("Patient", {"id": "Patient.gender", "min": 1})
    claiming = {**PATIENT, "id": "q", "meta": {"profile": [URL]}}
    entry = {"fullUrl": "urn:uuid:c757873d-ec9a-4326-a141-556f43239520", "resource": claiming}
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": [entry]}
    place = "Bundle.entry[0].resource.gender"
    assert found(bundle, definition, profiles=()) == [(place, "min", "error")]
    holder = {**OBSERVATION, "contained": [claiming], "subject": {"reference": "#q"}}
    place = "Observation.contained[0].gender"
    assert found(holder, definition, profiles=()) == [(place, "min", "error")]


def test_an_unknown_claim_warns_and_is_an_error_only_where_the_policy_says_so() -> None:
    claiming = {**PATIENT, "meta": {"profile": ["http://example.org/none"]}}
    (warning,) = [each for each in checker().check(claiming).issues if each.profile]
    assert (warning.severity, warning.expression) == ("warning", "Patient.meta.profile[0]")
    assert "is not known here" in warning.text
    assert [each.code for each in checker(unknown="refuse").check(claiming).errors] == ["not-found"]


def test_versions_are_told_apart() -> None:
    old = profile("Patient", {"id": "Patient.gender", "min": 1}, version="1.2.0")
    new = profile("Patient", {"id": "Patient.active", "min": 1}, version="1.10.0")
    bare = {"resourceType": "Patient"}
    assert found(bare, old, new) == [("Patient.active", "min", "error")]
    assert found(bare, old, new, profiles=(f"{URL}|1.2",)) == [("Patient.gender", "min", "error")]


def test_a_lenient_profile_only_warns() -> None:
    definition = profile("Patient", {"id": "Patient.gender", "min": 1})
    for lenient in (URL, "http://example.org/*"):
        findings = checker(definition, lenient=(lenient,)).check(PATIENT, profiles=[URL])
        assert [each.severity for each in findings.issues if each.profile] == ["warning"]
    assert (
        checker(definition, lenient=("http://other.example/*",))
        .check(PATIENT, profiles=[URL])
        .errors
    )


def test_a_value_that_r4_refuses_is_told_once() -> None:
    """`start: null` is no string, and so it is missing: one mistake."""
    needs_start = profile("Patient", {"id": "Patient.birthDate", "min": 1})
    patient = {"resourceType": "Patient", "birthDate": None}
    issues = checker(needs_start).check(patient, profiles=(URL,)).issues
    told = [one.expression for one in issues if one.severity == "error"]
    assert told == ["Patient.birthDate"]


def test_a_claim_that_is_no_canonical_is_told_once() -> None:
    claiming = {**PATIENT, "meta": {"profile": ["http://example.org/a profile"]}}
    issues = checker(unknown="refuse").check(claiming).issues
    places = [one.expression for one in issues if one.severity in ("error", "warning")]
    assert places.count("Patient.meta.profile[0]") == 1


_STATED: Final[list[Json]] = [
    {"id": "Patient.active", "min": 1},
    {
        "id": "Patient",
        "constraint": [
            {
                "key": "own-1",
                "severity": "error",
                "human": "either active or named",
                "expression": "active = true or name.exists()",
            }
        ],
    },
]


def test_an_invariant_of_a_profile_waits_for_what_it_names() -> None:
    bare = {"resourceType": "Patient"}
    both = profile("Patient", *reversed(_STATED))
    assert found(bare, both) == [("Patient.active", "min", "error")]
    assert found({**bare, "active": False}, both) == [("Patient", "own-1", "error")]


def _invariant(element: str, expression: str) -> Json:
    human = {"key": "own-2", "severity": "error", "human": "as asked"}
    return profile("Patient", {"id": element, "constraint": [{**human, "expression": expression}]})


@pytest.mark.parametrize(
    ("definition", "is_told"),
    [
        (_invariant("Patient", "contact.name.where(use = 'usual').family.exists()"), False),
        (_invariant("Patient.contact", "name.use = 'usual'"), False),
        (_invariant("Patient.contact", "%resource.contact.name.all(use = 'usual')"), False),
        (_invariant("Patient.contact", "name.family.exists()"), True),
        (_invariant("Patient", "name.where(use = 'usual').exists()"), True),
    ],
)
def test_an_invariant_waits_for_what_it_looks_at_wherever_that_stands(
    definition: Json, is_told: bool
) -> None:
    wrong = {"resourceType": "Patient", "contact": [{"name": {"use": "wrong", "text": "x"}}]}
    issues = checker(definition).check(wrong, profiles=(URL,)).errors
    assert issues[0].expression == "Patient.contact[0].name.use"
    assert ["own-2"] * is_told == [issue.rule for issue in issues[1:]]


def test_what_another_profile_refuses_silences_no_invariant() -> None:
    """Its errors may come to be warnings, and then the invariant's would be the only one."""
    lenient, strict = (
        profile("Patient", each, url=f"{URL}/{number}") for number, each in enumerate(_STATED)
    )
    one = checker(lenient, strict, lenient=(f"{URL}/0",))
    found_ = one.check({"resourceType": "Patient"}, profiles=[f"{URL}/0", f"{URL}/1"])
    assert [(issue.expression, issue.rule) for issue in found_.errors] == [("Patient", "own-1")]


def test_a_profile_sees_the_type_in_an_absolute_reference() -> None:
    only = {
        "id": "Observation.subject",
        "type": [{"code": "Reference", "targetProfile": [f"{R4}Patient"]}],
    }
    definition = profile("Observation", only)
    observation = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}}
    for address, expected in (
        ("https://other.example/fhir/Group/1", [("Observation.subject", "targetProfile", "error")]),
        ("https://other.example/fhir/Patient/1", []),
    ):
        assert found({**observation, "subject": {"reference": address}}, definition) == expected


@pytest.mark.parametrize(
    ("subject", "place"),
    [
        ({"reference": "Medication/1"}, "Observation.subject.reference"),
        ({"type": "Medication", "display": "x"}, "Observation.subject.type"),
        ({"reference": "Patient/1", "type": "Group"}, "Observation.subject.type"),
    ],
)
def test_a_target_that_r4_refuses_is_told_once(subject: Json, place: str) -> None:
    only = {
        "id": "Observation.subject",
        "type": [{"code": "Reference", "targetProfile": [f"{R4}Patient"]}],
    }
    observation = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}}
    one = checker(profile("Observation", only))
    issues = one.check({**observation, "subject": subject}, profiles=(URL,)).errors
    assert [issue.expression for issue in issues] == [place]
