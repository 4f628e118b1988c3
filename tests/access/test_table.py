"""The decision table, row by row: who it lets in, whom it keeps out, and at which moment.

The rows are those of DOMAIN.md, section 7, and docs/decision-table.md.
"""

from typing import Any, Final

import pytest

from fhir_server.access.caller import Caller, Role
from fhir_server.access.case import Case, Terms
from fhir_server.access.decision import DENIED, Area, Decision, Right, Sight
from fhir_server.access.facts.record import birthday
from fhir_server.access.identities import Identities
from fhir_server.access.table import THIRD_PARTY, decide, explained
from fhir_server.fhir.canonicals import ACT_CODE, ACT_REASON
from fhir_server.fhir.dates import instant
from fhir_server.fhir.json import Resource
from tests.access.people import (
    FIFTEEN,
    NINETEEN,
    NOW,
    SENDS,
    SEVENTEEN,
    TWELVE,
    at,
    carer,
    child,
    consent,
    episode,
    member,
    ods,
    parental,
    ref,
    rule,
    somebody,
    stay,
    team,
)
from tests.access.worlds import SIGNATORIES, facts_of

KEYWORKER: Final = somebody("Practitioner/kw", "X1")
CAMHS: Final = somebody("Practitioner/dr", "H1")
WARD: Final = somebody("", "W1")
SCHOOL: Final = somebody("Practitioner/head", "E1")
CHILD: Final = somebody("Patient/1")
MUM: Final = somebody("RelatedPerson/mum")
PANEL: Final = somebody("Practitioner/chair", "X9", roles=frozenset({Role.CETR_PANEL}))
EVERYTHING: Final = dict.fromkeys(Area, Sight.ALL)
WORKED: Final = (episode("Practitioner/kw"), consent())
TEAM: Final = team(member("Practitioner/dr"))
RESOURCE_TYPES: Final = "http://hl7.org/fhir/resource-types"


def decided(
    caller: Caller, *papers: Resource, now: int = NOW, units: tuple[str, ...] = ("W1",)
) -> Decision:
    """The decision by these papers; a Patient of fifteen where they have none."""
    return decide(_case(caller, papers, now, units))


def _case(caller: Caller, papers: tuple[Resource, ...], now: int, units: tuple[str, ...]) -> Case:
    there = any(paper["resourceType"] == "Patient" for paper in papers)
    person = frozenset({caller.user}) if caller.user else frozenset[str]()
    names = frozenset({f"ods:{caller.organisation}"} if caller.organisation else ())
    who = Identities(caller.user.partition("/")[0], person, names)
    terms = Terms(SIGNATORIES, frozenset(units))  # type: ignore[arg-type]
    facts = facts_of([*papers] if there else [child(), *papers])
    return Case("1", facts, caller, who, now, terms)


def row(caller: Caller, *papers: Resource, now: int = NOW) -> int:
    return decided(caller, *papers, now=now).row


# Row 1


def test_a_professional_with_a_reason_sees_everything_and_writes_nothing() -> None:
    found = decided(somebody("Practitioner/x", "A1", break_glass="life at risk"))
    assert found == Decision(1, tuple(EVERYTHING.items()))


@pytest.mark.parametrize(
    "caller",
    [
        somebody("Practitioner/x", "A1"),
        somebody("Practitioner/x", "A1", break_glass="  "),
        somebody("", "A1", break_glass="life at risk"),
        somebody("Practitioner/x", "", break_glass="life at risk"),
        somebody("RelatedPerson/mum", break_glass="life at risk"),
        somebody("Patient/1", "A1", break_glass="life at risk"),
    ],
)
def test_nobody_else_breaks_the_glass(caller: Caller) -> None:
    assert row(caller) != 1


def test_the_glass_of_nobody_is_not_broken() -> None:
    caller = somebody("Practitioner/x", "A1", break_glass="life at risk")
    assert decided(caller, child("2")) == DENIED


# Rows 2 and 15


def test_the_keyworker_reads_all_and_writes_plans_and_papers() -> None:
    found = decided(KEYWORKER, *WORKED)
    assert (found.row, dict(found.reads)) == (2, EVERYTHING)
    assert found.writes == {Area.PLAN, Area.RISK}
    assert found.rights == {Right.CONSENT}


