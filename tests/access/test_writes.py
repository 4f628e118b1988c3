"""Who writes what: rights on both sides of a change, and nothing for whoever is not named."""

from collections.abc import Mapping
from typing import Any, Final

import pytest

from fhir_server.access.caller import Caller, Role
from fhir_server.access.decision import DENIED, Area, Decision, Sight
from fhir_server.access.membership import CLOSED, Standing, nobodys, record_types, standing
from fhir_server.access.session import Session, SessionUnit
from fhir_server.errors import FhirError, Kind
from fhir_server.fhir import canonicals
from fhir_server.fhir.definitions import resource_types
from fhir_server.fhir.json import Resource
from fhir_server.storage.interface import HistoryOf, Store
from tests.access.deciding import (
    CARE_TEAM,
    COLOUR,
    COMPETENT,
    EVENTS,
    INPATIENT,
    KEYWORKER,
    NURSE,
    PARENT,
    Decided,
    about,
    in_role,
    rating,
    session,
)
from tests.storage.questions import patient, put, versions

LABEL: Final = {"security": [{"system": canonicals.ACT_CODE, "code": "TBOO"}]}
HTEST: Final = {"tag": [{"system": canonicals.ACT_REASON, "code": "HTEST"}]}
ODS: Final = {"identifier": {"system": canonicals.ODS_ORGANIZATION, "value": "X99"}}
ELSEWHERE: Final = {"identifier": {"system": canonicals.ODS_ORGANIZATION, "value": "Y11"}}
NOT_KEYWORKERS: Final = (CARE_TEAM, COLOUR, INPATIENT, EVENTS, COMPETENT, PARENT, DENIED)


async def write(asked: Session, resource: Resource, method: str = "POST") -> None:
    async def work(unit: SessionUnit) -> None:
        await unit.put(resource, method)

    await asked.commit("write", work)


async def remove(asked: Session, resource_type: str, resource_id: str) -> None:
    async def work(unit: SessionUnit) -> None:
        current = await unit._unit.read(resource_type, resource_id)
        assert current is not None
        await unit.delete(current)

    await asked.commit("delete", work)


async def refused(asked: Session, resource: Resource, method: str = "POST") -> Kind:
    with pytest.raises(FhirError) as caught:
        await write(asked, resource, method)
    return caught.value.kind


async def test_a_keyworker_writes_the_plan_and_the_risk(store: Store) -> None:
    keyworker = session(store, Decided({"p1": KEYWORKER}))
    for name in ("CarePlan", "Goal", "Task", "CareTeam", "QuestionnaireResponse", "Flag"):
        await write(keyworker, about(name, f"of-{name}", "p1"))
        await write(keyworker, about(name, f"of-{name}", "p1", language="en"), "PUT")
        await remove(keyworker, name, f"of-{name}")


@pytest.mark.parametrize("decision", NOT_KEYWORKERS, ids=lambda one: f"row {one.row}")
async def test_who_reads_does_not_write(store: Store, decision: Decision) -> None:
    reader = session(store, Decided({"nobody": decision}))
    for name in record_types():
        if name != "Consent":
            mine = {**nobodys(name), "id": "x"}
            assert await refused(reader, mine) is Kind.FORBIDDEN, name
            assert await store.read(name, "x") is None


async def test_what_is_shared_is_kept_by_administrators_alone(store: Store) -> None:
    keyworker = session(store, Decided({"p1": KEYWORKER}))
    administrator = session(store, Decided(), in_role(Role.ADMINISTRATOR))
    for name in resource_types():
        mine = {"resourceType": name, "id": "x", "status": "draft"}
        assert await refused(keyworker, mine) is Kind.FORBIDDEN, name
        if standing(name) is Standing.SHARED:
            await write(administrator, mine)
        elif name != "Patient":
            assert await refused(administrator, mine) is Kind.FORBIDDEN, name


@pytest.mark.parametrize("role", [one for one in Role if one is not Role.ADMINISTRATOR])
async def test_no_other_role_keeps_what_is_shared(store: Store, role: Role) -> None:
    mine = {"resourceType": "Organization", "id": "x", "name": "Ward"}
    assert await refused(session(store, Decided(), in_role(role)), mine) is Kind.FORBIDDEN


async def test_nothing_is_moved_into_or_out_of_a_record(store: Store) -> None:
    """ATTACKS 14."""
    await put(store, about("CarePlan", "mine", "p1"), about("CarePlan", "other", "p2"))
    asked = session(store, Decided({"p1": KEYWORKER, "p2": CARE_TEAM}))
    assert await refused(asked, about("CarePlan", "mine", "p2"), "PUT") is Kind.FORBIDDEN
    assert await refused(asked, about("CarePlan", "other", "p1"), "PATCH") is Kind.FORBIDDEN
    assert versions(await store.history(HistoryOf("CarePlan"), 10)) == [1, 1]


