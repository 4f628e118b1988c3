"""The policy by consent: what a search finds is what may be seen of each, and nothing beside."""

import random
from collections.abc import Sequence
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.access import membership
from fhir_server.access.caller import Caller, Role
from fhir_server.access.consent_terms import ConsentTerms, every_scope
from fhir_server.access.decision import Area, Decision, Sight
from fhir_server.access.masking import is_public
from fhir_server.access.session import Session
from fhir_server.access.sight import sight_of
from fhir_server.errors import FhirError
from fhir_server.fhir import canonicals
from fhir_server.fhir.json import Resource
from fhir_server.search.ast import Everything, Node
from fhir_server.search.match import match
from fhir_server.search.parse import parse
from fhir_server.search.rewrite import targets, used
from fhir_server.storage.audited import AuditQuery, AuditRow
from fhir_server.storage.interface import HistoryOf, Store
from tests.access.deciding import (
    CARE_TEAM,
    COLOUR,
    COMPETENT,
    EVENTS,
    INPATIENT,
    KEYWORKER,
    NOW,
    NURSE,
    Decided,
    Undecidable,
    about,
    chances,
    in_role,
    rating,
    rule,
    session,
)
from tests.storage.questions import BASE, delete, patient, put, query

PATIENTS: Final = tuple(f"p{number}" for number in range(6))
LABELS: Final = ((canonicals.ACT_CODE, "TBOO"), (canonicals.ACT_CODE, "PSY"))
PLANS: Final = ("keyworking-plan", "discharge-plan", "step-down-plan")
DECISIONS: Final = (
    *(KEYWORKER, CARE_TEAM, COLOUR, INPATIENT, EVENTS, COMPETENT),
    Decision(3, KEYWORKER.reads, without_types=frozenset({"Consent", "Flag"})),
    Decision(3, KEYWORKER.reads, without_labels=frozenset(LABELS)),
    Decision(15, tuple((area, Sight.ALL) for area in Area if area is not Area.FLAG)),
)
ASKED: Final = (
    *("Flag", "Flag?status=active", "Flag?author=Practitioner/1", "Flag?_id=f0,f1,f2,f3"),
    *("Flag?code=red", f"Flag?code={canonicals.DSR_RATING}|red", "Flag?date:missing=true"),
    *("CarePlan", "CarePlan?status:not=draft", "CarePlan?subject=Patient/p1", "Flag?patient=p1"),
    *("CarePlan?patient=p1,p2,p3&status=active", "Appointment?patient=p1", "Provenance?patient=p2"),
    *("Task?patient=p0&subject=Patient/p0", "Task?patient=p0&subject=Patient/p1", "Patient?_id=p1"),
    *("Patient", "Patient?gender=female", "Patient?name=Test", "Patient?address-city=Leeds"),
    *("Appointment", "Task", "Consent", "Provenance", "Group", "Organization", "Bundle"),
    *("AuditEvent", "Basic", "Observation", "RelatedPerson"),
)


def meta(chosen: random.Random) -> dict[str, Any]:
    label = chosen.choice([None, None, None, *LABELS])
    return {} if label is None else {"security": [{"system": label[0], "code": label[1]}]}


def resources(chosen: random.Random, number: int) -> Sequence[Resource]:
    whose, other = chosen.choice(PATIENTS), chosen.choice(PATIENTS)
    author = {"reference": f"Practitioner/{chosen.randrange(3)}"}
    plan = {"system": canonicals.CARE_PLAN_CATEGORY, "code": chosen.choice(PLANS)}
    found = [
        rating(
            f"f{number}",
            whose,
            chosen.choice(["red", "blue"]),
            author=author,
            status=chosen.choice(["active", "inactive"]),
        ),
        about("CarePlan", f"c{number}", whose, status="active", category=[{"coding": [plan]}]),
        about("Task", f"t{number}", whose, focus={"reference": f"Patient/{other}"}),
        about("Consent", f"k{number}", whose, status="active"),
        about("Observation", f"o{number}", whose, focus=[{"reference": f"Patient/{other}"}]),
        {
            "resourceType": "Appointment",
            "id": f"a{number}",
            "participant": [{"actor": {"reference": f"Patient/{one}"}} for one in {whose, other}],
        },
        {
            "resourceType": "Provenance",
            "id": f"v{number}",
            "target": [
                {"reference": f"Patient/{whose}"},
                {"reference": chosen.choice([f"Patient/{other}", f"Flag/f{number}"])},
            ],
        },
        {"resourceType": "Group", "id": f"g{number}", "member": []},
        {"resourceType": "Organization", "id": f"r{number}", "name": "Unit"},
        {"resourceType": "Basic", "id": f"b{number}", "author": {"reference": f"Patient/{whose}"}},
    ]
    return [{**one, "meta": meta(chosen)} if one["id"][0] != "g" else one for one in found]