def test_the_keyworker_of_the_episodes_care_team_is_one() -> None:
    linked = episode(None, team=[ref("CareTeam/t")])
    keyworker = team(member("Practitioner/kw", "keyworker"))
    assert row(KEYWORKER, linked, keyworker, consent()) == 2
    assert row(KEYWORKER, episode(None), keyworker, consent()) == 3
    assert row(KEYWORKER, linked, team(member("Practitioner/kw")), consent()) == 3


@pytest.mark.parametrize(
    "papers",
    [
        (),
        (episode("Practitioner/kw"),),
        (consent(),),
        (episode("Practitioner/other"), consent()),
        (episode("Practitioner/kw", status="finished"), consent()),
        (episode("Practitioner/kw", type=[]), consent()),
        (episode("Practitioner/kw", period={"end": "2026-11-21"}), consent()),
        (episode("Practitioner/kw", period={"start": "2026-11-23"}), consent()),
        (episode("Practitioner/kw", "Patient/2"), consent()),
        (episode("Practitioner/kw"), consent(status="proposed")),
        (episode("Practitioner/kw"), consent(status="entered-in-error")),
        (episode("Practitioner/kw"), consent("register")),
        (episode("Practitioner/kw"), consent(patient=ref("Patient/2"))),
    ],
)
def test_who_is_no_keyworker_or_has_no_consent_is_denied(papers: tuple[Resource, ...]) -> None:
    assert decided(KEYWORKER, *papers) == DENIED


@pytest.mark.parametrize(
    "ended",
    [
        consent(status="inactive"),
        consent(status="rejected"),
        consent(provision=rule(period={"start": "2026-03-02", "end": "2026-11-21"})),
    ],
)
def test_after_consent_the_keyworker_reads_the_past_and_not_the_rating(ended: Resource) -> None:
    found = decided(KEYWORKER, episode("Practitioner/kw"), ended)
    assert found.row == 15
    assert found.sight(Area.FLAG) is Sight.NONE
    assert found.sight(Area.PLAN) is Sight.ALL
    assert not found.writes
    assert found.rights == {Right.CONSENT}


@pytest.mark.parametrize(
    "never",
    [
        consent(provision=rule(period={"start": "2026-11-23"})),
        consent(dateTime="2026-11-23"),
        consent(basis="UNK"),
        consent(basis="UNK", status="inactive"),
        consent(status="inactive", performer="Practitioner/kw"),
        {**consent(status="inactive"), "dateTime": None},
    ],
)
def test_what_never_was_consent_leaves_no_past_to_read(never: Resource) -> None:
    assert decided(KEYWORKER, episode("Practitioner/kw"), never) == DENIED


def test_a_keyworker_whom_the_consent_leaves_out_reads_nothing() -> None:
    barred = rule(provision=[rule("deny", ods("X1"))])
    for status in ("active", "inactive"):
        papers = (episode("Practitioner/kw"), consent(provision=barred, status=status))
        assert decided(KEYWORKER, *papers) == DENIED


def test_for_another_purpose_than_the_consents_nothing_is_read() -> None:
    treat = consent(provision=rule(purpose=[{"system": ACT_REASON, "code": "TREAT"}]))
    for purpose, wanted in (("TREAT", 2), ("HMARKT", 0), ("", 0), ("?", 0)):
        caller = somebody("Practitioner/kw", "X1", purpose=purpose)
        assert row(caller, episode("Practitioner/kw"), treat) == wanted


# Row 3


@pytest.mark.parametrize(
    ("caller", "who"),
    [
        (CAMHS, member("Practitioner/dr")),
        (CAMHS, member("Practitioner/dr", onBehalfOf=ods("H1"))),
        (CAMHS, member(ods("H1"))),
        (somebody("", "H1"), member(ods("h1"))),
        (somebody("", "H1"), member("Practitioner/dr", onBehalfOf=ods("H1"))),
    ],
)
def test_the_care_team_reads_all(caller: Caller, who: dict[str, Any]) -> None:
    found = decided(caller, team(who), consent())
    assert (found.row, dict(found.reads)) == (3, EVERYTHING)
    assert not found.writes
    assert found.rights == {Right.OWN_ACTIVITIES}


