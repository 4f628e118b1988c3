"""The 22 timers of the pathway, each with what starts it, what does not, and what ends it.

Those of a stay have their dates in `test_admission.py` and `test_discharge.py` too.
"""

from datetime import date, datetime, timedelta
from typing import Any

import pytest

from fhir_server.fhir import canonicals
from fhir_server.fhir.dates import LOCAL
from operations._calendar import is_working_day, working_days_after
from tests.operations.chart import KEYWORKER, Chart, code_of, concept
from tests.operations.messages import JSON, Spell

NOW = datetime.now(LOCAL).replace(microsecond=0)
TODAY = NOW.date()


def days_ago(count: int) -> str:
    return (TODAY - timedelta(days=count)).isoformat()


def in_days(count: int) -> str:
    return (TODAY + timedelta(days=count)).isoformat()


def born(years: int, days: int = 0) -> str:
    """Of somebody whose birthday of that age was so many days ago."""
    day = TODAY - timedelta(days=days)
    return day.replace(year=day.year - years).isoformat()


async def timers(chart: Chart, code: str, *statuses: str) -> list[JSON]:
    """Tasks of the code, by due date; those to be done, without statuses."""
    found = [
        task
        for task in await chart.all("Task")
        if code_of(task["code"]) == code and task["status"] in (statuses or ("requested",))
    ]
    return sorted(found, key=due)


def due(task: JSON) -> str:
    end: str = task["restriction"]["period"]["end"]
    return end


async def dues(chart: Chart, code: str, *statuses: str) -> list[str]:
    return [due(task) for task in await timers(chart, code, *statuses)]


async def complete(chart: Chart, task: JSON, day: str) -> None:
    await chart.write({**task, "status": "completed", "executionPeriod": {"end": day}})


async def begin(chart: Chart, **elements: Any) -> None:
    """Somebody who is known, and on no register yet."""
    await chart.write({"resourceType": "PractitionerRole", "id": "keyworker"})
    patient = {"resourceType": "Patient", "id": "young-person", "birthDate": born(12, 100)}
    number = [{"system": canonicals.NHS_NUMBER, "value": chart.nhs_number}]
    await chart.write({**patient, "identifier": number, **elements})


async def refer(chart: Chart, **elements: Any) -> JSON:
    request = {
        "resourceType": "ServiceRequest",
        "id": "referral",
        "status": "active",
        "intent": "order",
        "code": {"text": "Keyworking"},
        "subject": {"reference": chart.patient},
        "authoredOn": "2026-04-01",
        "requester": KEYWORKER,
        "performerType": concept(canonicals.CARE_TEAM_ROLE, "keyworker"),
        "supportingInfo": [{"reference": "Flag/amber-2026-03-01"}],
    }
    return await chart.write({**request, **elements})


async def involve(chart: Chart, state: str = "plan-active", **elements: Any) -> JSON:
    episode = {
        "resourceType": "EpisodeOfCare",
        "id": "involvement",
        "extension": [{"url": canonicals.PATHWAY_STATE_EXTENSION, "valueCode": state}],
        "status": "active",
        "type": [concept(canonicals.EPISODE_TYPE, "keyworking")],
        "patient": {"reference": chart.patient},
        "managingOrganization": {
            "identifier": {"system": canonicals.ODS_ORGANIZATION, "value": "X99"}
        },
        "period": {"start": "2026-01-05"},
        "careManager": KEYWORKER,
    }
    return await chart.write({**episode, **elements})


async def by_parent(chart: Chart, **elements: Any) -> JSON:
    parent = {
        "resourceType": "RelatedPerson",
        "id": "mother",
        "patient": {"reference": chart.patient},
        "relationship": [concept(canonicals.ROLE_CODE, "MTH")],
    }
    await chart.write(parent)
    basis = concept(canonicals.NHS_PROXY_LEGAL_BASIS, "parental-responsibility")
    performer = [{"reference": "RelatedPerson/mother"}]
    told = {"policyRule": basis, "performer": performer, "dateTime": days_ago(90), **elements}
    provision = {"type": "permit", "period": {"start": days_ago(90), "end": in_days(9)}}
    return await chart.consent("register", provision=provision, **told)


# Referral ---------------------------------------------------------------------------------------


async def test_t_contact_is_due_five_working_days_after_a_referral(unknown: Chart) -> None:
    """1 April 2026 is the Wednesday before Easter: Friday and Monday are bank holidays."""
    await begin(unknown)
    await refer(unknown)
    assert await dues(unknown, "T-CONTACT") == ["2026-04-10"]


