"""CarePlan/$discharge-readiness, and what rules do with a discharge plan.

Each item of the checklist has a test that is named after its code.
"""

from datetime import timedelta

import pytest

from fhir_server.fhir import canonicals
from operations._calendar import working_days_after
from operations._checklist import Item
from tests.operations.chart import KEYWORKER, Chart, code_of, concept
from tests.operations.leaving import (
    ADMITTED,
    NOW,
    PLANNED,
    TEAM,
    TODAY,
    all_done,
    confirm,
    gather_team,
    item_of,
    plan_of,
    planned,
    ready,
    with_item,
    with_value,
)
from tests.operations.messages import JSON, Spell, detained
from tests.operations.parameters import definition, problems
from tests.operations.timing import born
from tests.support import assert_outcome, body, exact, write_over


@pytest.fixture
async def stay(chart: Chart) -> Spell:
    stay = Spell(chart.nhs_number, ADMITTED)
    await chart.tell(stay.admit())
    return stay


# Opening ---------------------------------------------------------------------------------------


async def _stay_without_a_plan(chart: Chart) -> Spell:
    stay = Spell(chart.nhs_number, ADMITTED)
    await chart.tell(stay.admit())
    plan = await plan_of(chart)
    headers = {"if-match": f'W/"{plan["meta"]["versionId"]}"'}
    assert (await chart.client.delete(f"CarePlan/{plan['id']}", headers=headers)).is_success
    return stay


async def test_a_plan_is_opened_for_a_stay_that_has_none_once(chart: Chart) -> None:
    await _stay_without_a_plan(chart)
    address = f"{chart.patient}/$discharge-plan"
    assert (await chart.client.get(address)).status_code == 404
    sent = body({"resourceType": "Parameters"})
    for _ in range(2):
        answer = await chart.client.post(address, **sent)
        assert answer.status_code == 200, answer.text
        assert problems(exact(answer), definition("discharge_plan.json")) == []
    plan = await plan_of(chart)
    assert plan["period"]["start"] == ADMITTED.date().isoformat()
    assert len(plan["activity"]) == 14


async def test_nothing_is_opened_without_a_stay(chart: Chart) -> None:
    answer = await chart.client.post(f"{chart.patient}/$discharge-plan")
    assert_outcome(answer, 404, "not-found", "one is opened by an admission")


@pytest.mark.usefixtures("stay")
async def test_each_item_has_an_owner_of_the_team_or_the_keyworker(chart: Chart) -> None:
    plan = await plan_of(chart)
    assert all(one["detail"]["performer"] == [KEYWORKER] for one in plan["activity"])


async def test_the_owner_is_who_has_that_role(chart: Chart) -> None:
    await gather_team(chart, *TEAM)
    await chart.tell(Spell(chart.nhs_number, ADMITTED).admit())
    plan = await plan_of(chart)
    assert item_of(plan, "dp-meds-physical")["performer"] == [{"display": "gp"}]
    assert item_of(plan, "dp-home")["performer"] == [{"display": "social-worker"}]
    assert item_of(plan, "dp-cetr")["performer"] == [KEYWORKER]


# Due dates -------------------------------------------------------------------------------------

DUE = {
    "dp-start": ADMITTED.date(),
    "dp-voice": ADMITTED.date() + timedelta(days=7),
    "dp-carers": ADMITTED.date() + timedelta(days=7),
    "dp-cetr": ADMITTED.date() + timedelta(days=14),
    "dp-planned-date": ADMITTED.date() + timedelta(days=14),
    "dp-home": PLANNED - timedelta(days=28),
    "dp-community-team": PLANNED - timedelta(days=28),
    "dp-education": PLANNED - timedelta(days=28),
    "dp-funding": PLANNED - timedelta(days=14),
    "dp-crisis-plan": PLANNED - timedelta(days=7),
    "dp-ra": PLANNED - timedelta(days=7),
    "dp-meds-physical": PLANNED - timedelta(days=3),
    "dp-agreements": PLANNED - timedelta(days=1),
    "dp-mdt": PLANNED - timedelta(days=7),
}