def people() -> list[Resource]:
    return [
        {
            **patient(one),
            "gender": "female" if number % 2 else "male",
            "name": [{"family": "Test"}],
            "address": [{"city": "Leeds"}],
        }
        for number, one in enumerate(PATIENTS)
    ]


async def a_region(store: Store) -> list[Resource]:
    chosen = chances(7)
    made = [*people(), *(one for n in range(12) for one in resources(chosen, n))]
    await put(store, *made)
    return made


def decided(seed: int) -> Decided:
    chosen = chances(seed)
    known = [one for one in PATIENTS if chosen.random() < 0.7]
    return Decided({one: chosen.choice(DECISIONS) for one in known})


async def ids(asked: Session, written: str) -> set[str]:
    found = query(written)
    page = await asked.search(found, 500)
    assert page.after is None
    assert await asked.total(found) == len(page.matches)
    return {match.id for match in page.matches}


def criteria(written: str) -> tuple[str, Node]:
    name, _, rest = written.partition("?")
    pairs = [tuple(one.split("=", 1)) for one in rest.split("&") if one]
    return name, parse(name, [(a, b) for a, b in pairs], base=BASE, now=NOW).query.where


def allowed(rules: Decided, one: Resource, where: Node) -> bool:
    """The table, read a second time: resource by resource, decision by decision."""
    name = one["resourceType"]
    if name in ("Organization",):
        return True
    whose = membership.patients_of(one)
    if not whose or not whose <= rules.by_patient.keys():
        return False
    sights = [sight_of(rules.by_patient[patient_id], one) for patient_id in whose]
    if Sight.NONE in sights:
        return False
    return Sight.COLOUR not in sights or is_public(name, used(where))


@pytest.mark.parametrize("seeds", [range(6), range(6, 12)])
async def test_a_search_finds_what_may_be_seen_of_each(store: Store, seeds: range) -> None:
    made = await a_region(store)
    for seed in seeds:
        await finds_what_may_be_seen(store, made, decided(seed))


async def finds_what_may_be_seen(store: Store, made: list[Resource], rules: Decided) -> None:
    asked = session(store, rules)
    for written in ASKED:
        name, where = criteria(written)
        wanted = {
            one["id"]
            for one in made
            if one["resourceType"] == name and match(where, one) and allowed(rules, one, where)
        }
        assert await ids(asked, written) == wanted, written
        if isinstance(where, Everything):
            for one in made:
                if one["resourceType"] == name:
                    assert (await asked.read(name, one["id"]) is not None) == (one["id"] in wanted)


@given(seed=st.integers(0, 10**6))
def test_the_term_means_what_is_decided_of_each_resource(seed: int) -> None:
    """Without a store: the term by `match`, and the sight of one resource."""
    chosen = chances(seed)
    rules = decided(seed)
    known: dict[Decision, frozenset[str]] = {}
    for patient_id, decision in rules.by_patient.items():
        known[decision] = known.get(decision, frozenset()) | {patient_id}
    terms = ConsentTerms(NURSE, every_scope, known)
    for one in [*people(), *resources(chosen, 0), *resources(chosen, 1)]:
        for where in (Everything(), criteria("Flag?author=Practitioner/1")[1]):
            term = terms.readable(one["resourceType"], used(where), targets(where))
            assert match(term, one) == allowed(rules, one, where), one


async def test_nothing_is_seen_where_nothing_can_be_decided(store: Store) -> None:
    """ATTACKS 27: an exception denies."""
    await a_region(store)
    asked = session(store, Undecidable())
    assert await ids(asked, "Flag") == set()
    assert await asked.read("Flag", "f0") is None
    assert await asked.vread("Flag", "f0", 1) is None
    assert list(await asked.history(HistoryOf("Flag"), 50)) == []
    assert await ids(asked, "Organization")


async def test_a_decision_holds_for_the_next_question_already(store: Store) -> None:
    await a_region(store)
    rules = Decided(dict.fromkeys(PATIENTS, KEYWORKER))
    asked = session(store, rules)
    assert len(await ids(asked, "CarePlan")) == 12
    page = await asked.search(query("CarePlan"), 3)
    rules.by_patient.clear()
    assert await ids(asked, "CarePlan") == set()
    assert (await asked.search(query("CarePlan"), 3, page.after)).matches == []
    assert await asked.read("CarePlan", "c0") is None


