"""$process-message, A03, and what ends otherwise than at home."""

from datetime import datetime, timedelta

import pytest

from fhir_server.fhir import canonicals
from tests.operations.chart import Chart, code_of, concept, extension_of
from tests.operations.messages import (
    JSON,
    Spell,
    changed,
    detained,
    notification,
    part,
    with_part,
)

ADMITTED = datetime.fromisoformat("2026-06-03T19:40:00+01:00")
HOME = datetime.fromisoformat("2026-07-06T14:00:00+01:00")
HOSPITAL_TASKS = ("contact-hospital", "T-OVERSIGHT-VISIT", "T-CETR-POSTADM", "T-CETR-REPEAT")
FOLLOW_UP = {"T-CAREPLAN-SHARE", "T-FU-72", "T-FU-7D", "T-RED-HOLD"}


@pytest.fixture
async def stay(chart: Chart) -> Spell:
    """An admission that has been told."""
    stay = Spell(chart.nhs_number, ADMITTED)
    await chart.tell(stay.admit())
    return stay


async def test_ends_the_stay(chart: Chart, stay: Spell) -> None:
    before = (await chart.stay())["id"]
    await chart.tell(stay.discharge(HOME))
    stored = await chart.stay()
    assert (stored["id"], stored["status"]) == (before, "finished")
    assert stored["period"]["end"] == HOME.isoformat()
    assert stored["episodeOfCare"] == [{"reference": "EpisodeOfCare/involvement"}]


async def test_is_read_in_the_da_vinci_shape_too(chart: Chart, stay: Spell) -> None:
    await chart.tell(notification("notification-discharge", stay.discharge(HOME)))
    assert (await chart.colour(), await chart.state()) == ("red", "plan-active")


async def test_turns_the_rating_red_for_at_least_fourteen_days(chart: Chart, stay: Spell) -> None:
    await chart.tell(stay.discharge(HOME))
    red = await chart.rating()
    assert red is not None
    assert code_of(red["code"]) == "red"
    assert red["period"] == {"start": "2026-07-06T14:00:00+01:00"}
    assert extension_of(red, canonicals.MINIMUM_UNTIL_EXTENSION)["valueDate"] == "2026-07-20"
    blue = next(flag for flag in await chart.all("Flag") if code_of(flag["code"]) == "blue")
    assert blue["status"] == "inactive"
    assert blue["period"]["end"] == "2026-07-06T14:00:00+01:00"
    reason = extension_of(blue, canonicals.RATING_END_REASON_EXTENSION)
    assert reason["valueCodeableConcept"] == concept(canonicals.RATING_END_REASON, "superseded")


async def test_on_the_day_of_admission_known_to_the_day_only_still_turns_red(
    chart: Chart, stay: Spell
) -> None:
    period = {"start": ADMITTED.isoformat(), "end": "2026-06-03"}
    await chart.tell(stay.discharge(HOME, period=period))
    assert await chart.colour() == "red"


async def test_turns_red_over_a_lower_rating_given_since(chart: Chart) -> None:
    now = datetime.now(ADMITTED.tzinfo).replace(microsecond=0)
    stay = Spell(chart.nhs_number, now - timedelta(days=30))
    await chart.tell(stay.admit())
    await chart.override("amber")
    await chart.tell(stay.discharge(now - timedelta(days=2)))
    assert await chart.colour() == "red"


async def test_of_long_ago_leaves_the_rating_given_since_as_it_is(chart: Chart) -> None:
    stay = Spell(chart.nhs_number, ADMITTED)
    await chart.rate("amber", "2026-01-05", status="inactive")
    await chart.rate("green", "2026-07-10")
    said = await chart.tell(stay.discharge(HOME))
    assert await chart.colour() == "green"
    assert any("A later rating stands: green" in text for text in said)


async def test_without_consent_by_then_ends_blue_and_gives_no_rating(
    chart: Chart, stay: Spell
) -> None:
    await chart.consent("register", status="inactive")
    await chart.tell(stay.discharge(HOME))
    assert await chart.rating() is None
    blue = next(flag for flag in await chart.all("Flag") if code_of(flag["code"]) == "blue")
    reason = extension_of(blue, canonicals.RATING_END_REASON_EXTENSION)
    assert code_of(reason["valueCodeableConcept"]) == "consent-withdrawn"


async def test_what_was_over_before_anybody_consented_is_not_rated_later(chart: Chart) -> None:
    await chart.consent("register", status="proposed")
    stay = Spell(chart.nhs_number, ADMITTED)
    await chart.tell(stay.admit())
    await chart.tell(stay.discharge(HOME))
    await chart.consent("register", dateTime=(HOME + timedelta(days=30)).isoformat())
    await chart.tell(Spell(chart.nhs_number, HOME + timedelta(days=40)).admit())
    ratings = [(code_of(one["code"]), one["status"]) for one in await chart.all("Flag")]
    assert sorted(ratings) == [("amber", "inactive"), ("blue", "active")]