async def _item(chart: Chart, code: str) -> None:
    """It is dated, blocks while it is open, and does not any more once it is done."""
    await chart.write(planned(await plan_of(chart), PLANNED))
    due = DUE[code].isoformat()
    assert item_of(await plan_of(chart), code)["scheduledPeriod"] == {"end": due}
    _, blockers = await ready(chart)
    assert blockers[code]["due"] == due
    assert blockers[code]["overdue"] is (DUE[code] < TODAY)
    plan = await all_done(chart)
    values, blockers = await ready(chart)
    assert (values["ready"], values["share"], blockers) == (True, 100, {})
    await chart.write(with_item(plan, code, status="in-progress"))
    values, blockers = await ready(chart)
    assert (values["ready"], values["done"], [*blockers]) == (False, 13, [code])
    refused = await confirm(chart)
    assert_outcome(refused, 422, "business-rule", f"{code} is open: ")
    assert len(refused.json()["issue"]) == 1


@pytest.mark.usefixtures("stay")
async def test_dp_start(chart: Chart) -> None:
    await _item(chart, "dp-start")


@pytest.mark.usefixtures("stay")
async def test_dp_voice(chart: Chart) -> None:
    await _item(chart, "dp-voice")


@pytest.mark.usefixtures("stay")
async def test_dp_carers(chart: Chart) -> None:
    await _item(chart, "dp-carers")


@pytest.mark.usefixtures("stay")
async def test_dp_cetr(chart: Chart) -> None:
    await _item(chart, "dp-cetr")


@pytest.mark.usefixtures("stay")
async def test_dp_planned_date(chart: Chart) -> None:
    await _item(chart, "dp-planned-date")


@pytest.mark.usefixtures("stay")
async def test_dp_home(chart: Chart) -> None:
    await _item(chart, "dp-home")


@pytest.mark.usefixtures("stay")
async def test_dp_community_team(chart: Chart) -> None:
    await _item(chart, "dp-community-team")


@pytest.mark.usefixtures("stay")
async def test_dp_education(chart: Chart) -> None:
    await _item(chart, "dp-education")


@pytest.mark.usefixtures("stay")
async def test_dp_funding(chart: Chart) -> None:
    await _item(chart, "dp-funding")


@pytest.mark.usefixtures("stay")
async def test_dp_crisis_plan(chart: Chart) -> None:
    await _item(chart, "dp-crisis-plan")


@pytest.mark.usefixtures("stay")
async def test_dp_ra(chart: Chart) -> None:
    await _item(chart, "dp-ra")


@pytest.mark.usefixtures("stay")
async def test_dp_meds_physical(chart: Chart) -> None:
    await _item(chart, "dp-meds-physical")


@pytest.mark.usefixtures("stay")
async def test_dp_agreements(chart: Chart) -> None:
    await _item(chart, "dp-agreements")


@pytest.mark.usefixtures("stay")
async def test_dp_mdt(chart: Chart) -> None:
    await _item(chart, "dp-mdt")


@pytest.mark.parametrize(("age", "mandatory"), [(18, True), (19, False)])
async def test_dp_education_is_mandatory_below_19(
    unknown: Chart, age: int, *, mandatory: bool
) -> None:
    await unknown.open(born=born(age, 100))
    await unknown.tell(Spell(unknown.nhs_number, ADMITTED).admit())
    values, blockers = await ready(unknown)
    assert ("dp-education" in blockers) is mandatory
    assert values["mandatory"] == (14 if mandatory else 13)
    reason = [{"text": "Has an EHC plan"}]
    await unknown.write(with_item(await plan_of(unknown), "dp-education", reasonCode=reason))
    assert "dp-education" in (await ready(unknown))[1]


