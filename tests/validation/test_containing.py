"""Contained resources and Bundles: https://hl7.org/fhir/R4/references.html#contained and
https://hl7.org/fhir/R4/bundle.html."""

from typing import Any

import pytest

from tests.validation.profiles import URL, checker, profile
from tests.work import steps

Json = dict[str, Any]
UUID = "urn:uuid:c757873d-ec9a-4326-a141-556f43239520"
PATIENT: Json = {"resourceType": "Patient", "active": True}
HEADER: Json = {
    "resourceType": "MessageHeader",
    "eventUri": "http://example.org/e",
    "source": {"endpoint": "http://example.org/s"},
}


def told(resource: Json) -> list[tuple[str | None, str]]:
    issues = checker().check(resource).errors
    return [(each.expression, each.text.rpartition("(")[2].rstrip(")")) for each in issues]


def holder(contained: list[Json], *references: str) -> Json:
    links = [{"type": "seealso", "other": {"reference": each}} for each in references]
    return {"resourceType": "Patient", "contained": contained, "link": links}


def test_what_is_contained_is_referred_to() -> None:
    one = {**PATIENT, "id": "a"}
    assert told(holder([one], "#a")) == []
    assert told(holder([one], "Patient/x")) == [("Patient.contained[0]", "dom-3")]
    back = {
        "resourceType": "Basic",
        "id": "a",
        "code": {"text": "x"},
        "subject": {"reference": "#"},
    }
    assert told(holder([back], "Patient/x")) == []


def test_what_is_contained_is_of_the_type_that_refers_to_it() -> None:
    """Patient.link.other leads to a Patient or RelatedPerson."""
    place = holder([{"resourceType": "Location", "id": "a"}], "#a")
    (issue,) = checker().check(place).errors
    assert issue.expression == "Patient.link[0].other.reference"
    assert "not to Location" in issue.text


def test_an_entry_is_of_the_type_that_refers_to_it() -> None:
    link = {"type": "seealso", "other": {"reference": f"{UUID[:-1]}0"}}
    given = bundle("collection", {"resourceType": "Location"}, {**PATIENT, "link": [link]})
    (issue,) = checker().check(given).errors
    assert issue.expression == "Bundle.entry[1].resource.link[0].other.reference"


def test_a_local_reference_leads_to_what_is_contained() -> None:
    one = {**PATIENT, "id": "a"}
    assert told(holder([one], "#a", "#b")) == [("Patient.link[1].other.reference", "ref-1")]


def test_what_is_contained_is_of_a_type_that_the_reference_may_have() -> None:
    """https://hl7.org/fhir/R4/patient-definitions.html#Patient.generalPractitioner"""
    for kind, wrong in (("Organization", False), ("Location", True)):
        one = {"resourceType": kind, "id": "a", "name": "x"}
        found = checker().check(
            {**PATIENT, "contained": [one], "generalPractitioner": [{"reference": "#a"}]}
        )
        told = [each.expression for each in found.errors]
        assert told == (["Patient.generalPractitioner[0].reference"] if wrong else [])


@pytest.mark.parametrize(
    ("meta", "rule"),
    [
        ({"versionId": "1"}, "dom-4"),
        ({"lastUpdated": "2026-06-01T00:00:00Z"}, "dom-4"),
        ({"security": [{"code": "R"}]}, "dom-5"),
    ],
)
def test_what_is_contained_has_no_life_of_its_own(meta: Json, rule: str) -> None:
    (name,) = meta
    one = {**PATIENT, "id": "a", "meta": meta}
    assert told(holder([one], "#a")) == [(f"Patient.contained[0].meta.{name}", rule)]


def bundle(kind: str, *resources: Json, **more: Any) -> Json:
    entries = [
        {"fullUrl": f"{UUID[:-1]}{number}", "resource": resource}
        for number, resource in enumerate(resources)
    ]
    return {"resourceType": "Bundle", "type": kind, "entry": entries, **more}


DOCUMENT: Json = {
    "resourceType": "Composition",
    "status": "final",
    "type": {"text": "x"},
    "date": "2026-06-01",
    "author": [{"display": "x"}],
    "title": "x",
}
SIGNED: Json = {
    "timestamp": "2026-06-01T00:00:00Z",
    "identifier": {"system": "urn:ietf:rfc:3986", "value": UUID},
}
BUNDLES: list[tuple[Json, list[tuple[str, str]]]] = [
    (bundle("message", HEADER, PATIENT), []),
    (bundle("message", PATIENT, HEADER), [("Bundle", "bdl-12")]),
    (bundle("document", DOCUMENT, **SIGNED), []),
    (bundle("document", PATIENT, **SIGNED), [("Bundle", "bdl-11")]),
    (bundle("document", DOCUMENT), [("Bundle", "bdl-9"), ("Bundle", "bdl-10")]),
    (bundle("collection", PATIENT, total=1), [("Bundle", "bdl-1")]),
    (bundle("transaction", PATIENT), [("Bundle", "bdl-3")]),
    (bundle("collection", PATIENT), []),
]