async def test_opens_the_follow_up_with_its_due_times(chart: Chart, stay: Spell) -> None:
    await chart.tell(stay.discharge(HOME))
    dues = await chart.dues()
    assert dues == {
        "T-CAREPLAN-SHARE": "2026-07-07T14:00:00+01:00",
        "T-FU-72": "2026-07-09T14:00:00+01:00",
        "T-FU-7D": "2026-07-13T14:00:00+01:00",
        "T-RED-HOLD": "2026-07-20",
        "root-cause-analysis": "2026-07-01",
    }


@pytest.mark.parametrize(
    ("left", "share", "week"),
    [
        ("2026-03-28T14:00:00+00:00", "2026-03-29T15:00:00+01:00", "2026-04-04T15:00:00+01:00"),
        ("2026-10-24T14:00:00+01:00", "2026-10-25T13:00:00+00:00", "2026-10-31T13:00:00+00:00"),
    ],
    ids=["into summer time", "out of summer time"],
)
async def test_counts_hours_that_pass_while_the_clocks_change(
    chart: Chart, left: str, share: str, week: str
) -> None:
    home = datetime.fromisoformat(left)
    await chart.tell(Spell(chart.nhs_number, home - timedelta(days=20)).discharge(home))
    dues = await chart.dues()
    assert (dues["T-CAREPLAN-SHARE"], dues["T-FU-7D"]) == (share, week)
    assert datetime.fromisoformat(share) - home == timedelta(hours=24)


async def test_t_fu_48_is_opened_where_a_risk_of_self_harm_is_known(
    chart: Chart, stay: Spell
) -> None:
    await chart.condition(canonicals.SNOMED_CT, "401206008")
    await chart.tell(stay.discharge(HOME))
    task = (await chart.tasks())["T-FU-48"]
    assert task["restriction"]["period"]["end"] == "2026-07-08T14:00:00+01:00"
    assert task["priority"] == "asap"


@pytest.mark.parametrize(
    ("system", "code", "status"),
    [
        (canonicals.SNOMED_CT, "401206008", "resolved"),
        (canonicals.SNOMED_CT, "408856003", "active"),
        ("http://read.info/ctv3", "401206008", "active"),
    ],
    ids=["over", "another condition", "another system"],
)
async def test_t_fu_48_is_not_opened_otherwise(
    chart: Chart, stay: Spell, system: str, code: str, status: str
) -> None:
    await chart.condition(system, code, status)
    await chart.tell(stay.discharge(HOME))
    assert "T-FU-48" not in await chart.tasks()
    assert set(await chart.dues()) >= FOLLOW_UP


async def test_cancels_what_was_to_be_done_in_hospital(chart: Chart, stay: Spell) -> None:
    await chart.tell(stay.discharge(HOME))
    tasks = await chart.tasks()
    for code in HOSPITAL_TASKS:
        assert tasks[code]["status"] == "cancelled"
        assert tasks[code]["statusReason"] == {"text": "Discharged"}


async def test_leaves_what_has_been_done_as_it_is(chart: Chart, stay: Spell) -> None:
    task = (await chart.tasks())["contact-hospital"]
    await chart.write({**task, "status": "completed"})
    await chart.tell(stay.discharge(HOME))
    assert (await chart.tasks())["contact-hospital"]["status"] == "completed"


@pytest.mark.parametrize("state", ["in-hospital", "discharge-planning"])
async def test_moves_the_involvement_back_to_plan_active(unknown: Chart, state: str) -> None:
    await unknown.open(state=state)
    await unknown.tell(Spell(unknown.nhs_number, ADMITTED).discharge(HOME))
    assert await unknown.state() == "plan-active"


async def test_of_somebody_without_a_plan_for_home_asks_to_begin_one(
    chart: Chart, stay: Spell
) -> None:
    (plan,) = [one for one in await chart.all("CarePlan") if "encounter" not in one]
    await chart.write({**plan, "status": "revoked"})
    await chart.tell(stay.discharge(HOME))
    assert (await chart.dues())["planning-visit"] == "2026-07-20", "ten working days"
    await chart.write({**plan, "id": "another", "status": "draft"})
    assert (await chart.tasks("completed"))["planning-visit"]
    # Who has a plan is not asked: see what follows a discharge above.