@pytest.mark.usefixtures("stay")
async def test_dp_mdt_is_done_when_every_role_is_there(chart: Chart) -> None:
    await gather_team(chart, *(role for role in TEAM if role != "gp"))
    plan = await plan_of(chart)
    done = with_item(plan, "dp-mdt", status="completed")
    refused = await write_over(chart.client, done)
    place = "CarePlan.activity[13].detail"
    assert_outcome(refused, 422, "business-rule", "not complete without gp:", place)
    await gather_team(chart, *TEAM)
    await chart.write(done)
    assert "dp-mdt" not in (await ready(chart))[1]
    await gather_team(chart, *(role for role in TEAM if role != "camhs"))
    blocker = (await ready(chart))[1]["dp-mdt"]
    assert blocker["why"] == "Not in the team, and nobody says why: camhs"
    involvement = "EpisodeOfCare/involvement"
    etag = (await chart.client.get(involvement)).headers["etag"]
    await chart.client.delete(involvement, headers={"If-Match": etag})
    await gather_team(chart, *(role for role in TEAM if role not in ("camhs", "keyworker")))
    blocker = (await ready(chart))[1]["dp-mdt"]
    assert blocker["why"] == "Not in the team, and nobody says why: camhs, keyworker"


def test_an_item_is_overdue_from_the_day_after() -> None:
    item = Item("dp-home", "Home", "not-started", "CarePlan.activity[5]", due="2026-06-15")
    assert [item.is_overdue(day) for day in ("2026-06-15", "2026-06-16")] == [False, True]


@pytest.mark.usefixtures("stay")
async def test_dp_mdt_is_done_when_somebody_says_why_a_role_is_not_there(chart: Chart) -> None:
    why = {"text": "No GP yet: she moves to another town"}
    await chart.write(
        with_item(await plan_of(chart), "dp-mdt", status="completed", statusReason=why)
    )
    assert "dp-mdt" not in (await ready(chart))[1]


@pytest.mark.usefixtures("stay")
async def test_what_does_not_apply_is_not_counted(chart: Chart) -> None:
    why = {"text": "Goes to another unit of the same trust"}
    plan = with_item(await plan_of(chart), "dp-home", status="cancelled", statusReason=why)
    await chart.write(plan)
    values, blockers = await ready(chart)
    assert values["mandatory"] == 13
    assert "dp-home" not in blockers


@pytest.mark.usefixtures("stay")
async def test_an_item_may_be_a_task(chart: Chart) -> None:
    task = {
        "resourceType": "Task",
        "id": "home",
        "status": "requested",
        "intent": "order",
        "code": concept(canonicals.DISCHARGE_ITEM, "dp-home"),
        "for": {"reference": chart.patient},
        "focus": {"reference": chart.patient},
        "authoredOn": "2026-06-01",
        "owner": KEYWORKER,
        "restriction": {"period": {"end": "2026-06-09"}},
    }
    await chart.write(task)
    plan = await plan_of(chart)
    kept = [one for one in plan["activity"] if code_of(one["detail"]["code"]) != "dp-home"]
    await chart.write({**plan, "activity": [*kept, {"reference": {"reference": "Task/home"}}]})
    blocker = (await ready(chart))[1]["dp-home"]
    assert (blocker["status"], blocker["due"]) == ("not-started", "2026-06-09")
    assert (blocker["owner"], blocker["overdue"]) == (KEYWORKER, True)
    await chart.write({**task, "status": "completed"})
    assert "dp-home" not in (await ready(chart))[1]


@pytest.mark.usefixtures("stay")
async def test_due_dates_follow_the_planned_discharge(chart: Chart) -> None:
    await chart.write(planned(await plan_of(chart), PLANNED))
    later = PLANNED + timedelta(days=10)
    plan = with_item(await plan_of(chart), "dp-ra", status="completed")
    by_hand = {"end": "2027-12-24"}
    await chart.write(planned(with_item(plan, "dp-home", scheduledPeriod=by_hand), later))
    plan = await plan_of(chart)
    due = (later - timedelta(days=14)).isoformat()
    assert item_of(plan, "dp-funding")["scheduledPeriod"] == {"end": due}
    assert item_of(plan, "dp-home")["scheduledPeriod"] == by_hand
    done = (PLANNED - timedelta(days=7)).isoformat()
    assert item_of(plan, "dp-ra")["scheduledPeriod"] == {"end": done}
    without = [
        one for one in plan["extension"] if one["url"] != canonicals.PLANNED_DISCHARGE_EXTENSION
    ]
    await chart.write({**plan, "extension": without})
    assert "scheduledString" in item_of(await plan_of(chart), "dp-funding")


