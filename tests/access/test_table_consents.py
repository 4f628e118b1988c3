"""The decision table's moments and consents: who gives one, which counts, what its rules take out.

They are those of DOMAIN.md, section 7, and docs/decision-table.md.
"""

from typing import Any, Final

import pytest

from fhir_server.access.decision import DENIED, Decision
from fhir_server.access.facts.record import birthday
from fhir_server.access.table import explained
from fhir_server.fhir.canonicals import ACT_CODE, ACT_REASON
from fhir_server.fhir.dates import instant
from fhir_server.fhir.json import Resource
from tests.access.people import (
    FIFTEEN,
    NINETEEN,
    NOW,
    SEVENTEEN,
    TWELVE,
    at,
    carer,
    child,
    consent,
    episode,
    ods,
    parental,
    ref,
    rule,
    somebody,
)
from tests.access.rows import (
    CAMHS,
    CHILD,
    KEYWORKER,
    MUM,
    RESOURCE_TYPES,
    TEAM,
    case_of,
    decided,
    row,
)

# Ages


@pytest.mark.parametrize(
    ("born", "age", "reached"),
    [
        ("2010-11-22", 16, "2026-11-22T00:00:00Z"),
        ("2010-06-30", 16, "2026-06-29T23:00:00Z"),
        ("2008-02-29", 16, "2024-02-29T00:00:00Z"),
        ("2008-02-29", 18, "2026-03-01T00:00:00Z"),
        ("2012-02-29", 13, "2025-03-01T00:00:00Z"),
        ("2001-03-25", 25, "2026-03-25T00:00:00Z"),
        ("2001-03-29", 25, "2026-03-29T00:00:00Z"),
        ("2001-03-30", 25, "2026-03-29T23:00:00Z"),
    ],
)
def test_a_birthday_begins_at_midnight_in_london(born: str, age: int, reached: str) -> None:
    assert instant(birthday(born, age)) == instant(at(reached))


def test_at_13_a_parents_access_is_suspended_to_the_moment() -> None:
    papers = (child(born="2013-08-01"), carer(), parental())
    turn = at("2026-07-31T23:00:00Z")
    assert row(MUM, *papers, now=turn - 1) == 8
    assert row(MUM, *papers, now=turn) == 9


def test_at_13_a_parents_consent_stops_to_open_the_record_to_others() -> None:
    papers = (child(born="2013-08-01"), carer(), parental(), TEAM, episode("Practitioner/kw"))
    turn = at("2026-07-31T23:00:00Z")
    assert [row(CAMHS, *papers, now=turn - 1), row(CAMHS, *papers, now=turn)] == [3, 0]
    assert [row(KEYWORKER, *papers, now=turn - 1), row(KEYWORKER, *papers, now=turn)] == [2, 15]


def test_at_16_a_parents_consent_ends_whatever_its_period_says() -> None:
    papers = (child(born="2010-08-01"), carer(), parental(), TEAM)
    turn = at("2026-07-31T23:00:00Z")
    assert [row(MUM, *papers, now=turn - 1), row(MUM, *papers, now=turn)] == [10, 0]
    assert [row(CAMHS, *papers, now=turn - 1), row(CAMHS, *papers, now=turn)] == [3, 0]


def test_at_16_the_patient_needs_no_assessment() -> None:
    turn = at("2026-07-31T23:00:00Z")
    papers = (child(born="2010-08-01"),)
    assert [row(CHILD, *papers, now=turn - 1), row(CHILD, *papers, now=turn)] == [0, 7]


def test_at_18_the_childrens_register_ends_and_a_new_consent_opens_the_adults() -> None:
    old = (child(born="2008-08-01"), consent("register", "consent", outcome=None))
    turn = at("2026-07-31T23:00:00Z")
    assert [row(CAMHS, *old, now=turn - 1), row(CAMHS, *old, now=turn)] == [4, 0]
    new = consent("register", "consent", outcome=None, dateTime="2026-08-01", id="new")
    assert row(CAMHS, *old, new, now=turn) == 4