@pytest.mark.parametrize(
    "papers",
    [
        (team(member("Practitioner/dr", period={"end": "2026-11-21"})), consent()),
        (team(member("Practitioner/dr", period={"start": "2026-11-23"})), consent()),
        (team(member("Practitioner/dr", onBehalfOf=ods("W1"))), consent()),
        (team(member("Practitioner/dr"), status="inactive"), consent()),
        (team(member("Practitioner/dr"), period={"end": "2026-11-21"}), consent()),
        (team(member("Practitioner/dr"), patient="Group/1"), consent()),
        (team(member({"display": "Dr"})), consent()),
        (TEAM,),
        (TEAM, consent(status="inactive")),
        (TEAM, consent(provision=rule("permit", "Practitioner/other"))),
        (TEAM, consent(provision=rule("deny"))),
        (TEAM, {**consent(), "provision": None}),
        (TEAM, consent(scope={})),
        (TEAM, consent(verification=[{"verified": False}])),
    ],
)
def test_who_is_not_in_the_team_now_or_not_permitted_is_denied(
    papers: tuple[Resource, ...],
) -> None:
    assert decided(CAMHS, *papers) == DENIED


def test_a_parent_in_the_team_is_judged_as_a_parent() -> None:
    assert row(MUM, team(member("RelatedPerson/mum")), carer(), consent()) == 9


def test_membership_ends_with_the_day_in_london() -> None:
    """At the end of 29 March 2026, when clocks went forward."""
    until = team(member("Practitioner/dr", period={"end": "2026-03-29"}))
    end = at("2026-03-29T23:00:00Z")
    assert row(CAMHS, until, consent(), now=end - 1) == 3
    assert row(CAMHS, until, consent(), now=end) == 0


# Rows 4 and 12


def test_a_signatory_sees_who_and_which_colour() -> None:
    found = decided(CAMHS, consent("register"))
    assert found.row == 4
    assert dict(found.reads) == {Area.PERSON: Sight.COLOUR, Area.FLAG: Sight.COLOUR}
    assert not found.writes
    assert not found.rights


@pytest.mark.parametrize(
    ("caller", "papers"),
    [
        (somebody("", "Z9"), (consent("register"),)),
        (CAMHS, ()),
        (CAMHS, (consent(),)),
        (CAMHS, (consent("register", status="rejected"),)),
        (CAMHS, (consent("register", provision=rule(provision=[rule("deny", ods("H1"))])),)),
        (somebody("RelatedPerson/x", "H1"), (consent("register"),)),
        (SCHOOL, (consent("register"),)),
        (SCHOOL, (consent("register", provision=rule("permit", ods("E2"))),)),
        (SCHOOL, (consent(provision=rule("permit", ods("E1"))),)),
    ],
)
def test_who_has_not_signed_or_is_not_named_sees_no_colour(
    caller: Caller, papers: tuple[Resource, ...]
) -> None:
    assert decided(caller, *papers) == DENIED


def test_a_school_sees_the_colour_where_it_is_named() -> None:
    named = consent("register", provision=rule("permit", ods("E1")))
    found = decided(SCHOOL, named)
    assert found.row == 12
    assert dict(found.reads) == {Area.PERSON: Sight.COLOUR, Area.FLAG: Sight.COLOUR}
    assert row(SCHOOL, named, consent(id="k"), team(member("Practitioner/head"))) == 3


# Rows 5 and 6


def test_the_unit_of_an_open_stay_reads_plans_for_the_stay() -> None:
    found = decided(WARD, stay(ods("W1")), consent(provision=rule("permit", ods("H1"))))
    assert (found.row, dict(found.reads)) == (5, EVERYTHING)
    assert found.plan_categories == {"discharge-plan", "keyworking-plan"}
    assert found.writes == frozenset()