@pytest.mark.usefixtures("stay")
async def test_nothing_is_due_before_the_admission(chart: Chart) -> None:
    await chart.write(planned(await plan_of(chart), ADMITTED.date() + timedelta(days=10)))
    due = item_of(await plan_of(chart), "dp-home")["scheduledPeriod"]["end"]
    assert due == ADMITTED.date().isoformat()


# Ready and waiting -----------------------------------------------------------------------------

READY = TODAY - timedelta(days=5)


async def say_ready(chart: Chart) -> JSON:
    url = canonicals.CLINICALLY_READY_EXTENSION
    plan = with_value(await plan_of(chart), url, valueDate=READY.isoformat())
    return await chart.write(plan)


@pytest.mark.usefixtures("stay")
async def test_who_is_ready_and_still_there_has_a_reason_within_one_working_day(
    chart: Chart,
) -> None:
    plan = await say_ready(chart)
    due = working_days_after(READY, 1).isoformat()
    assert (await chart.dues())["delay-reason"] == due
    values, _ = await ready(chart)
    assert (values["clinically-ready"], values["days-ready"]) == (READY.isoformat(), 5)
    assert values["delay-reason-due"] == due
    reason = concept(canonicals.DELAY_REASON, "18")
    told = with_value(plan, canonicals.DELAY_REASON_EXTENSION, valueCodeableConcept=reason)
    await chart.write(told)
    assert (await chart.tasks())["delay-reason"]["status"] == "completed"
    values, _ = await ready(chart)
    assert values["delay-reason"] == reason
    assert "delay-reason-due" not in values


async def test_nobody_asks_for_a_reason_after_the_discharge(chart: Chart, stay: Spell) -> None:
    await say_ready(chart)
    await chart.tell(stay.discharge(NOW - timedelta(hours=1)))
    assert (await chart.tasks())["delay-reason"]["status"] == "cancelled"


@pytest.mark.usefixtures("stay")
async def test_a_task_that_was_taken_up_is_left_alone(chart: Chart) -> None:
    plan = await say_ready(chart)
    task = (await chart.tasks())["delay-reason"]
    await chart.write({**task, "status": "in-progress"})
    await chart.write(with_item(plan, "dp-ra", status="in-progress"))
    assert (await chart.tasks())["delay-reason"]["status"] == "in-progress"


@pytest.mark.parametrize(
    ("legal_status", "missing"),
    [
        (None, "No legal status of the stay is told"),
        ("99", "A legal status of the stay is told as not known (99)"),
    ],
)
async def test_section_117_is_left_open_while_the_legal_status_is_not_known(
    chart: Chart, legal_status: str | None, missing: str
) -> None:
    stay = Spell(chart.nhs_number, ADMITTED, legal_status=legal_status)
    assert any(missing in text for text in await chart.tell(stay.admit()))
    found = (await ready(chart))[0]
    assert "section-117" not in found
    assert missing in found["section-117-missing"]
    shown = (await chart.client.get(f"{chart.patient}/$discharge-plan")).json()["parameter"]
    assert {"name": "section-117-missing", "valueString": found["section-117-missing"]} in shown
    # Somebody who knows says that there is none.
    with_right = with_value(
        await plan_of(chart), canonicals.SECTION_117_EXTENSION, valueBoolean=False
    )
    await chart.write(with_right)
    assert (await ready(chart))[0]["section-117"] is False


async def test_section_117_is_denied_as_soon_as_the_legal_status_is_told(chart: Chart) -> None:
    stay = Spell(chart.nhs_number, ADMITTED, legal_status=None)
    await chart.tell(stay.admit())
    await chart.tell(stay.update(extension=[detained("02")]))
    assert (await ready(chart))[0]["section-117"] is False


async def test_section_117_follows_any_legal_status_of_the_stay(chart: Chart) -> None:
    await chart.tell(Spell(chart.nhs_number, ADMITTED, legal_status="03").admit())
    assert (await ready(chart))[0]["section-117"] is True
    plan = await plan_of(chart)
    await chart.write(with_value(plan, canonicals.SECTION_117_EXTENSION, valueBoolean=False))
    assert (await ready(chart))[0]["section-117"] is True
