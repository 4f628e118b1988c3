"""Each of R4's types is classed, and nobody is in a record who is only mentioned there."""

from typing import Any

import pytest

from fhir_server.access.decision import Area
from fhir_server.access.membership import (
    CLOSED,
    Standing,
    about_only,
    area,
    nobodys,
    parameter,
    patients_of,
    record_types,
    standing,
)
from fhir_server.fhir.compartments import memberships
from fhir_server.fhir.definitions import resource_types
from fhir_server.search.extract import extract
from fhir_server.search.match import match
from fhir_server.search.values import ReferenceValue


@pytest.mark.parametrize("resource_type", resource_types())
def test_every_type_was_thought_of(resource_type: str) -> None:
    """ATTACKS 9: one type that forgot the filter. What is new is closed, and fails here."""
    assert (standing(resource_type) is Standing.CLOSED) == (resource_type in CLOSED)


@pytest.mark.parametrize("resource_type", resource_types())
def test_subscriptions_alone_are_their_makers_own(resource_type: str) -> None:
    assert (standing(resource_type) is Standing.OWN) == (resource_type == "Subscription")


@pytest.mark.parametrize("resource_type", resource_types())
def test_what_may_be_in_a_patients_compartment_is_shared_with_nobody(resource_type: str) -> None:
    if any(name == "Patient" for name, _ in memberships(resource_type)):
        assert standing(resource_type) is not Standing.SHARED


@pytest.mark.parametrize("resource_type", [one for one in record_types() if one != "Patient"])
def test_a_record_says_whose_it_is(resource_type: str) -> None:
    if resource_type == "Appointment":  # whose patients stand deeper
        mine: Any = {
            "resourceType": "Appointment",
            "participant": [{"actor": {"reference": "Patient/nobody"}}],
        }
    else:
        mine = nobodys(resource_type)
    assert patients_of(mine) == {"nobody"}
    assert match(about_only(resource_type, ["Patient/nobody"]), mine)
    assert not match(about_only(resource_type, ["Patient/other"]), mine)
    assert patients_of({"resourceType": resource_type}) == frozenset()
    assert area(resource_type) in Area


@pytest.mark.parametrize("resource_type", record_types())
def test_who_is_only_mentioned_is_not_whom_it_is_about(resource_type: str) -> None:
    """ATTACKS 10: only one parameter counts, and none that can be about somebody's part in it."""
    if resource_type != "Patient":
        assert parameter(resource_type) in ("patient", "subject")


MENTIONS: list[dict[str, Any]] = [
    {"resourceType": "Observation", "focus": [{"reference": "Patient/1"}]},
    {"resourceType": "Communication", "recipient": [{"reference": "Patient/1"}]},
    {"resourceType": "CareTeam", "participant": [{"member": {"reference": "Patient/1"}}]},
    {"resourceType": "DocumentReference", "author": [{"reference": "Patient/1"}]},
    {"resourceType": "Task", "focus": {"reference": "Patient/1"}},
    {"resourceType": "Patient", "link": [{"other": {"reference": "Patient/1"}, "type": "seealso"}]},
    {"resourceType": "Flag", "subject": {"reference": "https://elsewhere.example/Patient/1"}},
    {"resourceType": "Flag", "subject": {"reference": "#1"}, "contained": []},
    {"resourceType": "Flag", "subject": {"reference": "Group/1"}},
    {"resourceType": "Flag", "subject": {"display": "Patient/1"}},
]


@pytest.mark.parametrize("mention", MENTIONS, ids=lambda one: one["resourceType"])
def test_a_mention_is_no_membership(mention: dict[str, Any]) -> None:
    assert patients_of(mention) == frozenset()
    if mention["resourceType"] != "Patient":
        assert not match(about_only(mention["resourceType"], ["Patient/1"]), mention)


def test_what_is_about_several_is_of_all_of_them() -> None:
    both = {
        "resourceType": "Appointment",
        "participant": [
            {"actor": {"reference": "Patient/1"}},
            {"actor": {"reference": "Practitioner/1"}},
            {"actor": {"reference": "Patient/2"}},
        ],
    }
    assert patients_of(both) == {"1", "2"}
    assert not match(about_only("Appointment", ["Patient/1"]), both)
    assert match(about_only("Appointment", ["Patient/1", "Patient/2"]), both)
    partly = {**both, "participant": [*both["participant"][:1], _elsewhere()]}
    assert patients_of(partly) == frozenset()
    assert not match(about_only("Appointment", ["Patient/1"]), partly)


def _elsewhere() -> dict[str, Any]:
    return {"actor": {"reference": "https://elsewhere.example/Patient/9"}}


def test_what_counts_is_what_a_search_finds_a_record_by() -> None:
    for name in record_types():
        if name == "Patient":
            continue
        values = [
            code for code, value in extract(nobodys(name)) if isinstance(value, ReferenceValue)
        ]
        assert parameter(name) in values or name == "Appointment", name