def test_at_25_the_service_ends() -> None:
    papers = (child(born="2001-08-01"), consent(basis="consent", outcome=None), TEAM)
    turn = at("2026-07-31T23:00:00Z")
    assert [row(CAMHS, *papers, now=turn - 1), row(CAMHS, *papers, now=turn)] == [3, 0]


def test_a_month_of_birth_counts_for_nobody_before_it_is_over() -> None:
    """Who may be 16 is no child to a parent; who may be 15 is no adult."""
    papers = (child(born="2010-11"), carer(), parental(), TEAM)
    assert [row(caller, *papers) for caller in (MUM, CHILD, CAMHS)] == [0, 0, 0]
    assert row(MUM, child(born="2013-11"), carer(), parental()) == 0


def test_somebody_related_is_nobodys_keyworker() -> None:
    assert row(MUM, episode("RelatedPerson/mum"), carer(), consent()) == 9


@pytest.mark.parametrize("born", [None, "2010-02-30", "soon", 2010])
def test_without_a_date_of_birth_consent_counts_for_nothing(born: Any) -> None:
    patient = {**child(), "birthDate": born}
    assert row(CAMHS, patient, TEAM, consent()) == 0
    assert row(CHILD, patient) == 0


@pytest.mark.parametrize(
    "death",
    [{"deceasedBoolean": True}, {"deceasedDateTime": "2026-11-22"}, {"deceasedDateTime": "?"}],
)
def test_consent_ends_with_death(death: dict[str, Any]) -> None:
    patient = child(born=NINETEEN, **death)
    own = consent(basis="consent", outcome=None)
    assert row(CAMHS, patient, TEAM, own) == 0
    assert row(CHILD, patient, own) == 0
    assert row(KEYWORKER, patient, episode("Practitioner/kw"), own) == 15
    still = child(born=NINETEEN, deceasedBoolean=False)
    assert row(CAMHS, still, TEAM, own) == 3


# Who gives consent


@pytest.mark.parametrize(
    ("patient", "given", "counts"),
    [
        (FIFTEEN, consent(), True),
        (FIFTEEN, consent(basis="consent"), True),
        (FIFTEEN, consent(basis="consent", outcome=None), False),
        (SEVENTEEN, consent(basis="consent", outcome=None), True),
        (SEVENTEEN, consent(basis="consent", outcome=None, dateTime="2025-05-03"), False),
        (SEVENTEEN, consent(basis="consent", outcome=("lacks-capacity", "2026-01-01")), False),
        (FIFTEEN, consent(performer="RelatedPerson/mum"), False),
        (FIFTEEN, consent(performer="Practitioner/dr"), False),
        (FIFTEEN, consent(performer="Patient/2"), False),
        (FIFTEEN, {**consent(), "performer": [ref("Patient/1"), ref("Practitioner/dr")]}, False),
        (FIFTEEN, {**consent(), "performer": []}, False),
        (FIFTEEN, consent(policyRule={}), False),
        (FIFTEEN, consent(basis="UNK"), False),
        (FIFTEEN, consent(dateTime="2026-11-23"), False),
        (FIFTEEN, {**consent(), "dateTime": None}, False),
        (TWELVE, parental(), True),
        (TWELVE, {**parental(), "performer": [ref("RelatedPerson/stranger")]}, False),
        (SEVENTEEN, parental(), False),
    ],
)
def test_a_consent_counts_when_its_giver_may_give_it(
    patient: str, given: Resource, counts: bool
) -> None:
    assert row(CAMHS, child(born=patient), carer(), TEAM, given) == (3 if counts else 0)


