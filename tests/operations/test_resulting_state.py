"""$process-message: effects follow what has become of the stay, whatever the trigger's letter."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from fhir_server.fhir import canonicals
from fhir_server.fhir.dates import LOCAL
from tests.operations.chart import Chart, code_of, concept, everything, extension_of, voice
from tests.operations.messages import JSON, Spell, changed, renamed
from tests.operations.test_admission_risk import risk
from tests.support import assert_outcome, body

NOW = datetime.now(LOCAL).replace(microsecond=0)
ADMITTED = NOW - timedelta(days=20)
HOME = NOW - timedelta(days=2)
TRIGGERS = ("A02", "A04", "A08")
_CLOSED = {"CarePlan": "plan", "Consent": "consent-keyworking", "Task": "visit"}
FOLLOW_UP = {"T-CAREPLAN-SHARE", "T-FU-72", "T-FU-7D", "T-RED-HOLD"}


def as_trigger(sent: JSON, trigger: str) -> JSON:
    reason = {"coding": [{"system": canonicals.V2_EVENT, "code": trigger}]}
    return changed(sent, 0, reason=reason)


@pytest.fixture
def stay(chart: Chart) -> Spell:
    return Spell(chart.nhs_number, ADMITTED)


async def agree_on(chart: Chart, colour: str) -> None:
    found = await risk(chart)
    assert (found.rating, found.registered, await chart.colour()) == (colour, colour, colour)


async def effects(chart: Chart) -> dict[str, Any]:
    kinds = ("Flag", "CarePlan", "Task", "EpisodeOfCare")
    return {kind: await chart.all(kind) for kind in kinds}


def without_meta(resource: JSON) -> JSON:
    return {name: value for name, value in resource.items() if name != "meta"}


# Open -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["IMP", "ACUTE", "NONAC"])
@pytest.mark.parametrize("trigger", TRIGGERS)
async def test_an_open_stay_that_nobody_told_of_before_has_the_effects_of_an_admission(
    chart: Chart, stay: Spell, trigger: str, kind: str
) -> None:
    inpatient = {"system": canonicals.ACT_CODE, "code": kind}
    await chart.tell(as_trigger(stay.update(**{"class": inpatient}), trigger))
    await agree_on(chart, "blue")
    assert await chart.state() == "in-hospital"
    assert await chart.discharge_plan()
    assert "contact-hospital" in await chart.dues()


@pytest.mark.parametrize("trigger", TRIGGERS)
async def test_an_open_stay_told_again_by_any_trigger_has_no_further_effects(
    chart: Chart, stay: Spell, trigger: str
) -> None:
    await chart.tell(stay.admit())
    before = await effects(chart)
    await chart.tell(as_trigger(stay.update(), trigger))
    await chart.tell(renamed(stay.admit()))
    assert before == await effects(chart)


async def test_a_word_that_leaves_out_the_start_does_not_move_the_dates(
    chart: Chart, stay: Spell
) -> None:
    await chart.tell(stay.admit())
    before = await effects(chart)
    await chart.tell(stay.transfer(period=None))
    assert before == await effects(chart)


async def test_a_planned_stay_has_no_effects_until_it_begins(chart: Chart, stay: Spell) -> None:
    before = await effects(chart)
    await chart.tell(stay.update(status="planned"))
    assert before == await effects(chart)
    await chart.tell(stay.update())
    await agree_on(chart, "blue")


# Finished ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("trigger", TRIGGERS)
async def test_an_open_stay_that_becomes_finished_has_the_effects_of_a_discharge(
    chart: Chart, stay: Spell, trigger: str
) -> None:
    await chart.tell(stay.admit())
    await chart.tell(as_trigger(stay.discharge(HOME), trigger))
    await agree_on(chart, "red")
    assert await chart.state() == "plan-active"
    dues = await chart.dues()
    assert dues.keys() >= FOLLOW_UP
    assert "contact-hospital" not in dues


@pytest.mark.parametrize("trigger", TRIGGERS)
async def test_a_finished_stay_in_hospital_that_nobody_told_of_has_its_follow_up(
    chart: Chart, stay: Spell, trigger: str
) -> None:
    await chart.tell(as_trigger(stay.discharge(HOME), trigger))
    await agree_on(chart, "red")
    assert (await chart.dues()).keys() >= FOLLOW_UP


async def test_a_correction_to_death_ends_the_rating_and_the_follow_up(
    chart: Chart, stay: Spell
) -> None:
    await chart.tell(stay.admit())
    await chart.tell(stay.discharge(HOME))
    await chart.tell(as_trigger(stay.discharge(HOME, to="79", method="4"), "A08"))
    assert await chart.rating() is None
    assert not (await chart.dues()).keys() & {"T-FU-72", "T-FU-7D", "T-RED-HOLD"}


async def test_a_death_told_in_error_gives_back_all_that_it_closed(
    chart: Chart, stay: Spell
) -> None:
    await chart.tell(stay.admit())
    visit: JSON = {"resourceType": "Task", "id": "visit", "status": "requested", "intent": "order"}
    visit |= {"code": concept(canonicals.TASK, "first-visit"), "authoredOn": "2026-06-01"}
    about = {"for": {"reference": chart.patient}, "focus": {"reference": chart.patient}}
    await chart.write({**visit, **about, "restriction": {"period": {"end": "2099-01-01"}}})
    await chart.tell(stay.discharge(HOME, to="79", method="4"))
    over = [await chart.client.get(f"{kind}/{name}") for kind, name in _CLOSED.items()]
    assert [one.json()["status"] for one in over] == ["completed", "inactive", "cancelled"]
    await chart.tell(as_trigger(stay.discharge(HOME), "A08"))
    again = [await chart.client.get(f"{kind}/{name}") for kind, name in _CLOSED.items()]
    assert [one.json()["status"] for one in again] == ["active", "active", "requested"]
    assert (await chart.state(), await chart.colour()) == ("plan-active", "red")
    assert (await chart.dues()).keys() >= FOLLOW_UP


@pytest.mark.parametrize("over", [True, False])
async def test_a_late_word_of_an_earlier_stay_brings_nobody_back_who_has_died(
    chart: Chart, stay: Spell, over: bool
) -> None:
    last = Spell(chart.nhs_number, NOW - timedelta(days=4))
    await chart.tell(last.admit())
    await chart.tell(last.discharge(HOME, to="79", method="4"))
    left = NOW - timedelta(days=6)
    await chart.tell(stay.discharge(left) if over else stay.admit())
    assert await chart.rating() is None
    (episode,) = await chart.all("EpisodeOfCare")
    assert episode["status"] == "finished"
    waiting = [task for task in await chart.all("Task") if task["status"] == "requested"]
    assert {code_of(task["code"]) for task in waiting} == {"bereavement", "root-cause-analysis"}


async def test_a_discharge_does_not_open_what_a_person_has_closed_as_a_death(
    chart: Chart, stay: Spell
) -> None:
    await chart.tell(stay.admit())
    asked = [
        {"name": "reason", "valueCode": "deceased"},
        {"name": "end-tasks", "valueBoolean": True},
        {"name": "end-goals", "valueBoolean": True},
    ]
    sent = body({"resourceType": "Parameters", "parameter": asked})
    answer = await chart.client.post("EpisodeOfCare/involvement/$close", **sent)
    assert answer.status_code == 200, answer.text
    await chart.tell(stay.discharge(HOME))
    (episode,) = await chart.all("EpisodeOfCare")
    assert episode["status"] == "finished"


async def test_a_discharge_gives_the_plan_its_end_and_leaves_it_to_people(
    chart: Chart, stay: Spell
) -> None:
    await chart.tell(stay.admit())
    await chart.tell(stay.discharge(HOME))
    plan = await chart.discharge_plan()
    assert plan is not None
    assert (plan["status"], plan["period"]["end"]) == ("draft", HOME.date().isoformat())
    completed = await chart.write({**plan, "status": "completed"})
    await chart.tell(stay.discharge(HOME + timedelta(days=1)))
    assert await chart.discharge_plan() == completed


# Never was --------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["cancelled", "entered-in-error"])
@pytest.mark.parametrize("trigger", TRIGGERS)
async def test_a_stay_that_never_was_is_undone(
    chart: Chart, stay: Spell, trigger: str, status: str
) -> None:
    await chart.tell(stay.admit())
    said = await chart.tell(as_trigger(stay.update(status=status), trigger))
    assert (await chart.stay())["status"] == status
    assert (await chart.state(), await chart.colour()) == ("plan-active", "amber")
    blue = next(flag for flag in await chart.all("Flag") if code_of(flag["code"]) == "blue")
    reason = extension_of(blue, canonicals.RATING_END_REASON_EXTENSION)
    assert code_of(reason["valueCodeableConcept"]) == "added-in-error"
    assert blue["status"] == "inactive"
    plan = await chart.discharge_plan()
    assert plan is not None
    assert plan["status"] == "revoked"
    assert not await chart.dues()
    for what in ("added in error", "amber again", "5", "revoked", "from in-hospital to plan-act"):
        assert any(what in text for text in said), what


async def test_undoing_gives_back_the_rating_with_its_floor(chart: Chart, stay: Spell) -> None:
    earlier = Spell(chart.nhs_number, ADMITTED - timedelta(days=9))
    await chart.tell(earlier.discharge(ADMITTED - timedelta(days=1)))
    red = await chart.rating()
    assert red is not None
    await chart.tell(stay.admit())
    await chart.tell(stay.update(status="entered-in-error"))
    restored = await chart.rating()
    assert restored is not None
    assert without_meta(restored) == without_meta(red)
    assert code_of(restored["code"]) == "red"


async def test_undoing_asks_again_for_what_the_admission_cancelled(
    chart: Chart, stay: Spell
) -> None:
    earlier = Spell(chart.nhs_number, ADMITTED - timedelta(days=9))
    await chart.tell(earlier.discharge(ADMITTED - timedelta(days=1)))
    before = await chart.dues()
    await chart.tell(stay.admit())
    await chart.tell(stay.update(status="cancelled"))
    assert await chart.dues() == before
    assert (await chart.tasks())["T-FU-72"].get("statusReason") is None


async def test_undoing_an_ended_stay_undoes_its_red_and_its_follow_up(
    chart: Chart, stay: Spell
) -> None:
    await chart.tell(stay.admit())
    await chart.tell(stay.discharge(HOME))
    await chart.tell(stay.update(status="entered-in-error"))
    assert await chart.colour() == "amber"
    assert not await chart.dues()
    assert (await risk(chart)).rules == {}


async def test_undoing_leaves_a_rating_that_somebody_has_given_since(
    chart: Chart, stay: Spell
) -> None:
    await chart.tell(stay.admit())
    await chart.override("green")
    await chart.tell(stay.update(status="cancelled"))
    assert await chart.colour() == "green"


async def test_undoing_while_another_stay_is_open_stays_blue(chart: Chart, stay: Spell) -> None:
    await chart.tell(Spell(chart.nhs_number, ADMITTED - timedelta(days=3)).admit())
    await chart.tell(stay.admit())
    await chart.tell(stay.update(status="entered-in-error"))
    await agree_on(chart, "blue")
    assert await chart.state() == "in-hospital"


async def test_undoing_without_consent_by_then_gives_back_no_rating(
    chart: Chart, stay: Spell
) -> None:
    await chart.tell(stay.admit())
    run_out = {"type": "permit", "period": {"start": "2026-01-05", "end": "2026-06-30"}}
    await chart.consent("register", provision=run_out)
    said = await chart.tell(stay.update(status="cancelled"))
    assert await chart.rating() is None
    assert any("no consent to be on the register" in text for text in said)


@pytest.mark.parametrize(
    ("plans", "state"),
    [
        ({"keyworking-plan": "draft"}, "planning"),
        ({"keyworking-plan": "completed"}, "information-gathering"),
        ({"keyworking-plan": "active", "step-down-plan": "active"}, "step-down"),
    ],
)
async def test_undoing_moves_the_involvement_to_where_its_plans_are(
    chart: Chart, stay: Spell, plans: dict[str, str], state: str
) -> None:
    for category, status in plans.items():
        plan = {
            "resourceType": "CarePlan",
            "id": "plan" if category == "keyworking-plan" else category,
            "status": status,
            "intent": "plan",
            "category": [concept(canonicals.CARE_PLAN_CATEGORY, category)],
            "subject": {"reference": chart.patient},
            "period": {"start": "2026-01-05"},
            "extension": [voice()],
            "goal": [{"reference": "Goal/goal"}],
            "careTeam": [{"reference": "CareTeam/team"}],
        }
        await chart.write(plan)
    await chart.tell(stay.admit())
    await chart.tell(stay.update(status="cancelled"))
    assert await chart.state() == state


async def test_a_stay_that_was_never_admitted_is_withdrawn_without_effects(
    chart: Chart, stay: Spell
) -> None:
    before = await effects(chart)
    await chart.tell(stay.update(status="planned"))
    await chart.tell(stay.update(status="cancelled"))
    assert before == await effects(chart)


@pytest.mark.parametrize("late", ["admit", "discharge"])
async def test_no_late_word_brings_back_a_stay_that_never_was(
    chart: Chart, stay: Spell, late: str
) -> None:
    await chart.tell(stay.admit())
    await chart.tell(stay.update(status="entered-in-error"))
    before = await effects(chart)
    sent = stay.admit() if late == "admit" else stay.discharge(HOME)
    (said,) = await chart.tell(sent)
    assert "entered-in-error already, nothing of it is changed" in said
    assert before == await effects(chart)


@pytest.mark.parametrize("status", ["planned", "unknown"])
async def test_an_open_stay_that_would_become_unclear_is_refused(
    chart: Chart, stay: Spell, status: str
) -> None:
    await chart.tell(stay.admit())
    before = await everything(chart.store)
    response = await chart.client.post("$process-message", **body(stay.update(status=status)))
    place = "Bundle.entry[1].resource.status"
    assert_outcome(response, 422, "business-rule", f"cannot become '{status}'", place)
    assert "cancelled, entered-in-error are allowed" in response.text
    assert await everything(chart.store) == before