async def test_a_label_is_changed_by_who_has_a_right_to_both_sides(store: Store) -> None:
    hidden = Decision(
        2, KEYWORKER.reads, KEYWORKER.writes, without_labels=frozenset({_pair(LABEL)})
    )
    await put(
        store, about("CarePlan", "c1", "p1"), {**about("CarePlan", "c2", "p1"), "meta": LABEL}
    )
    asked = session(store, Decided({"p1": hidden}))
    labelled = {**about("CarePlan", "c1", "p1"), "meta": LABEL}
    assert await refused(asked, labelled, "PUT") is Kind.FORBIDDEN
    # What is hidden is as if it were not there.
    assert await refused(asked, about("CarePlan", "c2", "p1"), "PUT") is Kind.NOT_FOUND
    await write(session(store, Decided({"p1": KEYWORKER})), labelled, "PUT")


def _pair(meta: Mapping[str, Any]) -> tuple[str, str]:
    return meta["security"][0]["system"], meta["security"][0]["code"]


async def test_an_update_of_what_is_hidden_is_that_of_what_is_not_there(store: Store) -> None:
    await put(store, about("CarePlan", "hidden", "p2"))
    asked = session(store, Decided({"p1": KEYWORKER}))
    for one in ("hidden", "free"):
        assert await refused(asked, about("CarePlan", one, "p1"), "PUT") is Kind.NOT_FOUND
        assert await refused(asked, about("CarePlan", one, "p1"), "PATCH") is Kind.NOT_FOUND


async def test_somebody_in_the_care_team_writes_their_own_tasks(store: Store) -> None:
    role = {"reference": "PractitionerRole/mine"}
    mine, others = {"reference": NURSE.user}, {"reference": "Practitioner/other"}
    await put(
        store,
        about("Task", "t1", "p1", owner=mine, status="requested"),
        about("Task", "t2", "p1", owner=others, status="requested"),
        about("Task", "t3", "p1", owner=role, status="requested"),
        about("Task", "t4", "p1", owner=ODS, status="requested"),
        about("Task", "t5", "p1", owner=ELSEWHERE, status="requested"),
        {
            "resourceType": "PractitionerRole",
            "id": "mine",
            "practitioner": {"reference": NURSE.user},
        },
    )
    asked = session(store, Decided({"p1": CARE_TEAM}))
    for one, owner in (("t1", mine), ("t3", role), ("t4", ODS)):
        done = about("Task", one, "p1", owner=owner, status="completed")
        await write(asked, done, "PUT")
        assert await refused(asked, {**done, "meta": LABEL}, "PUT") is Kind.FORBIDDEN
    for one, owner in (("t2", others), ("t2", mine), ("t5", ELSEWHERE), ("t1", others)):
        done = about("Task", one, "p1", owner=owner, status="completed")
        assert await refused(asked, done, "PUT") is Kind.FORBIDDEN
    assert await refused(asked, about("Task", "new", "p1", owner=mine)) is Kind.FORBIDDEN
    moved = Decided({"p1": CARE_TEAM, "p2": CARE_TEAM})
    to_another = about("Task", "t1", "p2", owner=mine, status="completed")
    assert await refused(session(store, moved), to_another, "PUT") is Kind.FORBIDDEN


async def test_a_unit_tells_of_its_own_stays_alone(store: Store) -> None:
    unit = session(store, Decided({"p1": EVENTS, "p2": EVENTS}))
    await write(unit, about("Encounter", "e1", "p1", serviceProvider=ODS))
    assert await refused(unit, about("Encounter", "e2", "p1")) is Kind.FORBIDDEN
    elsewhere = about("Encounter", "e2", "p1", serviceProvider=ELSEWHERE)
    assert await refused(unit, elsewhere) is Kind.FORBIDDEN
    labelled = {**about("Encounter", "e2", "p1", serviceProvider=ODS), "meta": LABEL}
    assert await refused(unit, labelled) is Kind.FORBIDDEN
    # It is shown nothing of the patient, the stay that it wrote among it.
    ended = about("Encounter", "e1", "p1", serviceProvider=ODS, status="finished")
    assert await refused(unit, ended, "PUT") is Kind.NOT_FOUND
    there = Decision(5, INPATIENT.reads, rights=EVENTS.rights)
    known = session(store, Decided({"p1": there, "p2": there}))
    await write(known, ended, "PUT")
    moved = about("Encounter", "e1", "p2", serviceProvider=ODS)
    assert await refused(known, moved, "PUT") is Kind.FORBIDDEN
    with pytest.raises(FhirError):
        await remove(known, "Encounter", "e1")
    nowhere = Caller("system", organisation="")
    asked = session(store, Decided({"p1": EVENTS}), nowhere)
    assert await refused(asked, about("Encounter", "e3", "p1", serviceProvider=ODS))