@pytest.mark.parametrize(
    "papers",
    [
        (stay(ods("W2")), consent()),
        (stay(ods("W1"), status="finished"), consent()),
        (stay(ods("W1"), status="planned"), consent()),
        ({**stay(ods("W1")), "class": {"system": ACT_CODE, "code": "AMB"}}, consent()),
        (stay(ods("W1"), period={"start": "2026-11-23"}), consent()),
        (stay(ods("W1"), patient="Patient/2"), consent()),
        (stay(ods("W1")),),
        (stay(ods("W1")), consent("register")),
        (stay(ods("W1")), consent(status="rejected")),
        (stay(ods("W1")), consent(provision=rule(provision=[rule("deny", ods("w1"))]))),
    ],
)
def test_another_unit_another_stay_or_no_consent_shows_nothing(
    papers: tuple[Resource, ...],
) -> None:
    assert decided(WARD, *papers) == DENIED


def test_a_unit_may_always_post_events_and_sees_nothing_by_that() -> None:
    sender = somebody("", "W1", grants=SENDS)
    refused = (consent(status="rejected"), consent("register", status="rejected", id="r"))
    for papers in ((), refused, (child("2"),)):
        assert decided(sender, *papers) == Decision(6, rights=frozenset({Right.EVENTS}))
    reading = decided(sender, stay(ods("W1")), consent())
    assert reading.row == 5
    assert reading.rights == {Right.EVENTS}


def test_only_the_units_of_the_settings_are_units() -> None:
    sender, papers = somebody("", "W1", grants=SENDS), (stay(ods("W1")), consent())
    assert decided(sender, *papers, units=("W1",)).row == 5
    assert decided(sender, *papers, units=("W2",)) == DENIED
    told = decided(sender, *papers, units=())
    assert told == Decision(6, rights=frozenset({Right.EVENTS})), "its own word opens nothing"


# Row 7


def test_the_patient_reads_their_record_but_not_what_others_said_of_others() -> None:
    found = decided(CHILD, child(born=SEVENTEEN))
    assert (found.row, dict(found.reads)) == (7, EVERYTHING)
    assert found.without_labels == {THIRD_PARTY}
    assert not found.writes
    assert found.rights == {Right.CONSENT}


def test_below_16_the_newest_assessment_of_competence_decides() -> None:
    assert row(CHILD) == 0
    assert row(CHILD, consent(status="rejected")) == 7
    later = consent(outcome=("not-competent", "2026-06-01"), id="later")
    assert row(CHILD, consent(), later) == 0
    assert row(CHILD, consent(outcome=("gillick-competent", "2026-11-23"))) == 0


@pytest.mark.parametrize("user", ["Patient/2", "RelatedPerson/1", "Practitioner/1", "Patient/"])
def test_somebody_else_is_not_the_patient(user: str) -> None:
    assert row(somebody(user), child(born=SEVENTEEN)) == 0


# Rows 8 to 11


def test_a_parent_with_evidence_reads_all_below_13() -> None:
    found = decided(MUM, child(born=TWELVE), carer(), parental())
    assert (found.row, dict(found.reads)) == (8, EVERYTHING)
    assert found.writes == frozenset()
    register = decided(MUM, child(born=TWELVE), carer(), parental("register"))
    assert dict(register.reads) == {Area.PERSON: Sight.ALL, Area.FLAG: Sight.ALL}


def test_either_parent_may_have_consented() -> None:
    dad = somebody("RelatedPerson/dad")
    assert row(dad, child(born=TWELVE), carer(), carer("dad"), parental()) == 8


@pytest.mark.parametrize(
    "papers",
    [
        (carer(),),
        (parental(),),
        (carer(holds=False), parental()),
        (carer(active=False), parental()),
        (carer(period={"end": "2026-11-21"}), parental()),
        (carer(patient=ref("Patient/2")), parental()),
        (carer(), parental(status="inactive")),
        (carer(), consent(outcome=None)),
        (carer(), {**parental(), "performer": [ref("Patient/1")]}),
        (carer(), parental(), consent("cetr", provision=rule("deny", "RelatedPerson/mum"), id="d")),
    ],
)
def test_without_responsibility_consent_or_against_safeguarding_a_parent_is_denied(
    papers: tuple[Resource, ...],
) -> None:
    assert decided(MUM, child(born=TWELVE), *papers) == DENIED


