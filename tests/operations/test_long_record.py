"""A record of many years says the same as one that holds only what matters now"""

from collections.abc import Iterator
from typing import Any, Final

from fhir_server.fhir import canonicals
from tests.operations.asking import got, named, parts
from tests.operations.chart import KEYWORKER, Chart, code_of, concept
from tests.operations.messages import JSON
from tests.operations.timing import begin, complete, days_ago, due, involve, timers
from tests.storage import questions

STAYS, PLANS, TASKS = 25, 60, 320
SUBJECT: Final = {"reference": "Patient/young-person"}
OURS: Final = {
    "id": "our-plan",
    "category": [concept(canonicals.CARE_PLAN_CATEGORY, "keyworking-plan")],
    "title": "Our plan",
    "status": "draft",
    "author": KEYWORKER,
    "created": days_ago(5),
    "period": {"start": days_ago(5)},
}
NOW: Final = "Encounter/now"
"""The stay that goes on."""


def past_stay(number: int) -> JSON:
    return {
        "resourceType": "Encounter",
        "id": f"past-{number}",
        "status": "finished",
        "class": {"system": canonicals.ACT_CODE, "code": "IMP"},
        "subject": SUBJECT,
        "period": {"start": days_ago(410 + 9 * number), "end": days_ago(402 + 9 * number)},
        "serviceProvider": {"identifier": {"system": canonicals.ODS_ORGANIZATION, "value": "X1"}},
    }


def other_plan(number: int) -> JSON:
    """Of another service, which says at which contact it was made."""
    return {
        "resourceType": "CarePlan",
        "id": f"other-{number}",
        "status": "active",
        "intent": "plan",
        "category": [{"text": "Physiotherapy"}],
        "subject": SUBJECT,
        "encounter": {"reference": f"Encounter/past-{number % STAYS}"},
    }


def closed_plan(number: int) -> JSON:
    """Of a stay that is told of nowhere else."""
    kind = [concept(canonicals.CARE_PLAN_CATEGORY, "discharge-plan")]
    stay = {"reference": f"Encounter/elsewhere-{number}"}
    more = {"id": f"closed-{number}", "status": "completed", "category": kind, "encounter": stay}
    return {**other_plan(number), **more}


def done_task(number: int) -> JSON:
    """Of the service, such as years of contact leave behind."""
    return {
        "resourceType": "Task",
        "id": f"done-{number}",
        "status": "completed",
        "intent": "order",
        "code": concept(canonicals.TASK, "contact-family"),
        "for": SUBJECT,
        "executionPeriod": {"end": days_ago(401 + number)},
    }


def many() -> Iterator[JSON]:
    yield from map(past_stay, range(STAYS))
    yield from map(other_plan, range(PLANS))
    yield from map(closed_plan, range(PLANS))
    yield from map(done_task, range(TASKS))


async def is_ill(chart: Chart) -> None:
    """In hospital since a month ago, reviewed before, visited there; the plan is led."""
    await begin(chart)
    for category in ("register", "keyworking"):
        await chart.consent(category)
    await involve(chart)
    await chart.rate("red", days_ago(60))
    (review,) = await timers(chart, "T-CETR-COMMUNITY")
    await complete(chart, review, days_ago(40))
    own = {"code": concept(canonicals.TASK, "contact-hospital"), "focus": {"reference": NOW}}
    await chart.write({**done_task(0), **own, "id": "own"})
    stay = {**past_stay(0), "id": "now", "status": "in-progress"}
    await chart.write({**stay, "period": {"start": f"{days_ago(30)}T10:00:00Z"}})
    plan = await chart.discharge_plan()
    assert plan is not None
    await chart.write({**plan, "author": KEYWORKER})
    (visit,) = await timers(chart, "T-OVERSIGHT-VISIT")
    await complete(chart, visit, days_ago(10))


async def looked_at(chart: Chart) -> None:
    """A write after which rules look at all there is."""
    stay = await got(chart.client, NOW)
    for code in ("in-area", "out-of-area"):
        await chart.write({**stay, "type": [concept(canonicals.STAY_TYPE, code)]})


async def told(chart: Chart) -> dict[str, JSON | list[Any]]:
    """What is to be done, and what people are shown of the last two months."""
    (plan,) = [one for one in await chart.all("CarePlan") if one["id"] == "our-plan"]
    todo = await got(chart.client, f"Task?patient={chart.patient}&status=requested&_count=200")
    tasks = [entry["resource"] for entry in todo["entry"]]
    events = await got(chart.client, f"{chart.patient}/$timeline?start={days_ago(60)}&_count=200")
    easy = await got(chart.client, f"CarePlan/{plan['id']}/$easy-read")
    return {
        "to do": sorted([code_of(one["code"]), due(one)] for one in tasks),
        "risk": await got(chart.client, f"{chart.patient}/$admission-risk"),
        "timeline": [parts(one) for one in named(events, "event")],
        "easy read": next(one["resource"] for one in easy["entry"])["section"],
    }


async def test_a_record_of_many_years_says_what_a_short_one_does(unknown: Chart) -> None:
    await is_ill(unknown)
    await unknown.write({**other_plan(0), **OURS})
    await looked_at(unknown)
    short = await told(unknown)
    todo = dict(short["to do"])
    assert {"T-CETR-REPEAT", "T-OVERSIGHT-VISIT", "T-CONSENT-RECHECK"} <= todo.keys()
    done = {"T-CETR-POSTADM", "T-DPLAN-START", "contact-hospital", "root-cause-analysis"}
    assert not done & todo.keys()
    await questions.put(unknown.store, *many())
    await looked_at(unknown)
    assert await told(unknown) == short
