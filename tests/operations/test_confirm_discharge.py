"""CarePlan/$confirm-discharge."""

from datetime import timedelta

import pytest

from fhir_server.fhir import canonicals
from tests.operations.chart import Chart, code_of, everything, extension_of
from tests.operations.leaving import ADMITTED, NOW, TODAY, all_done, confirm, plan_of
from tests.operations.messages import Spell
from tests.operations.parameters import definition, problems
from tests.support import assert_outcome, body, exact


@pytest.fixture
async def stay(chart: Chart) -> Spell:
    stay = Spell(chart.nhs_number, ADMITTED)
    await chart.tell(stay.admit())
    return stay


# Confirming ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("stay")
async def test_a_discharge_is_confirmed_with_all_that_follows_from_one(chart: Chart) -> None:
    await all_done(chart)
    answer = await confirm(chart)
    assert answer.status_code == 200, answer.text
    assert problems(exact(answer), definition("confirm_discharge.json")) == []
    plan, encounter = await plan_of(chart), await chart.stay()
    assert (plan["status"], plan["period"]["end"]) == ("completed", TODAY.isoformat())
    assert encounter["status"] == "finished"
    assert code_of(encounter["hospitalization"]["dischargeDisposition"]) == "19"
    assert (await chart.colour(), await chart.state()) == ("red", "plan-active")
    assert {"T-CAREPLAN-SHARE", "T-FU-72", "T-FU-7D"} <= set(await chart.dues())
    assert_outcome(await confirm(chart), 422, "business-rule", "The plan is completed already")


@pytest.mark.usefixtures("stay")
async def test_what_is_open_refuses_it_and_nothing_is_written(chart: Chart) -> None:
    before = await everything(chart.store)
    answer = await confirm(chart)
    assert_outcome(answer, 422, "business-rule", "dp-home is open", "CarePlan.activity[5].detail")
    assert "dp-voice is open: Young person's wishes recorded, due" in answer.text
    assert "overdue, of PractitionerRole/keyworker" in answer.text
    assert len(answer.json()["issue"]) == 14
    assert await everything(chart.store) == before


@pytest.mark.usefixtures("stay")
async def test_an_override_needs_a_reason_which_is_kept(chart: Chart) -> None:
    assert_outcome(await confirm(chart, override=True), 400, "invalid", "'reason' says why")
    why = "A tribunal has decided that she leaves today"
    answer = await confirm(chart, override=True, reason=why)
    assert answer.status_code == 200, answer.text
    (note,) = (await plan_of(chart))["note"]
    assert note["text"].endswith(why)
    assert "dp-home" in note["text"]
    assert await chart.colour() == "red"


@pytest.mark.usefixtures("stay")
async def test_a_transfer_stays_blue(chart: Chart) -> None:
    await all_done(chart)
    assert (await confirm(chart, destination="53")).status_code == 200
    assert await chart.colour() == "blue"


@pytest.mark.usefixtures("stay")
async def test_a_death_is_one_by_its_destination(chart: Chart) -> None:
    await all_done(chart)
    assert (await confirm(chart, destination="79")).status_code == 200
    method = extension_of(await chart.stay(), canonicals.DISCHARGE_METHOD_EXTENSION)
    assert code_of(method["valueCodeableConcept"]) == "4"
    assert await chart.rating() is None


async def test_a_stay_that_has_ended_already_keeps_its_end(chart: Chart, stay: Spell) -> None:
    await all_done(chart)
    left = NOW - timedelta(days=2)
    await chart.tell(stay.discharge(left))
    refused = await confirm(chart)
    assert_outcome(refused, 422, "business-rule", f"The stay ended on {left.date()}")
    assert (await confirm(chart, date=left.date().isoformat())).status_code == 200
    assert (await plan_of(chart))["status"] == "completed"


@pytest.mark.parametrize("agreed", [True, False])
async def test_a_discharge_that_is_cancelled_gives_the_plan_back_to_work_on(
    chart: Chart, stay: Spell, agreed: bool
) -> None:
    if agreed:
        await all_done(chart)
    assert (await confirm(chart, override=True, reason="A tribunal has decided")).is_success
    await chart.tell({**stay.event("A13", "in-progress"), "timestamp": NOW.isoformat()})
    plan = await plan_of(chart)
    assert (plan["status"], "end" in plan["period"]) == ("active" if agreed else "draft", False)
    assert (await chart.colour(), await chart.state()) == ("blue", "in-hospital")
    answer = await confirm(chart, override=True, reason="Now she leaves")
    assert answer.status_code == 200, answer.text
    assert await chart.colour() == "red"


@pytest.mark.usefixtures("stay")
@pytest.mark.parametrize(
    ("given", "status", "text"),
    [
        ({"date": (TODAY + timedelta(days=1)).isoformat()}, 400, "is in the future"),
        ({"date": (ADMITTED.date() - timedelta(days=1)).isoformat()}, 422, "The stay began on"),
        ({"date": f"{TODAY:%Y-%m}"}, 400, "is no day"),
        ({"destination": "home"}, 400, "'home' is no destination; 19, 29"),
        ({"method": "2"}, 400, "'2' is no method; 1, 3"),
    ],
)
async def test_bad_input_is_told(
    chart: Chart, given: dict[str, str], status: int, text: str
) -> None:
    answer = await confirm(chart, **given)
    code = "invalid" if status == 400 else "business-rule"
    assert_outcome(answer, status, code, text)


@pytest.mark.parametrize("operation", ["$discharge-readiness", "$confirm-discharge"])
async def test_another_sort_of_plan_and_none_are_told(chart: Chart, operation: str) -> None:
    made = [
        {"name": "date", "valueDate": TODAY.isoformat()},
        {"name": "destination", "valueCode": "19"},
    ]
    sent = body({"resourceType": "Parameters", "parameter": made})
    if operation == "$discharge-readiness":
        sent = {}
    other = await chart.client.post(f"CarePlan/plan/{operation}", **sent)
    assert_outcome(other, 422, "business-rule", "This is no discharge plan", "CarePlan.category")
    none = await chart.client.post(f"CarePlan/none/{operation}", **sent)
    assert_outcome(none, 404, "not-found", "CarePlan/none is not known")