def test_from_13_on_a_parent_waits_for_the_review() -> None:
    before = parental(outcome=("not-competent", "2024-05-03"))
    assert decided(MUM, carer(), before) == Decision(9)
    assert decided(MUM, carer(), parental()).row == 10


def test_a_competent_child_decides_about_the_parent() -> None:
    assert row(MUM, carer(), consent()) == 9
    named = consent(provision=rule("permit", "RelatedPerson/mum"))
    assert row(MUM, carer(), named) == 10
    assert row(MUM, carer(), {**named, "status": "inactive"}) == 9


@pytest.mark.parametrize(
    ("papers", "wanted"),
    [
        ((carer(), parental()), 0),
        ((carer(), consent(basis="consent", outcome=None)), 0),
        (
            (
                carer(holds=False),
                consent(
                    basis="consent",
                    outcome=None,
                    provision=rule("permit", "RelatedPerson/mum"),
                ),
            ),
            11,
        ),
        (
            (
                carer(),
                consent(
                    basis="best-interest",
                    performer="PractitionerRole/sw",
                    outcome=("lacks-capacity", "2026-03-01"),
                    provision=rule("permit", "RelatedPerson/mum"),
                ),
            ),
            11,
        ),
        (
            (
                carer(),
                consent(
                    basis="court-appointed-personal-welfare-deputy",
                    performer="RelatedPerson/mum",
                    outcome=("lacks-capacity", "2026-03-01"),
                ),
            ),
            11,
        ),
        (
            (
                carer(),
                consent(
                    basis="court-appointed-personal-welfare-deputy",
                    performer="RelatedPerson/dad",
                    outcome=("lacks-capacity", "2026-03-01"),
                ),
                carer("dad"),
            ),
            0,
        ),
    ],
)
def test_from_16_on_it_takes_the_patient_or_a_basis_in_their_place(
    papers: tuple[Resource, ...], wanted: int
) -> None:
    found = decided(MUM, child(born=SEVENTEEN), *papers)
    assert found.row == wanted
    assert found.without_labels == ({THIRD_PARTY} if wanted else set())


@pytest.mark.parametrize("category", ["keyworking", "register"])
def test_who_is_related_is_not_shown_what_the_young_person_is_not(category: str) -> None:
    below_13 = decided(MUM, child(born=TWELVE), carer(), parental(category))
    assert (below_13.row, below_13.without_labels) == (8, frozenset({THIRD_PARTY}))
    not_competent = decided(MUM, carer(), parental(category))
    assert (not_competent.row, not_competent.without_labels) == (10, frozenset({THIRD_PARTY}))


# Rows 13 and 14


def test_a_review_panel_reads_with_consent_to_the_review() -> None:
    named = consent("cetr", provision=rule("permit", ods("X9")))
    assert decided(PANEL, named) == Decision(13, tuple(EVERYTHING.items()))
    for other in (consent("cetr"), consent(provision=rule("permit", ods("X9")))):
        assert decided(PANEL, other) == Decision(13)


def test_a_commissioner_sees_no_person_by_whatever_row() -> None:
    caller = somebody("Practitioner/kw", "H1", roles=frozenset({Role.COMMISSIONER}))
    assert decided(caller, *WORKED, consent("register", id="r")) == Decision(13)


def test_a_load_test_sees_no_person_by_whatever_row() -> None:
    role_of = frozenset({Role.LOAD_TEST, Role.CETR_PANEL})
    caller = somebody("Practitioner/kw", "H1", roles=role_of, break_glass="why", grants=SENDS)
    assert decided(caller, *WORKED) == Decision(14)


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
    found = explained(_case(CAMHS, papers, NOW, ()))
    assert (found.held.decision.row, found.held.consent) == (3, "Consent/c")
    assert found.held.since == at("2026-03-02")
    assert (2, "the caller is not the keyworker of an open episode") in found.reasons
    withdrawn = explained(_case(CAMHS, (TEAM, consent(status="inactive")), NOW, ()))
    assert (3, "Consent/c was refused or withdrawn") in withdrawn.reasons
    assert withdrawn.held.decision == DENIED
