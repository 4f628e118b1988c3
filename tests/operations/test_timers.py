"""The timers of a referral, a rating and a stay: what starts each, what does not, what ends it.

Those of a stay have their dates in `test_admission.py` and `test_discharge.py` too; those of
consent and age are in `test_timers_of_age.py`.
"""

from datetime import date, timedelta
from typing import Any

import pytest

from fhir_server.fhir import canonicals
from operations._calendar import is_working_day
from tests.operations.chart import KEYWORKER, Chart, concept
from tests.operations.messages import JSON, Spell
from tests.operations.timing import (
    NOW,
    TODAY,
    begin,
    born,
    complete,
    days_ago,
    due,
    dues,
    in_days,
    timers,
)


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
    await unknown.rate("green", "2026-04-01")  # the day of the referral, which may rest on it
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


async def test_t_cetr_community_is_not_for_somebody_in_hospital(unknown: Chart) -> None:
    """Red still, as nobody has agreed to the register: the review is one in hospital."""
    await begin(unknown)
    await unknown.rate("red", days_ago(3))
    await unknown.tell(Spell(unknown.nhs_number, NOW).admit())
    assert await unknown.colour() == "red"
    assert await dues(unknown, "T-CETR-COMMUNITY") == []
    assert await dues(unknown, "T-CETR-POSTADM") == [in_days(14)]


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


async def test_t_oversight_visit_comes_round_again(unknown: Chart) -> None:
    await unknown.open(born=born(15, 100))
    await unknown.tell(Spell(unknown.nhs_number, NOW - timedelta(days=20)).admit())
    (task,) = await timers(unknown, "T-OVERSIGHT-VISIT")
    await complete(unknown, task, days_ago(1))
    assert await dues(unknown, "T-OVERSIGHT-VISIT") == [in_days(41)]


async def test_t_cetr_repeat_is_reckoned_from_the_last_review(chart: Chart, spell: Spell) -> None:
    await chart.tell(spell.admit())
    (task,) = await timers(chart, "T-CETR-POSTADM")
    await complete(chart, task, days_ago(10))
    (repeat,) = await dues(chart, "T-CETR-REPEAT")
    assert date.fromisoformat(repeat) - TODAY > timedelta(days=75)
    assert len(await timers(chart, "T-CETR-REPEAT", "cancelled")) == 1


async def test_t_cetr_repeat_is_reckoned_from_a_review_in_hospital_not_the_one_before(
    chart: Chart, spell: Spell
) -> None:
    await chart.reviewed("T-CETR-COMMUNITY", days_ago(50))
    await chart.tell(spell.admit())
    (repeat,) = await timers(chart, "T-CETR-REPEAT")
    from_before = due(repeat)
    await complete(chart, repeat, days_ago(1))
    (again,) = await dues(chart, "T-CETR-REPEAT")
    assert date.fromisoformat(again) - date.fromisoformat(from_before) > timedelta(days=45)


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


async def test_t_red_hold_is_met_by_no_rating_of_the_days_in_which_red_is_held(
    chart: Chart, spell: Spell
) -> None:
    home = NOW - timedelta(days=15)
    await chart.tell(spell.admit())
    await chart.tell(spell.discharge(home))
    await chart.rate("red", (home + timedelta(days=4)).isoformat())
    assert await dues(chart, "T-RED-HOLD") == [days_ago(1)], "nobody has looked since it is over"
    await chart.rate("amber", days_ago(1))
    assert await dues(chart, "T-RED-HOLD", "completed") == [days_ago(1)], "on that day it is over"


async def test_t_fu_48_follows_a_risk_that_is_noted_after_the_discharge(
    chart: Chart, spell: Spell
) -> None:
    await chart.tell(spell.discharge(NOW))
    assert await dues(chart, "T-FU-48") == []
    await chart.condition(canonicals.SNOMED_CT, "401206008")
    assert len(await dues(chart, "T-FU-48")) == 1


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