@pytest.mark.parametrize(
    "elements",
    [{"status": "draft"}, {"performerType": concept(canonicals.CARE_TEAM_ROLE, "gp")}],
    ids=["not made yet", "to somebody else"],
)
async def test_t_contact_and_t_dsr_review_referral_are_of_referrals_to_keyworking_alone(
    unknown: Chart, older: Chart, elements: JSON
) -> None:
    await begin(unknown)
    await refer(older, **elements)
    assert not await unknown.all("Task")


async def test_t_contact_is_dated_again_and_ends_with_its_referral(unknown: Chart) -> None:
    await begin(unknown)
    referral = await refer(unknown)
    await unknown.write({**referral, "authoredOn": "2026-04-13"})
    assert await dues(unknown, "T-CONTACT") == ["2026-04-20"]
    await unknown.write({**referral, "status": "revoked"})
    assert await dues(unknown, "T-CONTACT") == []
    assert await dues(unknown, "T-CONTACT", "cancelled") == ["2026-04-20"]


async def test_t_contact_that_somebody_has_taken_up_stays(unknown: Chart) -> None:
    await begin(unknown)
    referral = await refer(unknown)
    (task,) = await timers(unknown, "T-CONTACT")
    taken = await unknown.write({**task, "status": "in-progress"})
    await unknown.write({**referral, "authoredOn": "2026-04-13"})
    await unknown.write({**referral, "status": "revoked"})
    assert await timers(unknown, "T-CONTACT", "in-progress") == [taken]


async def test_t_contact_that_somebody_has_ended_is_not_asked_for_again(unknown: Chart) -> None:
    await begin(unknown)
    referral = await refer(unknown)
    (task,) = await timers(unknown, "T-CONTACT")
    await unknown.write({**task, "status": "rejected", "statusReason": {"text": "Known well"}})
    await unknown.write({**referral, "authoredOn": "2026-04-13"})
    assert await dues(unknown, "T-CONTACT") == []


async def test_t_dsr_review_referral_is_due_after_four_weeks_and_met_by_a_rating(
    unknown: Chart,
) -> None:
    await begin(unknown)
    await refer(unknown)
    assert await dues(unknown, "T-DSR-REVIEW-REFERRAL") == ["2026-04-29"]
    await unknown.rate("green", "2026-03-31")
    assert await dues(unknown, "T-DSR-REVIEW-REFERRAL") == ["2026-04-29"]
    await unknown.rate("amber", "2026-04-20")
    assert await dues(unknown, "T-DSR-REVIEW-REFERRAL", "completed") == ["2026-04-29"]


# Rating -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("colour", "days"), [("red", 14), ("amber", 28), ("green", 90)])
async def test_t_review_red_t_review_amber_and_t_review_green_come_round_again(
    unknown: Chart, colour: str, days: int
) -> None:
    await begin(unknown)
    code, given = f"T-REVIEW-{colour.upper()}", TODAY - timedelta(days=20)
    await unknown.rate(colour, given.isoformat())
    assert await dues(unknown, code) == [(given + timedelta(days=days)).isoformat()]
    (task,) = await timers(unknown, code)
    await complete(unknown, task, days_ago(2))
    assert await dues(unknown, code) == [in_days(days - 2)]


@pytest.mark.parametrize("colour", ["red", "amber", "green"])
async def test_t_review_red_t_review_amber_and_t_review_green_end_with_their_rating(
    unknown: Chart, colour: str
) -> None:
    await begin(unknown)
    await unknown.rate(colour, days_ago(20))
    code = f"T-REVIEW-{colour.upper()}"
    assert len(await dues(unknown, code)) == 1
    await unknown.rate("green" if colour == "amber" else "amber", days_ago(1))
    assert await dues(unknown, code) == []
    assert len(await dues(unknown, code, "cancelled")) == 1


async def test_t_review_amber_is_not_opened_beside_one_that_somebody_asked_for(
    unknown: Chart,
) -> None:
    await begin(unknown)
    by_hand = {
        "resourceType": "Task",
        "id": "by-hand",
        "status": "accepted",
        "intent": "order",
        "code": concept(canonicals.TIMER, "T-REVIEW-AMBER"),
        "for": {"reference": unknown.patient},
        "focus": {"reference": unknown.patient},
        "authoredOn": days_ago(20),
        "restriction": {"period": {"end": in_days(3)}},
    }
    await unknown.write(by_hand)
    await unknown.rate("amber", days_ago(20))
    assert [task["id"] for task in await unknown.all("Task")] == ["by-hand"]


