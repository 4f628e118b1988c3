"""The timers of consent, of age and of leaving: what starts each, what does not, what ends it."""

from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest

from fhir_server.access.caller import ANONYMOUS
from fhir_server.access.facts.record import birthday as birthday_for_access
from fhir_server.access.policy import OpenPolicy
from fhir_server.access.session import Session, SessionUnit
from fhir_server.fhir import canonicals
from fhir_server.fhir.dates import LATEST
from operations._calendar import birthday, working_days_after
from tests.operations.chart import Chart, code_of, concept
from tests.operations.messages import Spell
from tests.operations.timing import (
    NOW,
    TODAY,
    begin,
    born,
    by_parent,
    complete,
    days_ago,
    dues,
    in_days,
    involve,
    timers,
)


@pytest.fixture
def spell(chart: Chart) -> Spell:
    return Spell(chart.nhs_number, NOW - timedelta(days=20))


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
    """By a consent from before the 13th birthday, where that has been."""
    await begin(unknown, birthDate=birth_date)
    await by_parent(unknown, dateTime=days_ago(4 * 365))
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


async def own(chart: Chart, category: str, **elements: Any) -> None:
    """What the young person says for themselves, beside what a parent said."""
    await chart.consent(category, id=f"own-{category}", dateTime=days_ago(0), **elements)


async def test_t_proxy_16_ends_a_consent_that_fits_no_profile_of_today(unknown: Chart) -> None:
    """What was stored before a rule came, or elsewhere, holds up nobody's birthday."""
    await begin(unknown, birthDate=born(16, -10))
    consent = await by_parent(unknown)
    old = {name: value for name, value in consent.items() if name != "organization"}

    async def work(unit: SessionUnit) -> None:
        await unit.put(old, "PUT")

    await Session(unknown.store, ANONYMOUS, OpenPolicy()).commit("set up", work)
    patient = (await unknown.client.get(unknown.patient)).json()
    await unknown.write({**patient, "birthDate": born(16, 1)})
    (consent,) = await unknown.all("Consent")
    assert consent["status"] == "inactive"


async def test_t_proxy_16_asks_until_all_that_a_parent_agreed_to_is_decided(
    unknown: Chart,
) -> None:
    await begin(unknown, birthDate=born(16, 1))
    await by_parent(unknown)
    await own(unknown, "keyworking")
    assert await dues(unknown, "T-PROXY-16") == [days_ago(1)], "nobody has asked of the register"
    await own(unknown, "register")
    assert await dues(unknown, "T-PROXY-16") == []
    assert await dues(unknown, "T-PROXY-16", "completed") == [days_ago(1)]
    await own(unknown, "keyworking", status="inactive")
    assert await dues(unknown, "T-PROXY-16") == [], "they were asked, and said yes for a time"


async def test_a_no_of_their_own_at_16_ends_the_rating_that_a_parent_agreed_to(
    unknown: Chart,
) -> None:
    await begin(unknown, birthDate=born(16, 1))
    await by_parent(unknown)
    await unknown.rate("amber", days_ago(30))
    assert await unknown.colour() == "amber"
    await own(unknown, "register", status="rejected")
    assert await unknown.colour() is None
    (flag,) = await unknown.all("Flag")
    assert "consent-withdrawn" in str(flag["extension"])
    assert await dues(unknown, "T-PROXY-16") == []


@pytest.mark.parametrize(
    ("by", "day"), [("parental-responsibility", days_ago(0)), ("consent", days_ago(100))]
)
async def test_no_other_no_ends_it(unknown: Chart, by: str, day: str) -> None:
    """Neither a parent's, who does not decide any more, nor one from before the yes."""
    await begin(unknown, birthDate=born(16, 1))
    await by_parent(unknown)
    await unknown.rate("amber", days_ago(30))
    basis = concept(canonicals.NHS_PROXY_LEGAL_BASIS, by)
    who = "RelatedPerson/mother" if by == "parental-responsibility" else unknown.patient
    told = {"status": "rejected", "dateTime": day, "performer": [{"reference": who}]}
    await unknown.consent("register", id="another", policyRule=basis, **told)
    assert await unknown.colour() == "amber"


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


async def test_t_transition_is_not_late_on_the_day_that_somebody_is_first_known(
    unknown: Chart,
) -> None:
    await begin(unknown, birthDate=born(15))
    await involve(unknown, period={"start": days_ago(3)})
    assert await dues(unknown, "T-TRANSITION") == [in_days(25)]
    # Known since long: on the birthday.
    await involve(unknown, period={"start": days_ago(500)})
    await begin(unknown, birthDate=born(14, 5))
    assert await dues(unknown, "T-TRANSITION") == [days_ago(5)]


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


async def test_t_retention_is_not_for_somebody_who_is_rated_still(unknown: Chart) -> None:
    await test_t_retention_has_the_record_archived_and_later_removed(unknown)
    await unknown.rate("green", days_ago(1))
    assert await dues(unknown, "T-RETENTION") == []


async def test_t_retention_ends_with_a_new_involvement(unknown: Chart) -> None:
    await test_t_retention_has_the_record_archived_and_later_removed(unknown)
    await involve(unknown, id="again")
    assert await dues(unknown, "T-RETENTION") == []


async def test_nothing_is_asked_for_of_somebody_who_has_died(chart: Chart) -> None:
    assert await dues(chart, "T-REVIEW-AMBER")
    (patient,) = [(await chart.client.get(chart.patient)).json()]
    await chart.write({**patient, "deceasedBoolean": True})
    statuses = {code_of(task["code"]): task["status"] for task in await chart.all("Task")}
    assert statuses.pop("bereavement") == "requested"
    assert {*statuses.values()} == {"cancelled"}


async def test_a_date_of_birth_that_is_to_come_is_none(unknown: Chart, spell: Spell) -> None:
    """Whoever mistyped it: the stay is told, and nothing leaves the calendar."""
    await begin(unknown)
    person = (await unknown.client.get(unknown.patient)).json()
    await unknown.write({**person, "birthDate": "9999-12-31"})
    spell = replace(spell, birth_date="9999-12-31")
    await unknown.tell(spell.admit())
    assert await dues(unknown, "T-TRANSITION") == []
    assert len(await dues(unknown, "contact-hospital")) == 1
    report = await unknown.client.get("$oversight-report?start=0001-01-01&end=9999-12-31")
    assert report.json()["period"]["end"].startswith("9999-12-31")
    past = await unknown.client.get("$register?at=0001-01-01T00:00:00%2B14:00")
    assert past.status_code == 200, past.text


def test_birthdays_stay_in_the_calendar() -> None:
    assert birthday(date(9990, 5, 14), 16 * 12) == date.max
    assert birthday_for_access("9990-02-28", 16) == LATEST
    assert birthday(date(2012, 2, 29), 13 * 12) == date(2025, 3, 1)