@pytest.mark.parametrize("element", ["status", "category"])
async def test_a_plan_for_home_that_is_there_no_more_is_to_be_begun_again(
    chart: Chart, stay: Spell, element: str
) -> None:
    (plan,) = [one for one in await chart.all("CarePlan") if "encounter" not in one]
    await chart.tell(stay.discharge(HOME))
    assert "planning-visit" not in await chart.dues()
    other = [concept(canonicals.CARE_PLAN_CATEGORY, "transition-plan")]
    await chart.write({**plan, element: "revoked" if element == "status" else other})
    assert "planning-visit" in await chart.dues()


@pytest.mark.parametrize("state", ["planning", "step-down", "awaiting-allocation"])
async def test_leaves_any_other_state(unknown: Chart, state: str) -> None:
    await unknown.open(state=state)
    await unknown.tell(Spell(unknown.nhs_number, ADMITTED).discharge(HOME))
    assert await unknown.state() == state


@pytest.mark.parametrize("destination", ["49", "50", "53", "84", "87"])
async def test_to_another_hospital_stays_blue_with_everything_open(
    chart: Chart, stay: Spell, destination: str
) -> None:
    before = await chart.dues()
    said = await chart.tell(stay.discharge(HOME, to=destination))
    assert (await chart.stay())["status"] == "finished"
    assert (await chart.colour(), await chart.state()) == ("blue", "in-hospital")
    assert await chart.dues() == before
    assert any("another hospital" in text for text in said)


@pytest.mark.parametrize("destination", ["19", "29", "65", "66", "85", "98"])
async def test_to_anywhere_else_turns_red(chart: Chart, stay: Spell, destination: str) -> None:
    await chart.tell(stay.discharge(HOME, to=destination))
    assert await chart.colour() == "red"
    assert set(await chart.dues()) >= FOLLOW_UP


async def test_of_the_hospital_that_took_over_turns_red_and_ends_the_first_ones_tasks(
    chart: Chart, stay: Spell
) -> None:
    await chart.tell(stay.discharge(HOME, to="53"))
    second = Spell(chart.nhs_number, HOME + timedelta(hours=2))
    await chart.tell(second.admit())
    assert await chart.colour() == "blue"
    await chart.tell(second.discharge(HOME + timedelta(days=9)))
    assert (await chart.colour(), await chart.state()) == ("red", "plan-active")
    waiting = [task for task in await chart.all("Task") if task["status"] == "requested"]
    assert not {code_of(task["code"]) for task in waiting} & set(HOSPITAL_TASKS)


@pytest.mark.parametrize(("to", "method"), [("79", "1"), ("98", "4"), ("79", "4")])
async def test_by_death_ends_the_rating_and_whatever_would_remind_of_a_visit(
    chart: Chart, stay: Spell, to: str, method: str
) -> None:
    said = await chart.tell(stay.discharge(HOME, to=to, method=method))
    assert await chart.rating() is None
    blue = next(flag for flag in await chart.all("Flag") if code_of(flag["code"]) == "blue")
    reason = extension_of(blue, canonicals.RATING_END_REASON_EXTENSION)
    assert code_of(reason["valueCodeableConcept"]) == "deceased"
    assert set(await chart.dues()) == {"bereavement", "root-cause-analysis"}
    assert any("has died" in text for text in said)


@pytest.mark.parametrize(("code", "colour"), [("exp", None), ("psy", "blue"), ("home", "red")])
async def test_understands_hl7s_destinations_in_a_da_vinci_message(
    chart: Chart, stay: Spell, code: str, colour: str | None
) -> None:
    system = "http://terminology.hl7.org/CodeSystem/discharge-disposition"
    disposition = {"dischargeDisposition": concept(system, code)}
    message = stay.discharge(HOME, hospitalization=disposition, extension=[])
    await chart.tell(notification("notification-discharge", message))
    assert await chart.colour() == colour


DICTIONARY = "https://fhir.hl7.org.uk/CodeSystem/NHSDataModelAndDictionary"
LOCAL_CODES = "https://ward.example/CodeSystem/where-to"


@pytest.mark.parametrize(("code", "colour"), [("79", None), ("53", "blue"), ("19", "red")])
async def test_understands_destinations_by_the_data_dictionarys_older_name(
    chart: Chart, stay: Spell, code: str, colour: str | None
) -> None:
    disposition = concept(f"{DICTIONARY}-DischargeDestination", code)
    said = await chart.tell(stay.discharge(HOME, hospitalization=went(disposition)))
    assert await chart.colour() == colour
    assert not any("not understood" in text for text in said)