async def test_t_cetr_community_is_due_two_weeks_after_red(unknown: Chart) -> None:
    await begin(unknown)
    await unknown.rate("red", days_ago(3))
    assert await dues(unknown, "T-CETR-COMMUNITY") == [in_days(11)]


async def test_t_cetr_community_is_not_for_amber(unknown: Chart) -> None:
    await begin(unknown)
    await unknown.rate("amber", days_ago(3))
    assert await dues(unknown, "T-CETR-COMMUNITY") == []


async def test_t_cetr_community_is_not_for_somebody_reviewed_lately(unknown: Chart) -> None:
    await begin(unknown)
    await unknown.reviewed("T-CETR-COMMUNITY", days_ago(60))
    await unknown.rate("red", days_ago(3))
    assert await dues(unknown, "T-CETR-COMMUNITY") == []


async def test_t_laep_is_due_the_next_working_day_where_an_admission_is_imminent(
    unknown: Chart,
) -> None:
    await begin(unknown)
    await unknown.rate("red", "2026-04-20")
    await unknown.answers("admission-48h", authored="2026-05-01T10:00:00+01:00")
    assert await dues(unknown, "T-LAEP") == ["2026-05-05"]  # 4 May 2026 is a bank holiday


async def test_t_laep_is_not_for_somebody_reviewed_or_not_at_risk_now(unknown: Chart) -> None:
    await begin(unknown)
    await unknown.rate("red", "2026-04-20")
    await unknown.answers("admission-2w")
    assert await dues(unknown, "T-LAEP") == []
    await unknown.reviewed("T-CETR-COMMUNITY", "2026-04-28")
    await unknown.answers("admission-48h")
    assert await dues(unknown, "T-LAEP") == []


async def test_t_cetr_papers_are_due_a_day_before_the_review(unknown: Chart) -> None:
    await begin(unknown)
    await unknown.rate("red", days_ago(3))
    (review,) = await timers(unknown, "T-CETR-COMMUNITY")
    assert await dues(unknown, "T-CETR-PAPERS") == []
    meeting = {"executionPeriod": {"start": "2027-01-14T10:00:00+00:00"}}
    await unknown.write({**review, "status": "accepted", **meeting})
    assert await dues(unknown, "T-CETR-PAPERS") == ["2027-01-13T10:00:00+00:00"]
    await unknown.write(
        {**review, "status": "accepted", "executionPeriod": {"start": "2027-02-01"}}
    )
    assert await dues(unknown, "T-CETR-PAPERS") == ["2027-01-31"]


# Hospital ---------------------------------------------------------------------------------------


@pytest.fixture
def spell(chart: Chart) -> Spell:
    return Spell(chart.nhs_number, NOW - timedelta(days=20))


async def test_t_oversight_visit_comes_round_again(chart: Chart, spell: Spell) -> None:
    await chart.tell(spell.admit())
    (task,) = await timers(chart, "T-OVERSIGHT-VISIT")
    await complete(chart, task, days_ago(1))
    assert await dues(chart, "T-OVERSIGHT-VISIT") == [in_days(41)]


async def test_t_cetr_repeat_is_reckoned_from_the_last_review(chart: Chart, spell: Spell) -> None:
    await chart.tell(spell.admit())
    (task,) = await timers(chart, "T-CETR-POSTADM")
    await complete(chart, task, "2026-11-10" if date(2026, 11, 10) <= TODAY else days_ago(1))
    done = TODAY if date(2026, 11, 10) > TODAY else date(2026, 11, 10)
    (repeat,) = await dues(chart, "T-CETR-REPEAT")
    assert date.fromisoformat(repeat) - done > timedelta(days=85)
    assert len(await timers(chart, "T-CETR-REPEAT", "cancelled")) == 1


async def test_t_dplan_start_is_due_on_the_day_and_met_when_somebody_leads(
    chart: Chart, spell: Spell
) -> None:
    await chart.tell(spell.admit())
    assert await dues(chart, "T-DPLAN-START") == [days_ago(20)]
    plan = await chart.discharge_plan()
    assert plan is not None
    await chart.write({**plan, "author": KEYWORKER})
    assert await dues(chart, "T-DPLAN-START", "completed") == [days_ago(20)]


