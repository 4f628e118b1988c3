"""References in their forms: https://hl7.org/fhir/R4/references.html."""

import copy
import re
from typing import Any, Final
from uuid import UUID, uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.fhir.definitions import resource_types
from fhir_server.fhir.references import (
    LocalReference,
    is_absolute,
    is_id,
    named_id,
    new_id,
    parse_local,
    parse_relative,
    rewrite,
)

BASE: Final = "https://keyworking.example/fhir"
ID: Final = st.from_regex(r"\A[A-Za-z0-9\-.]{1,64}\Z")


@pytest.mark.parametrize("text", ["a", "A-1.b", "1" * 64, "-", ".", ".."])
def test_ids(text: str) -> None:
    assert is_id(text)


@pytest.mark.parametrize(
    "text", ["", "a b", "a_b", "a/b", "1" * 65, "é", "a\n", "\na", "a%2f", "a|b", "１"]
)
def test_what_is_no_id(text: str) -> None:
    assert not is_id(text)


def test_new_ids_are_ids_that_never_meet() -> None:
    ids = {new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(is_id(made) and re.fullmatch(r"[0-9a-f-]{36}", made) for made in ids)


@given(st.uuids(), st.text())
def test_ids_of_names_are_uuids_of_version_5(namespace: UUID, name: str) -> None:
    assert named_id(namespace, name) == str(uuid5(namespace, name))


@given(st.sampled_from(resource_types()), ID, st.none() | ID)
def test_relative_references_come_apart_and_together(
    type_name: str, resource_id: str, version: str | None
) -> None:
    text = f"{type_name}/{resource_id}" + (f"/_history/{version}" if version else "")
    expected = LocalReference(type_name, resource_id, version)
    assert parse_relative(text) == expected
    assert str(expected) == f"{type_name}/{resource_id}"
    assert parse_local(text, BASE) == expected
    assert parse_local(f"{BASE}/{text}", BASE) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Patient",
        "Patient/",
        "/Patient/1",
        "Patient/1/",
        "Patient/1 ",
        "Patient/1\n",
        "patient/1",
        "Dragon/1",
        "Resource/1",
        "DomainResource/1",
        "HumanName/1",
        "Patient/1/2",
        "Patient/1/_history",
        "Patient/1/_history/",
        "Patient/1/_history/2/3",
        "Patient/" + "1" * 65,
        "Patient/a_b",
        "Patient?identifier=1",
        "#1",
        "urn:uuid:6f8d0a4e-6a0f-4c0e-9e0e-3f1f0a4b7c11",
        "fhir/Patient/1",
        "../Patient/1",
        "Patient/%31",
        "https://elsewhere.example/fhir/Patient/1",
        "https://keyworking.example/fhir2/Patient/1",
        "https://keyworking.example/fhirPatient/1",
        "https://keyworking.example.evil.example/fhir/Patient/1",
        "http://keyworking.example/fhir/Patient/1",
        "https://keyworking.example/fhir//Patient/1",
    ],
)
def test_what_is_no_resource_of_this_server(text: str) -> None:
    assert parse_local(text, BASE) is None
    assert parse_relative(text) is None


@pytest.mark.parametrize(
    ("text", "absolute"),
    [
        ("https://x/Patient/1", True),
        ("urn:uuid:1", True),
        ("urn:oid:1.2", True),
        ("Patient/1", False),
        ("#1", False),
        ("1", False),
        ("//x/Patient/1", False),
        (":x", False),
    ],
)
def test_absolute_means_with_a_scheme(text: str, absolute: bool) -> None:
    assert is_absolute(text) is absolute


RESOURCE: Final[dict[str, Any]] = {
    "resourceType": "CarePlan",
    "subject": {"reference": "urn:uuid:1", "display": "urn:uuid:1"},
    "instantiatesUri": ["urn:uuid:1"],
    "identifier": [{"system": "urn:uuid:1", "value": "urn:uuid:1"}],
    "goal": [{"reference": "urn:uuid:2"}, {"reference": "Goal/3"}],
    "contained": [{"resourceType": "Goal", "subject": {"reference": "urn:uuid:1"}}],
    "extension": [{"url": "urn:uuid:1", "valueReference": {"reference": "urn:uuid:2"}}],
}


def test_rewriting_touches_references_and_nothing_else() -> None:
    before = copy.deepcopy(RESOURCE)
    names = {"urn:uuid:1": "Patient/a", "urn:uuid:2": "Goal/b"}
    assert rewrite(RESOURCE, names.get) == {
        "resourceType": "CarePlan",
        "subject": {"reference": "Patient/a", "display": "urn:uuid:1"},
        "instantiatesUri": ["urn:uuid:1"],
        "identifier": [{"system": "urn:uuid:1", "value": "urn:uuid:1"}],
        "goal": [{"reference": "Goal/b"}, {"reference": "Goal/3"}],
        "contained": [{"resourceType": "Goal", "subject": {"reference": "Patient/a"}}],
        "extension": [{"url": "urn:uuid:1", "valueReference": {"reference": "Goal/b"}}],
    }
    assert before == RESOURCE