@pytest.mark.parametrize(("resource", "rules"), BUNDLES)
def test_a_bundle_keeps_the_rules_of_its_type(resource: Json, rules: list[tuple[str, str]]) -> None:
    assert told(resource) == rules


def test_two_entries_of_one_name_are_told_at_the_second() -> None:
    twice = bundle("collection", PATIENT, PATIENT)
    for entry in twice["entry"]:
        entry["fullUrl"] = UUID
    assert told(twice) == [("Bundle.entry[1].fullUrl", "bdl-7")]
    versions = bundle("collection", {**PATIENT, "meta": {"versionId": "1"}}, PATIENT)
    for entry in versions["entry"]:
        entry["fullUrl"] = UUID
    assert told(versions) == []


@pytest.mark.parametrize("kind", ["message", "collection"])
def test_a_message_answers_its_own_references(kind: str) -> None:
    header = {**HEADER, "focus": [{"reference": f"{UUID[:-1]}1"}, {"reference": f"{UUID[:-1]}9"}]}
    places = [expression for expression, _ in told(bundle(kind, header, PATIENT))]
    place = "Bundle.entry[0].resource.focus[1].reference"
    assert places == ([place] if kind == "message" else [])


def test_a_large_bundle_takes_no_more_for_each_entry() -> None:
    """The names of entries are looked up in one table, made once."""

    def taken(count: int) -> int:
        resource = bundle("collection")
        resource["entry"] = [
            {"fullUrl": f"urn:uuid:{number:032x}", "resource": PATIENT} for number in range(count)
        ]
        return steps(lambda: checker().check(resource))

    taken(10)
    assert taken(2000) < 15 * taken(200)


def test_what_is_contained_needs_no_narrative() -> None:
    """https://hl7.org/fhir/R4/narrative.html: it stands in that of the resource around it."""
    issues = checker().check(holder([{**PATIENT, "id": "a"}], "#a")).issues
    assert [(each.expression, each.rule) for each in issues] == [("Patient", "dom-6")]


def test_two_contained_resources_have_two_ids() -> None:
    two = [{**PATIENT, "id": "a"}, {**PATIENT, "id": "a"}]
    (issue,) = checker().check(holder(two, "#a")).errors
    assert issue.expression == "Patient.contained[1].id"
    assert "'a'" in issue.text


@pytest.mark.parametrize(
    ("url", "fits"),
    [
        ("http://example.org/fhir/Patient/a", True),
        ("http://example.org/people/a", True),
        (UUID, True),
        ("http://example.org/fhir/Patient/b", False),
        ("http://example.org/fhir/Goal/a", False),
    ],
)
def test_a_full_url_is_that_of_its_resource(url: str, fits: bool) -> None:
    entry = {"fullUrl": url, "resource": {**PATIENT, "id": "a"}}
    given = {"resourceType": "Bundle", "type": "collection", "entry": [entry]}
    places = [each.expression for each in checker().check(given).errors]
    assert places == ([] if fits else ["Bundle.entry[0].fullUrl"])


def test_a_full_url_that_is_not_absolute_is_a_warning() -> None:
    """An example of NHS England has such: AddRARecordTransaction."""
    entry = {"fullUrl": "Patient/a", "resource": {**PATIENT, "id": "a"}}
    given = {"resourceType": "Bundle", "type": "collection", "entry": [entry]}
    told_of = [(each.expression, each.severity) for each in checker().check(given).issues]
    assert ("Bundle.entry[0].fullUrl", "warning") in told_of
    assert ("Bundle.entry[0].fullUrl", "error") not in told_of


def test_a_full_url_says_the_id_where_the_resource_has_none() -> None:
    entry = {"fullUrl": "http://example.org/fhir/Patient/a", "resource": PATIENT}
    given = {"resourceType": "Bundle", "type": "collection", "entry": [entry]}
    assert told(given) == []


@pytest.mark.parametrize(("kind", "first"), [("message", "MessageHeader"), ("document", "Comp")])
def test_a_message_or_document_is_not_empty(kind: str, first: str) -> None:
    given: Json = {
        "resourceType": "Bundle",
        "type": kind,
        "identifier": {"system": "http://example.org/i", "value": "1"},
        "timestamp": "2026-06-01T00:00:00Z",
    }
    needs_entries = profile("Bundle", {"id": "Bundle.entry", "min": 1})
    (issue,) = checker(needs_entries).check(given, profiles=(URL,)).errors
    assert (issue.expression, issue.code) == ("Bundle.entry", "required")
    assert first in issue.text
    assert told({"resourceType": "Bundle", "type": "collection"}) == []


def test_many_contained_resources_are_work_in_proportion() -> None:
    """Each reference looked through all of them before: 4000 took seconds."""

    def taken(count: int) -> int:
        many = [{**PATIENT, "id": f"p{number}"} for number in range(count)]
        given = holder(many, *[f"#{each['id']}" for each in many])
        assert told(given) == []
        return steps(lambda: told(given))

    assert taken(4000) < 15 * taken(400)