async def test_t_careplan_share_t_fu_72_t_fu_7d_and_t_red_hold_are_of_coming_home(
    chart: Chart, spell: Spell
) -> None:
    codes = ("T-CAREPLAN-SHARE", "T-FU-72", "T-FU-7D", "T-RED-HOLD")
    await chart.tell(spell.admit())
    for code in codes:
        assert await dues(chart, code) == []
    await chart.tell(spell.discharge(NOW))
    found = [await dues(chart, code) for code in codes]
    after = [(NOW + timedelta(days=days)).date().isoformat() for days in (1, 3, 7, 14)]
    assert [each[0][:10] for each in found] == after


async def test_t_fu_48_follows_a_risk_that_is_noted_after_the_discharge(
    chart: Chart, spell: Spell
) -> None:
    await chart.tell(spell.discharge(NOW))
    assert await dues(chart, "T-FU-48") == []
    await chart.condition(canonicals.SNOMED_CT, "401206008")
    assert len(await dues(chart, "T-FU-48")) == 1


# Consent ----------------------------------------------------------------------------------------


async def test_t_consent_recheck_is_due_after_a_year_and_each_year(unknown: Chart) -> None:
    await begin(unknown)
    period = {"start": days_ago(30), "end": in_days(4000)}
    provision = {"type": "permit", "period": period}
    await unknown.consent("register", dateTime=days_ago(30), provision=provision)
    assert await dues(unknown, "T-CONSENT-RECHECK") == [in_days(335)]
    (task,) = await timers(unknown, "T-CONSENT-RECHECK")
    await complete(unknown, task, TODAY.isoformat())
    assert await dues(unknown, "T-CONSENT-RECHECK") == [in_days(365)]


async def test_t_consent_recheck_is_due_before_the_consent_runs_out(unknown: Chart) -> None:
    await begin(unknown)
    provision = {"type": "permit", "period": {"start": days_ago(30), "end": in_days(60)}}
    await unknown.consent("register", dateTime=days_ago(30), provision=provision)
    assert await dues(unknown, "T-CONSENT-RECHECK") == [in_days(60)]


async def test_t_consent_recheck_is_not_for_a_consent_that_was_not_given(unknown: Chart) -> None:
    await begin(unknown)
    await unknown.consent("register", status="rejected")
    assert await dues(unknown, "T-CONSENT-RECHECK") == []


async def test_consent_that_is_withdrawn_ends_the_rating_and_is_talked_about(chart: Chart) -> None:
    await chart.consent("register", status="inactive")
    assert await chart.rating() is None
    (flag,) = await chart.all("Flag")
    reason = concept(canonicals.RATING_END_REASON, "consent-withdrawn")
    assert reason in [one.get("valueCodeableConcept") for one in flag["extension"]]
    assert await dues(chart, "review-consent") == [working_days_after(TODAY, 5).isoformat()]
    await chart.consent("register")
    assert await dues(chart, "review-consent") == []


async def test_consent_that_comes_after_the_admission_turns_the_rating_blue(
    unknown: Chart,
) -> None:
    await unknown.open()
    await unknown.consent("register", status="inactive")
    await unknown.tell(Spell(unknown.nhs_number, NOW - timedelta(days=20)).admit())
    assert await unknown.colour() is None
    assert len(await dues(unknown, "obtain-consent")) == 1
    await unknown.consent("register")
    assert await unknown.colour() == "blue"
    assert len(await dues(unknown, "obtain-consent", "completed")) == 1


async def test_consent_that_comes_back_after_it_was_withdrawn_in_hospital_turns_blue_again(
    chart: Chart, spell: Spell
) -> None:
    await chart.tell(spell.admit())
    await chart.consent("register", status="inactive")
    assert await chart.colour() is None
    await chart.consent("register")
    assert await chart.colour() == "blue"


# Age --------------------------------------------------------------------------------------------


async def test_t_proxy_review_is_told_ahead_and_due_on_the_13th_birthday(unknown: Chart) -> None:
    await begin(unknown, birthDate=born(13, -20))
    await by_parent(unknown)
    assert await dues(unknown, "T-PROXY-REVIEW") == [in_days(20)]


@pytest.mark.parametrize("birth_date", [born(13, -40), born(16), "2013"])
async def test_t_proxy_review_is_not_for_another_age(unknown: Chart, birth_date: str) -> None:
    await begin(unknown, birthDate=birth_date)
    await by_parent(unknown)
    assert await dues(unknown, "T-PROXY-REVIEW") == []


async def test_t_proxy_review_is_not_for_a_young_person_s_own_consent(unknown: Chart) -> None:
    await begin(unknown, birthDate=born(13, -20))
    await unknown.consent("register")
    assert await dues(unknown, "T-PROXY-REVIEW") == []


