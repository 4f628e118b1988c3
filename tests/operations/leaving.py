"""A discharge plan on its way, for tests of what is done with it."""

from datetime import date, datetime, timedelta
from typing import Any

import httpx

from fhir_server.fhir import canonicals
from fhir_server.fhir.dates import LOCAL
from fhir_server.fhir.discharge import DISCHARGE_ITEMS
from tests.operations.chart import KEYWORKER, Chart, code_of, concept, everything
from tests.operations.messages import JSON
from tests.operations.parameters import definition, problems
from tests.support import body, exact

NOW = datetime.now(LOCAL).replace(microsecond=0)
TODAY = NOW.date()
ADMITTED = NOW - timedelta(days=40)
PLANNED = TODAY + timedelta(days=60)
TEAM = ("inpatient-rc", "camhs", "social-worker", "gp", "education", "keyworker")


async def plan_of(chart: Chart) -> JSON:
    plan = await chart.discharge_plan()
    assert plan is not None
    return plan


def item_of(plan: JSON, code: str) -> JSON:
    (found,) = [
        activity["detail"]
        for activity in plan["activity"]
        if code_of(activity["detail"]["code"]) == code
    ]
    detail: JSON = found
    return detail


def with_item(plan: JSON, code: str, **elements: Any) -> JSON:
    activities = [
        {"detail": {**one["detail"], **elements}} if code_of(one["detail"]["code"]) == code else one
        for one in plan["activity"]
    ]
    return {**plan, "activity": activities}


def with_value(plan: JSON, url: str, **value: Any) -> JSON:
    others = [one for one in plan.get("extension", []) if one["url"] != url]
    return {**plan, "extension": [*others, {"url": url, **value}]}


def planned(plan: JSON, day: date) -> JSON:
    url = canonicals.PLANNED_DISCHARGE_EXTENSION
    return with_value(plan, url, valueDate=day.isoformat())


async def gather_team(chart: Chart, *roles: str) -> None:
    participants = [
        {"role": [concept(canonicals.CARE_TEAM_ROLE, role)], "member": {"display": role}}
        for role in roles
    ]
    team = (await chart.client.get("CareTeam/team")).json()
    await chart.write({**team, "participant": participants})


async def all_done(chart: Chart) -> JSON:
    """Every item is done."""
    await gather_team(chart, *TEAM)
    plan = planned(await plan_of(chart), PLANNED)
    said = {"text": "I want to go home"}
    plan = with_value(plan, canonicals.YOUNG_PERSONS_VOICE_EXTENSION, valueAnnotation=said)
    for item in DISCHARGE_ITEMS:
        plan = with_item(plan, item.code, status="completed", performer=[KEYWORKER])
    return await chart.write(plan)


async def ready(chart: Chart) -> tuple[JSON, dict[str, JSON]]:
    """Values by name, and the parts of each blocker by code."""
    before = await everything(chart.store)
    answer = await chart.client.get(f"CarePlan/{(await plan_of(chart))['id']}/$discharge-readiness")
    assert answer.status_code == 200, answer.text
    assert await everything(chart.store) == before
    told = exact(answer)
    assert problems(told, definition("discharge_readiness.json")) == []
    values = {one["name"]: _value(one) for one in told["parameter"] if "part" not in one}
    blockers = [
        {part["name"]: _value(part) for part in one["part"]}
        for one in told["parameter"]
        if one["name"] == "blocker"
    ]
    return values, {one["code"]["code"]: one for one in blockers}


def _value(given: JSON) -> Any:
    return next(value for name, value in given.items() if name.startswith("value"))


async def confirm(chart: Chart, **given: Any) -> httpx.Response:
    kinds = {"date": "valueDate", "override": "valueBoolean", "reason": "valueString"}
    told = {"date": TODAY.isoformat(), "destination": "19", **given}
    made = [{"name": name, kinds.get(name, "valueCode"): one} for name, one in told.items()]
    sent = body({"resourceType": "Parameters", "parameter": made})
    plan = await plan_of(chart)
    return await chart.client.post(f"CarePlan/{plan['id']}/$confirm-discharge", **sent)