@pytest.mark.parametrize(
    ("system", "colour"), [(f"{DICTIONARY}-DischargeMethod", None), (LOCAL_CODES, "red")]
)
async def test_understands_a_discharge_method_by_its_system_alone(
    chart: Chart, stay: Spell, system: str, colour: str | None
) -> None:
    method = {
        "url": canonicals.DISCHARGE_METHOD_EXTENSION,
        "valueCodeableConcept": concept(system, "4"),
    }
    await chart.tell(stay.discharge(HOME, extension=[method]))
    assert await chart.colour() == colour


@pytest.mark.parametrize(
    "disposition",
    [
        concept(LOCAL_CODES, "79"),
        concept(LOCAL_CODES, "53"),
        concept(canonicals.DISCHARGE_DESTINATION, "exp"),
        concept("http://terminology.hl7.org/CodeSystem/discharge-disposition", "79"),
        {"coding": [{"code": "79"}]},
        {"text": "Taken in by an aunt"},
    ],
)
async def test_to_somewhere_not_understood_is_followed_up_as_home_and_says_so(
    chart: Chart, stay: Spell, disposition: JSON
) -> None:
    said = await chart.tell(stay.discharge(HOME, hospitalization=went(disposition)))
    assert await chart.colour() == "red"
    assert set(await chart.dues()) >= FOLLOW_UP
    assert any("not understood where the young person went" in text for text in said)


async def test_to_somewhere_that_is_not_told_is_followed_up_too(chart: Chart, stay: Spell) -> None:
    said = await chart.tell(stay.discharge(HOME, hospitalization=None))
    assert set(await chart.dues()) >= FOLLOW_UP
    assert not any("not understood" in text for text in said)


def went(disposition: JSON) -> JSON:
    return {"dischargeDisposition": disposition}


async def test_while_another_stay_is_open_stays_blue(chart: Chart, stay: Spell) -> None:
    other = Spell(chart.nhs_number, ADMITTED + timedelta(days=3))
    await chart.tell(other.admit())
    said = await chart.tell(stay.discharge(HOME))
    assert await chart.colour() == "blue"
    assert await chart.state() == "in-hospital"
    assert "Another stay is open: the rating stays blue" in said


async def test_told_before_the_admission_stores_the_finished_stay_and_its_follow_up(
    chart: Chart,
) -> None:
    await chart.tell(Spell(chart.nhs_number, ADMITTED).discharge(HOME))
    assert (await chart.stay())["status"] == "finished"
    assert await chart.colour() == "red"
    assert set(await chart.dues()) == FOLLOW_UP
    assert await chart.discharge_plan() is None


async def test_notes_a_right_to_aftercare_that_came_up_by_the_end(
    chart: Chart, stay: Spell
) -> None:
    await chart.tell(stay.discharge(HOME, extension=[detained("03")]))
    plan = await chart.discharge_plan()
    assert plan is not None
    assert extension_of(plan, canonicals.SECTION_117_EXTENSION)["valueBoolean"] is True


async def test_with_no_time_of_its_own_counts_from_the_message(chart: Chart, stay: Spell) -> None:
    message = stay.discharge(HOME, period={"start": ADMITTED.isoformat()})
    await chart.tell({**message, "timestamp": HOME.isoformat()})
    assert (await chart.dues())["T-FU-72"] == "2026-07-09T14:00:00+01:00"


@pytest.mark.parametrize("trigger", ["A02", "A04", "A08"])
async def test_transfer_visit_and_update_store_the_stay_and_nothing_else(
    chart: Chart, stay: Spell, trigger: str
) -> None:
    before = {kind: await chart.all(kind) for kind in ("Flag", "CarePlan", "Task", "EpisodeOfCare")}
    reason = {"coding": [{"system": canonicals.V2_EVENT, "code": trigger}]}
    ward = [{"location": {"display": "Swallow ward"}}]
    await chart.tell(changed(stay.update(location=ward), 0, reason=reason))
    assert (await chart.stay())["location"] == ward
    assert before == {kind: await chart.all(kind) for kind in before}


async def test_a_visit_is_no_stay(chart: Chart) -> None:
    at_home = {"system": canonicals.ACT_CODE, "code": "HH"}
    reason = {"coding": [{"system": canonicals.V2_EVENT, "code": "A04"}]}
    visit = Spell(chart.nhs_number, ADMITTED).update()
    visit = with_part(visit, 1, {**part(visit, 1), "class": at_home, "status": "finished"})
    await chart.tell(changed(visit, 0, reason=reason))
    assert (await chart.stay())["class"] == at_home
    assert (await chart.colour(), await chart.state()) == ("amber", "plan-active")


async def test_a_transfer_is_read_in_the_da_vinci_shape_too(chart: Chart, stay: Spell) -> None:
    await chart.tell(notification("notification-transfer", stay.transfer()))
    assert (await chart.colour(), await chart.state()) == ("blue", "in-hospital")
