"""Patient/$discharge-plan"""

from datetime import datetime, timedelta

import pytest

from fhir_server.fhir import canonicals
from fhir_server.fhir.discharge import DISCHARGE_ITEMS
from tests.operations.chart import KEYWORKER, STANDING, Chart, code_of, concept, everything
from tests.operations.messages import JSON, Spell
from tests.operations.parameters import definition, problems
from tests.support import assert_outcome, body, exact

ADMITTED = datetime.fromisoformat("2026-06-03T19:40:00+01:00")
HOME = datetime.fromisoformat("2026-07-06T14:00:00+01:00")


@pytest.fixture
async def stay(chart: Chart) -> Spell:
    """An admission that has been told."""
    stay = Spell(chart.nhs_number, ADMITTED)
    await chart.tell(stay.admit())
    return stay


async def ask(chart: Chart) -> list[JSON]:
    """The parameters of the answer: by GET and by POST the same, with nothing written."""
    before = await everything(chart.store)
    address = f"{chart.patient}/$discharge-plan"
    got = await chart.client.get(address)
    assert got.status_code == 200, got.text
    posted = await chart.client.post(address, **body({"resourceType": "Parameters"}))
    assert posted.content == got.content
    assert await everything(chart.store) == before
    answer = exact(got)
    assert problems(answer, definition("discharge_plan.json")) == []
    parameters: list[JSON] = answer["parameter"]
    return parameters


def named(parameters: list[JSON], name: str) -> list[JSON]:
    return [parameter for parameter in parameters if parameter["name"] == name]


def open_codes(parameters: list[JSON]) -> list[str]:
    return [item["part"][0]["valueCoding"]["code"] for item in named(parameters, "open")]


async def plan_of(chart: Chart) -> JSON:
    plan = await chart.discharge_plan()
    assert plan is not None
    return plan


@pytest.mark.usefixtures("stay")
async def test_returns_the_plan_with_its_items_goals_and_open_tasks(chart: Chart) -> None:
    answer = await ask(chart)
    assert named(answer, "plan")[0]["resource"] == await chart.discharge_plan()
    assert named(answer, "items") == [{"name": "items", "valueInteger": 14}]
    assert named(answer, "done") == [{"name": "done", "valueInteger": 0}]
    assert open_codes(answer) == [item.code for item in DISCHARGE_ITEMS]
    assert [goal["resource"]["id"] for goal in named(answer, "goal")] == ["goal"]
    tasks = {code_of(task["resource"]["code"]) for task in named(answer, "task")}
    assert tasks - STANDING == set(await chart.dues())
    assert not named(answer, "planned-discharge")


@pytest.mark.usefixtures("stay")
async def test_says_when_each_item_is_due(chart: Chart) -> None:
    parts = [
        {part["name"]: part for part in item["part"]} for item in named(await ask(chart), "open")
    ]
    assert parts[1]["due"]["valueDate"] == "2026-06-10"
    assert parts[1]["text"]["valueString"] == "Young person's wishes recorded"
    assert parts[5]["due-when"]["valueString"].startswith("28 days before the planned discharge")
    assert [part["status"]["valueCode"] for part in parts] == [
        "in-progress",
        *["not-started"] * 13,
    ]


@pytest.mark.usefixtures("stay")
async def test_counts_what_is_done_or_does_not_apply(chart: Chart) -> None:
    plan = await plan_of(chart)
    for index, status in ((0, "completed"), (1, "in-progress"), (7, "cancelled")):
        plan["activity"][index]["detail"]["status"] = status
    plan["activity"][0]["detail"]["performer"] = [KEYWORKER]
    plan["activity"][7]["detail"]["statusReason"] = {"text": "Nobody of school age"}
    plan["activity"].append({"detail": {"status": "not-started", "code": {"text": "Pack a bag"}}})
    await chart.write(plan)
    answer = await ask(chart)
    assert named(answer, "items")[0]["valueInteger"] == 14
    assert named(answer, "done")[0]["valueInteger"] == 2
    assert {"dp-start", "dp-education"}.isdisjoint(open_codes(answer))
    assert "dp-voice" in open_codes(answer)


@pytest.mark.usefixtures("stay")
async def test_names_the_planned_discharge_once_it_is_set(chart: Chart) -> None:
    plan = await plan_of(chart)
    planned = {"url": canonicals.PLANNED_DISCHARGE_EXTENSION, "valueDate": "2026-07-03"}
    await chart.write({**plan, "extension": [*plan["extension"], planned]})
    (found,) = named(await ask(chart), "planned-discharge")
    assert found["valueDate"] == "2026-07-03"


@pytest.mark.usefixtures("stay")
async def test_leaves_out_goals_that_are_not_here(chart: Chart) -> None:
    goals = [{"reference": "Goal/gone"}, {"display": "Swim"}, {"reference": "Goal/goal"}]
    await chart.write({**await plan_of(chart), "goal": goals})
    assert [goal["resource"]["id"] for goal in named(await ask(chart), "goal")] == ["goal"]


async def test_returns_the_plan_of_the_newest_stay(chart: Chart, stay: Spell) -> None:
    await chart.tell(stay.discharge(HOME))
    await chart.tell(Spell(chart.nhs_number, HOME + timedelta(days=40)).admit())
    plan = named(await ask(chart), "plan")[0]["resource"]
    assert plan["period"]["start"] == "2026-08-15"


async def test_prefers_the_plan_of_the_stay_that_goes_on(chart: Chart, stay: Spell) -> None:
    """Discharged and admitted again on one day: both plans are open and as old."""
    await chart.tell(stay.discharge(stay.start + timedelta(minutes=30)))
    again = Spell(chart.nhs_number, stay.start + timedelta(hours=1))
    await chart.tell(again.admit())
    plan = named(await ask(chart), "plan")[0]["resource"]
    (encounter,) = [e for e in await chart.all("Encounter") if e["status"] == "in-progress"]
    assert plan["encounter"]["reference"] == f"Encounter/{encounter['id']}"


@pytest.mark.usefixtures("stay")
async def test_returns_the_last_plan_where_none_is_open(chart: Chart) -> None:
    await chart.write({**await plan_of(chart), "status": "completed"})
    assert named(await ask(chart), "plan")[0]["resource"]["status"] == "completed"


@pytest.mark.usefixtures("stay")
async def test_reads_an_activity_whose_status_is_not_told(chart: Chart) -> None:
    plan = await plan_of(chart)
    absent = {"extension": [{"url": "https://example.org/why", "valueCode": "unknown"}]}
    plan["activity"] = [
        {"detail": {"_status": absent, "code": concept(canonicals.DISCHARGE_ITEM, "dp-home")}}
    ]
    await chart.write(plan)
    (item,) = named(await ask(chart), "open")
    assert item["part"][1] == {"name": "status", "valueCode": "unknown"}


async def test_of_somebody_without_a_plan_is_not_found(chart: Chart) -> None:
    response = await chart.client.get(f"{chart.patient}/$discharge-plan")
    assert_outcome(response, 404, "not-found", "has no discharge plan; one is opened by an")


async def test_of_somebody_unknown_is_not_found(unknown: Chart) -> None:
    for method in ("GET", "POST"):
        response = await unknown.client.request(method, f"{unknown.patient}/$discharge-plan")
        assert_outcome(response, 404, "not-found", "Patient/young-person is not known")
