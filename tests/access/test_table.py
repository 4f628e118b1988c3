"""The decision table, row by row: who it lets in, and whom it keeps out.

The rows are those of DOMAIN.md, section 7, and docs/decision-table.md.
"""

from typing import Any

import pytest

from fhir_server.access.caller import Caller, Role
from fhir_server.access.decision import DENIED, Area, Decision, Right, Sight
from fhir_server.access.table import THIRD_PARTY
from fhir_server.fhir.canonicals import ACT_CODE, ACT_REASON
from fhir_server.fhir.json import Resource
from tests.access.people import (
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
from tests.access.rows import (
    CAMHS,
    CHILD,
    EVERYTHING,
    KEYWORKER,
    MUM,
    PANEL,
    SCHOOL,
    TEAM,
    WARD,
    WORKED,
    decided,
    row,
)

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