async def test_an_administrator_brings_a_child_onto_the_register(store: Store) -> None:
    administrator = session(store, Decided(), in_role(Role.ADMINISTRATOR))

    async def enrol(unit: SessionUnit, whose: str) -> None:
        await unit.put(patient("new"), "POST")
        await unit.put(about("EpisodeOfCare", "e1", whose), "POST")

    await administrator.commit("transaction", lambda unit: enrol(unit, "new"))
    assert await administrator.read("Patient", "new") is None
    assert await refused(administrator, about("EpisodeOfCare", "e2", "new")) is Kind.FORBIDDEN
    assert await refused(administrator, about("Task", "t1", "p1")) is Kind.FORBIDDEN

    async def with_consent(unit: SessionUnit) -> None:
        await unit.put(patient("second"), "POST")
        await unit.put(about("Consent", "k1", "second", dateTime="2026-11-22"), "POST")

    with pytest.raises(FhirError) as caught:
        await administrator.commit("transaction", with_consent)
    assert caught.value.kind is Kind.FORBIDDEN
    assert await store.read("Patient", "second") is None


async def test_a_load_test_writes_what_is_marked_and_about_marked_patients(store: Store) -> None:
    await put(store, patient("real"), about("Flag", "f1", "real"))
    tester = session(store, Decided(), in_role(Role.LOAD_TEST))
    made_up = {**patient("made-up"), "meta": HTEST}
    await write(tester, made_up, "PUT")
    await write(tester, {**about("Flag", "f2", "made-up"), "meta": HTEST})
    await write(tester, {"resourceType": "Organization", "id": "o1", "meta": HTEST})
    for wrong in (
        patient("unmarked"),
        {**patient("real"), "meta": HTEST},
        about("Flag", "f3", "made-up"),
        {**about("Flag", "f1", "made-up"), "meta": HTEST},
        {**about("Flag", "f3", "real"), "meta": HTEST},
        {**about("Flag", "f3", "not-there"), "meta": HTEST},
        {"resourceType": "SearchParameter", "id": "s1", "meta": HTEST},
        {"resourceType": "ValueSet", "id": "v1", "meta": HTEST},
        {"resourceType": "AuditEvent", "id": "a1", "meta": HTEST},
    ):
        assert await refused(tester, wrong, "PUT") is Kind.FORBIDDEN, wrong


async def test_nobody_marks_what_is_real_as_test_data(store: Store) -> None:
    """It would be shown to test systems."""
    await put(
        store,
        patient("p1"),
        {**patient("p2"), "meta": HTEST},
        rating("f1", "p1"),
        {**rating("f2", "p2"), "meta": HTEST},
    )
    asked = session(store, Decided({"p1": KEYWORKER, "p2": KEYWORKER}))
    assert await refused(asked, {**rating("f1", "p1"), "meta": HTEST}, "PUT") is Kind.FORBIDDEN
    assert await refused(asked, {**rating("new", "p1"), "meta": HTEST}) is Kind.FORBIDDEN
    assert await refused(asked, rating("f2", "p2", "blue"), "PUT") is Kind.FORBIDDEN
    await write(asked, {**rating("f2", "p2", "blue"), "meta": HTEST}, "PUT")
    await write(asked, {**rating("f3", "p2"), "meta": HTEST})


async def test_what_is_seen_in_part_is_not_written(store: Store) -> None:
    await put(store, rating("f1", "p1"))
    partial = Decision(4, ((Area.FLAG, Sight.COLOUR),), frozenset({Area.FLAG}))
    asked = session(store, Decided({"p1": partial}))
    assert await refused(asked, rating("f1", "p1", "blue"), "PUT") is Kind.FORBIDDEN


async def test_whoever_is_about_several_needs_a_right_to_each(store: Store) -> None:
    def meeting(*whose: str) -> Resource:
        actors = [{"actor": {"reference": f"Patient/{one}"}} for one in whose]
        return {"resourceType": "Appointment", "id": "a1", "participant": actors}

    asked = session(store, Decided({"p1": KEYWORKER, "p2": CARE_TEAM}))
    await write(asked, meeting("p1"))
    assert await refused(asked, meeting("p1", "p2"), "PUT") is Kind.FORBIDDEN
    assert await refused(asked, meeting(), "PUT") is Kind.FORBIDDEN


async def test_closed_types_are_written_by_nobody(store: Store) -> None:
    asked = session(store, Decided({"p1": KEYWORKER}))
    for name in sorted(CLOSED):
        assert await refused(asked, {"resourceType": name, "id": "x"}) is Kind.FORBIDDEN
