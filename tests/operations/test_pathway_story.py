"""From the referral to the end, by operations alone: what each step leaves behind."""

from datetime import timedelta

from tests.operations.chart import KEYWORKER, Chart, code_of
from tests.operations.messages import Spell
from tests.operations.test_pathway import NOW, by_operation, episode, operate, visited
from tests.operations.test_pathway_operations import refer, young_person
from tests.support import body


async def complete(chart: Chart, code: str) -> None:
    task = (await chart.tasks("requested"))[code]
    await chart.write({**task, "status": "completed"})


async def step(chart: Chart, to: str, reason: str = "") -> None:
    answer = await by_operation(chart, to, reason)
    assert answer.status_code == 200, answer.text
    assert await chart.state() == to


async def test_from_referral_to_step_down_and_the_end(unknown: Chart) -> None:
    """With a stay in hospital half-way, which the keyworker stays for."""
    chart = unknown
    await young_person(chart)
    assert (await refer(chart)).status_code == 200
    await step(chart, "consent-pending")
    await chart.consent("keyworking")
    await step(chart, "awaiting-allocation")
    assert (await operate(chart, "allocate", keyworker=KEYWORKER)).status_code == 200
    await complete(chart, "contact-family")
    await complete(chart, "contact-mdt")
    await visited(chart, period={"start": NOW.isoformat()})
    await step(chart, "planning")
    await _plan(chart)
    await step(chart, "plan-active")
    await _stay(chart)
    assert await chart.state() == "plan-active"
    await chart.rate("green", NOW.isoformat())
    await step(chart, "step-down")
    answer = await chart.client.post(
        f"EpisodeOfCare/{(await episode(chart))['id']}/$close",
        **body(
            {
                "resourceType": "Parameters",
                "parameter": [
                    {"name": "reason", "valueCode": "stepped-down"},
                    {"name": "end-tasks", "valueBoolean": True},
                    {"name": "end-goals", "valueBoolean": True},
                ],
            }
        ),
    )
    assert answer.status_code == 200, answer.text
    history = [one["status"] for one in answer.json()["statusHistory"]]
    assert history == ["planned", "waitlist", "active", "finished"]
    plans = {code_of(plan["category"][0]): plan["status"] for plan in await chart.all("CarePlan")}
    assert plans["keyworking-plan"] == plans["step-down-plan"] == "completed"
    (referral,) = await chart.all("ServiceRequest")
    assert referral["status"] == "completed"


async def _plan(chart: Chart) -> None:
    """What the keyworker and the young person write into the draft that was opened."""
    model = chart._beginning("planning", "2010-05-14")
    goal = next(one for one in model if one["resourceType"] == "Goal")
    await chart.write({**goal, "lifecycleStatus": "accepted"})
    (draft,) = await chart.all("CarePlan")
    written = next(one for one in model if one["resourceType"] == "CarePlan")
    kept = {name: written[name] for name in ("extension", "goal")}
    await chart.write({**draft, **kept})


async def _stay(chart: Chart) -> None:
    """Nineteen days in hospital, home for a fortnight."""
    spell = Spell(chart.nhs_number, NOW - timedelta(days=34))
    await chart.tell(spell.admit())
    assert await chart.state() == "in-hospital"
    plan = await chart.discharge_plan()
    assert plan is not None
    await chart.write({**plan, "status": "active"})
    await step(chart, "discharge-planning")
    await chart.tell(spell.discharge(NOW - timedelta(days=15)))