@pytest.mark.parametrize(
    ("change", "counts"),
    [
        ({}, True),
        ({"sourceAttachment": None}, True),
        ({"outcome": ("capacity-presumed", "2026-03-01")}, False),
        ({"outcome": None}, False),
        ({"performer": "RelatedPerson/mum"}, False),
        ({"performer": "Patient/1"}, False),
    ],
)
def test_a_best_interest_decision_is_professionals_for_who_lacks_capacity(
    change: dict[str, Any], counts: bool
) -> None:
    told = {
        "performer": "PractitionerRole/sw",
        "outcome": ("lacks-capacity", "2026-03-01"),
        **change,
    }
    decision = consent("keyworking", "best-interest", **told)
    for born, able in ((SEVENTEEN, True), (FIFTEEN, False)):
        found = row(CAMHS, child(born=born), carer(), TEAM, decision)
        assert found == (3 if counts and able else 0)
    del decision["sourceAttachment"]
    assert row(CAMHS, child(born=SEVENTEEN), carer(), TEAM, decision) == 0


# Several consents


@pytest.mark.parametrize(
    ("others", "counts"),
    [
        ([consent(id="n", status="inactive", dateTime="2026-04-01")], False),
        ([consent(id="n", status="rejected", dateTime="2026-03-02")], False),
        ([consent(id="n", status="rejected", dateTime="2026-03-01")], True),
        ([{**consent(id="n", status="rejected"), "dateTime": None}], False),
        ([consent(id="n", dateTime="2026-04-01", provision=rule("deny", ods("H1")))], False),
        ([consent(id="n", dateTime="2026-02-01", provision=rule("deny", ods("H1")))], True),
        ([consent(id="n", dateTime="2026-04-01", provision=rule("deny", ods("E1")))], True),
        ([consent(id="n", dateTime="2026-04-01", provision=rule("permit", ods("E1")))], True),
        ([consent("register", id="n", dateTime="2026-04-01", status="rejected")], True),
        ([consent(id="n", dateTime="2026-04-01", status="proposed")], True),
        ([consent(id="n", dateTime="2026-04-01", provision="nothing")], False),
    ],
)
def test_the_newest_word_counts(others: list[Resource], counts: bool) -> None:
    assert row(CAMHS, TEAM, consent(), *others) == (3 if counts else 0)


# Rules within rules


def rules(*inner: dict[str, Any], **rest: Any) -> Decision:
    return decided(CAMHS, TEAM, consent(provision=rule(provision=[*inner], **rest)))


def about(*types: str) -> dict[str, Any]:
    return {"class": [{"system": RESOURCE_TYPES, "code": one} for one in types]}


def test_a_rule_within_takes_types_and_labels_out() -> None:
    assert rules(rule("deny", **about("Goal"))).without_types == {"Goal"}
    label = {"system": ACT_CODE, "code": "R"}
    assert rules(rule("deny", securityLabel=[label])).without_labels == {(ACT_CODE, "R")}
    assert rules(rule("deny", ods("H1"))) == DENIED
    assert rules(rule("deny", ods("E1"))).without_types == frozenset()


def test_a_permit_for_types_leaves_out_all_others() -> None:
    found = rules(**about("CarePlan", "Patient"))
    assert {"CarePlan", "Patient"} & found.without_types == set()
    assert {"Consent", "Flag", "Observation"} <= found.without_types


def test_the_deepest_rule_that_means_the_caller_counts() -> None:
    but_us = rule("permit", "Practitioner/dr")
    assert rules(rule("deny", ods("H1"), provision=[but_us])).row == 3
    not_us = rule("permit", "Practitioner/other")
    assert rules(rule("deny", ods("H1"), provision=[not_us])) == DENIED
    again = rule("permit", "Practitioner/dr", provision=[rule("deny", **about("Flag"))])
    assert rules(rule("deny", ods("H1"), provision=[again])).without_types == {"Flag"}


def test_of_two_rules_beside_each_other_the_denial_counts() -> None:
    permits, denies = rule("permit"), rule("deny", **about("Flag"))
    for inner in ((permits, denies), (denies, permits)):
        assert rules(*inner).without_types == {"Flag"}