async def test_t_proxy_16_ends_a_parent_s_consent_and_has_the_young_person_asked(
    unknown: Chart,
) -> None:
    await begin(unknown, birthDate=born(16, -10))
    await by_parent(unknown)
    await unknown.rate("amber", days_ago(30))
    (consent,) = await unknown.all("Consent")
    assert consent["status"] == "active"
    assert await dues(unknown, "T-PROXY-16") == [in_days(10)]
    (patient,) = [(await unknown.client.get(unknown.patient)).json()]
    await unknown.write({**patient, "birthDate": born(16, 1)})
    (consent,) = await unknown.all("Consent")
    assert consent["status"] == "inactive"
    assert await dues(unknown, "T-PROXY-16") == [days_ago(1)]
    assert await unknown.colour() == "amber", "nobody has withdrawn it"


async def test_t_proxy_16_leaves_a_consent_of_the_young_person_s_own(unknown: Chart) -> None:
    await begin(unknown, birthDate=born(16, 1))
    await unknown.consent("register")
    (consent,) = await unknown.all("Consent")
    assert consent["status"] == "active"
    assert await dues(unknown, "T-PROXY-16") == []


@pytest.mark.parametrize(
    ("birth_date", "text"),
    [
        (born(14, 1), "becoming an adult"),
        (born(17, 300), "move to"),
        (born(18), "adults' register"),
    ],
)
async def test_t_transition_is_asked_for_at_14_at_17_and_a_half_and_at_18(
    unknown: Chart, birth_date: str, text: str
) -> None:
    await begin(unknown, birthDate=birth_date)
    await involve(unknown)
    (task,) = await timers(unknown, "T-TRANSITION")
    assert text in task["description"]


@pytest.mark.parametrize("birth_date", [born(14, -1), "2010"])
async def test_t_transition_is_not_for_somebody_younger(unknown: Chart, birth_date: str) -> None:
    await begin(unknown, birthDate=birth_date)
    await involve(unknown)
    assert await dues(unknown, "T-TRANSITION") == []


async def test_exit_at_25_ends_the_rating_as_aged_out(unknown: Chart) -> None:
    await begin(unknown, birthDate=born(25, 1))
    await involve(unknown)
    await unknown.rate("amber", days_ago(30))
    assert await unknown.rating() is None
    (flag,) = await unknown.all("Flag")
    reason = concept(canonicals.RATING_END_REASON, "aged-out")
    assert reason in [one.get("valueCodeableConcept") for one in flag["extension"]]
    assert await dues(unknown, "exit") == [days_ago(1)]


async def test_t_retention_has_the_record_archived_and_later_removed(unknown: Chart) -> None:
    await begin(unknown)
    reason = concept(canonicals.EPISODE_CLOSE_REASON, "stepped-down")
    closed = {"url": canonicals.CLOSE_REASON_EXTENSION, "valueCodeableConcept": reason}
    state = {"url": canonicals.PATHWAY_STATE_EXTENSION, "valueCode": "closed"}
    period = {"start": "2026-01-05", "end": "2026-08-31"}
    await involve(unknown, status="finished", extension=[state, closed], period=period)
    assert await dues(unknown, "T-RETENTION") == ["2027-02-28"]
    (task,) = await timers(unknown, "T-RETENTION")
    await complete(unknown, task, "2027-02-28")
    assert await dues(unknown, "T-RETENTION") == ["2032-08-31"]


async def test_t_retention_is_not_for_an_involvement_that_goes_on(unknown: Chart) -> None:
    await begin(unknown)
    await involve(unknown)
    assert await dues(unknown, "T-RETENTION") == []


async def test_nothing_is_asked_for_of_somebody_who_has_died(chart: Chart) -> None:
    assert await dues(chart, "T-REVIEW-AMBER")
    (patient,) = [(await chart.client.get(chart.patient)).json()]
    await chart.write({**patient, "deceasedBoolean": True})
    assert {task["status"] for task in await chart.all("Task")} == {"cancelled"}


# The calendar -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("day", "works"),
    [
        ("2026-04-02", True),
        ("2026-04-03", False),
        ("2026-04-06", False),
        ("2026-12-28", False),
        ("2026-07-13", True),
        ("2026-07-11", False),
    ],
    ids=[
        "before Easter",
        "Good Friday",
        "Easter Monday",
        "instead of Boxing Day",
        "Northern",
        "Sat",
    ],
)
def test_working_days_are_england_s(day: str, works: bool) -> None:
    assert is_working_day(date.fromisoformat(day)) is works