async def test_only_auditors_read_the_audit(store: Store) -> None:
    """Its rows; an AuditEvent that is stored as if it were one of them is nobody's."""
    await put(store, {"resourceType": "AuditEvent", "id": "e1"})
    await store.commit(lambda unit: unit.audit(AuditRow(caller="c1", action="read")))
    for role in Role:
        asked = session(store, Decided(), in_role(role))
        assert await asked.read("AuditEvent", "e1") is None
        assert await ids(asked, "AuditEvent") == set()
        if role is Role.AUDITOR:
            (entry,) = await asked.audited(AuditQuery(), 10)
            assert entry.row.caller == "c1"
        else:
            with pytest.raises(FhirError, match="auditors alone"):
                await asked.audited(AuditQuery(), 10)


async def test_a_load_test_sees_test_data_alone(store: Store) -> None:
    mark = {"tag": [{"system": canonicals.ACT_REASON, "code": "HTEST"}]}
    await put(
        store,
        patient("real"),
        {**patient("made-up"), "meta": mark},
        {**about("Flag", "f1", "made-up"), "meta": mark},
        about("Flag", "f2", "made-up"),
        {"resourceType": "Bundle", "id": "b1", "meta": mark},
    )
    asked = session(store, Decided({"real": KEYWORKER}), in_role(Role.LOAD_TEST))
    assert await ids(asked, "Patient") == {"made-up"}
    assert await ids(asked, "Flag") == {"f1"}
    assert await ids(asked, "Bundle") == {"b1"}
    assert await asked.read("Flag", "f2") is None


async def test_scopes_narrow_what_the_table_allows(store: Store) -> None:
    await a_region(store)

    def scopes(caller: Caller, resource_type: str, letter: str) -> Node:
        del caller
        if resource_type == "CarePlan" and letter in "rs":
            return criteria("CarePlan?category=keyworking-plan")[1]
        return criteria("Flag?_id=none")[1] if letter == "r" else Everything()

    rules = Decided(dict.fromkeys(PATIENTS, KEYWORKER))
    asked = Session(store, NURSE, rule(rules, scopes=scopes))
    whole = session(store, rules)
    narrowed = await ids(asked, "CarePlan")
    assert narrowed == await ids(whole, "CarePlan?category=keyworking-plan")
    for one in await ids(whole, "CarePlan"):
        assert (await asked.read("CarePlan", one) is not None) == (one in narrowed)
    assert await asked.read("Flag", "f0") is None


async def test_a_moved_or_relabelled_resource_takes_its_history_along(store: Store) -> None:
    label = {"security": [{"system": canonicals.ACT_CODE, "code": "TBOO"}]}
    await put(store, about("CarePlan", "c1", "p1"), about("CarePlan", "c2", "p1"))
    await put(
        store, {**about("CarePlan", "c1", "p1"), "meta": label}, about("CarePlan", "c2", "p2")
    )
    asked = session(store, Decided({"p1": COMPETENT, "p2": COMPETENT}))
    assert await asked.vread("CarePlan", "c1", 1) is None
    assert list(await asked.history(HistoryOf("CarePlan", "c1"), 10)) == []
    assert await asked.vread("CarePlan", "c2", 1) is not None
    assert await session(store, Decided({"p1": COMPETENT})).vread("CarePlan", "c2", 1) is None


async def test_a_deletion_is_seen_by_who_saw_what_was_deleted(store: Store) -> None:
    await put(store, about("CarePlan", "c1", "p1"))
    await delete(store, "CarePlan", "c1")
    mine, other = session(store, Decided({"p1": CARE_TEAM})), session(store, Decided())
    gone = await mine.read("CarePlan", "c1")
    assert gone is not None
    assert gone.deleted
    assert len(await mine.history(HistoryOf("CarePlan", "c1"), 10)) == 2
    assert await other.read("CarePlan", "c1") is None
    assert list(await other.history(HistoryOf("CarePlan", "c1"), 10)) == []


async def test_a_chain_through_the_mask_tells_nothing_that_it_covers(store: Store) -> None:
    """ATTACKS 3: the city of a child whose colour alone is known."""
    await a_region(store)
    asked = session(store, Decided(dict.fromkeys(PATIENTS, COLOUR)))
    for written in (
        *("Flag?patient.address-city=Leeds", "Flag?patient.gender=male,female"),
        *("Patient?_has:Flag:patient:author=Practitioner/0,Practitioner/1,Practitioner/2",),
        *("Patient?_has:Task:patient:status:missing=true", "Flag?patient.gender:missing=false"),
    ):
        assert await ids(asked, written) == set(), written
    assert await ids(asked, "Flag?patient.name=Test")
    assert await ids(asked, "Patient?_has:Flag:patient:status=active")