def test_a_permit_within_never_gives_more_than_what_it_is_within() -> None:
    wide = rule("permit", "Practitioner/dr", **about("Goal", "Flag"))
    narrow = {"class": about("Goal")["class"], "provision": [wide]}
    assert "Flag" in decided(CAMHS, TEAM, consent(provision=rule(**narrow))).without_types


@pytest.mark.parametrize(
    "odd",
    [
        {"dataPeriod": {"start": "2026-01-01"}},
        {"data": [{"meaning": "instance", "reference": ref("Goal/1")}]},
        {"code": [{"text": "x"}]},
        {"action": [{"text": "collect"}]},
        {"securityLabel": [{"system": ACT_CODE, "code": "R"}]},
        {"class": [{"system": "urn:x", "code": "Goal"}]},
        {"purpose": [{"code": "TREAT"}]},
        {"actor": [{"role": {}, "reference": {"display": "us"}}]},
        {"period": {"start": "soon"}},
        {"actor": "us"},
        {"type": "allow"},
        {"type": None},
    ],
)
def test_what_cannot_be_carried_out_permits_nothing_and_denies_all(odd: dict[str, Any]) -> None:
    caller = somebody("Practitioner/dr", "H1", purpose="TREAT")
    assert row(caller, TEAM, consent(provision={**rule(), **odd})) == 0
    if "securityLabel" not in odd:
        denial = {**rule("deny"), **odd}
        assert row(caller, TEAM, consent(provision=rule(provision=[denial]))) == 0


MODIFIED: Final = (
    {"implicitRules": "https://elsewhere.example/rules"},
    {"_implicitRules": {"id": "a"}},
    {"modifierExtension": [{"url": "https://elsewhere.example/not", "valueBoolean": True}]},
)


@pytest.mark.parametrize("more", MODIFIED)
def test_what_something_unknown_may_turn_round_opens_nothing(more: dict[str, Any]) -> None:
    """Definitions of a package may let it be stored; what it does to a consent they do not say."""
    older = consent(id="old", dateTime="2026-02-01")
    assert row(CAMHS, TEAM, older) == 3
    assert row(CAMHS, TEAM, older, consent(**more)) == 0
    assert row(CAMHS, TEAM, older, consent(provision=rule(**more))) == 0
    assert row(CAMHS, {**TEAM, **more}, older) == 0


def test_a_consent_with_more_rules_than_are_read_denies() -> None:
    deep: dict[str, Any] = rule("permit")
    for _ in range(20):
        deep = rule("permit", provision=[deep])
    older = consent(id="old", dateTime="2026-02-01")
    assert row(CAMHS, TEAM, older) == 3
    assert row(CAMHS, TEAM, older, consent(provision=deep)) == 0
    wide = rule(provision=[rule("permit") for _ in range(300)])
    assert row(CAMHS, TEAM, older, consent(provision=wide)) == 0


def test_a_denial_for_a_purpose_means_who_names_none() -> None:
    purpose = [{"system": ACT_REASON, "code": "HMARKT"}]
    barred = consent(provision=rule(provision=[rule("deny", purpose=purpose)]))
    assert row(CAMHS, TEAM, barred) == 0
    assert row(somebody("Practitioner/dr", "H1", purpose="TREAT"), TEAM, barred) == 3


# Explaining


def test_a_decision_tells_its_row_its_consent_and_why_no_row_before() -> None:
    papers = (TEAM, consent())
    found = explained(case_of(CAMHS, papers, NOW, ()))
    assert (found.held.decision.row, found.held.consent) == (3, "Consent/c")
    assert found.held.since == at("2026-03-02")
    assert (2, "the caller is not the keyworker of an open episode") in found.reasons
    withdrawn = explained(case_of(CAMHS, (TEAM, consent(status="inactive")), NOW, ()))
    assert (3, "Consent/c was refused or withdrawn") in withdrawn.reasons
    assert withdrawn.held.decision == DENIED
