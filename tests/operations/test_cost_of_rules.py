"""What rules ask of the store does not grow with a young person's history."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import httpx
import pytest

from fhir_server.access.session import SessionUnit
from fhir_server.fhir import canonicals
from fhir_server.search.ast import Search
from fhir_server.storage.interface import Page, Position, Store, StoredVersion, Unit
from operations import _person, _record
from operations._work import task_id
from tests.operations.chart import Chart, concept
from tests.operations.messages import JSON, Spell
from tests.operations.timing import NOW, begin, days_ago, in_days, involve
from tests.storage import questions
from tests.support import body

DONE: Final = ("root-cause-analysis", "T-CAREPLAN-SHARE", "T-FU-72", "T-FU-7D", "T-RED-HOLD")
FEW: Final = 2
"""What rules look at of many stays and plans, here; else it takes hundreds to see a bound."""


class Counted:
    """A commit that counts what it is asked, and the resources that it answers with."""

    def __init__(self, unit: Unit, asked: list[int]) -> None:
        self._unit = unit
        self._asked = asked

    def __getattr__(self, name: str) -> Any:
        return getattr(self._unit, name)

    async def read(self, resource_type: str, resource_id: str) -> StoredVersion | None:
        self._asked.append(1)
        return await self._unit.read(resource_type, resource_id)

    async def search(
        self,
        query: Search,
        count: int,
        after: Position | None = None,
        until: Position | None = None,
    ) -> Page:
        page = await self._unit.search(query, count, after, until)
        self._asked.append(1 + len(page.matches))
        return page


@contextmanager
def counting(store: Store) -> Iterator[list[int]]:
    """What the commits meanwhile ask for: for each question one, and one for each resource."""
    asked: list[int] = []
    commit = store.commit

    async def counted(work: Callable[[Unit], Awaitable[Any]]) -> Any:
        return await commit(lambda unit: work(Counted(unit, asked)))

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(store, "commit", counted)
        yield asked


def plan(number: int, **elements: Any) -> JSON:
    return {
        "resourceType": "CarePlan",
        "id": f"plan-{number}",
        "status": "draft",
        "intent": "plan",
        "category": [concept(canonicals.CARE_PLAN_CATEGORY, "keyworking-plan")],
        "subject": {"reference": "Patient/young-person"},
        "period": {"start": days_ago(10)},
        "created": days_ago(10),
        "title": "Our plan",
        **elements,
    }


def task(code: str, focus: str, **elements: Any) -> JSON:
    """As rules make it, and as it is when it has been done."""
    return {
        "resourceType": "Task",
        "id": task_id(code, focus),
        "status": "completed",
        "intent": "order",
        "code": concept(canonicals.TIMER if code.startswith("T-") else canonicals.TASK, code),
        "for": {"reference": "Patient/young-person"},
        "focus": {"reference": focus},
        "executionPeriod": {"end": days_ago(390)},
        **elements,
    }


def stay(number: int, **elements: Any) -> JSON:
    return {
        "resourceType": "Encounter",
        "id": f"stay-{number}",
        "status": "finished",
        "class": {"system": canonicals.ACT_CODE, "code": "IMP"},
        "subject": {"reference": "Patient/young-person"},
        "period": {"start": days_ago(410 + 20 * number), "end": days_ago(400 + 20 * number)},
        **elements,
    }


def history(number: int) -> list[JSON]:
    """What one year more may leave behind, and what a client may write again and again."""
    hangs = {"encounter": {"reference": f"Encounter/stay-{number}"}}
    kind = [concept(canonicals.CARE_PLAN_CATEGORY, "discharge-plan")]
    visit = {"class": {"system": canonicals.ACT_CODE, "code": "HH"}, "id": f"visit-{number}"}
    elsewhere = {"code": {"text": "Somebody else's"}}
    return [
        stay(number),
        stay(number, **visit),
        plan(2 * number),
        plan(2 * number + 1, category=kind, status="completed", **hangs),
        *(task(code, f"Encounter/stay-{number}") for code in DONE),
        {**task(f"open-{number}", "Patient/young-person", status="requested"), **elsewhere},
        {**task(f"over-{number}", "Patient/young-person"), **elsewhere},
    ]


def written(again: int) -> dict[str, JSON]:
    """One resource of each kind that rules look at, said anew each time."""
    day, home = days_ago(again), {"class": {"system": canonicals.ACT_CODE, "code": "HH"}}
    asked = {"status": "in-progress", "executionPeriod": {"start": day}}
    return {
        "plan": plan(9000, created=day),
        "goal": {
            "resourceType": "Goal",
            "id": "goal",
            "lifecycleStatus": "proposed",
            "description": {"text": f"To cook, as we said on {day}"},
            "subject": {"reference": "Patient/young-person"},
        },
        "task": task("T-CETR-COMMUNITY", "Patient/young-person", **asked),
        "visit": stay(9000, period={"start": day}, **home),
        "stay": stay(9001, status="planned", period={"start": day, "end": in_days(5)}),
    }


async def costs(chart: Chart, again: int) -> dict[str, int]:
    """Of a write of each kind."""
    found = {}
    for kind, each in written(again).items():
        with counting(chart.store) as asked:
            await chart.write(each)
        found[kind] = sum(asked)
    with counting(chart.store) as asked:
        period = {"start": days_ago(30), "end": in_days(100 + again)}
        await chart.consent("keyworking", provision={"type": "permit", "period": period})
    return {**found, "consent": sum(asked)}


async def test_a_long_history_makes_no_write_dearer(
    unknown: Chart, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name in (
        (_person, "_MOST_STAYS"),
        (_person, "_MOST_PLANS"),
        (_record, "_MOST_TASKS"),
    ):
        monkeypatch.setattr(module, name, FEW)
    await begin(unknown)
    await unknown.consent("keyworking")
    await involve(unknown)
    await questions.put(unknown.store, *(one for each in range(2 * FEW) for one in history(each)))
    await costs(unknown, 0)  # what is missing is made now
    short = await costs(unknown, 1)
    more = range(2 * FEW, 6 * FEW)
    await questions.put(unknown.store, *(one for each in more for one in history(each)))
    assert await costs(unknown, 2) == short


async def test_a_plan_for_home_asks_for_the_consent_and_whether_one_is_missed(
    unknown: Chart,
) -> None:
    await begin(unknown)
    await unknown.consent("keyworking")
    await involve(unknown)
    for title in ("Our plan", "Our own plan"):
        with counting(unknown.store) as asked:
            await unknown.write(plan(1, title=title))
        assert sum(asked) <= 6, title


async def test_a_transaction_of_plans_asks_for_all_of_them_at_once(unknown: Chart) -> None:
    async def searches(count: int) -> int:
        people = [f"person-{count}-{number}" for number in range(count)]
        resources = [{"resourceType": "Patient", "id": one} for one in people]
        await questions.put(unknown.store, *resources)
        subjects = [{"subject": {"reference": f"Patient/{one}"}} for one in people]
        plans = [plan(count * 100 + at, **subject) for at, subject in enumerate(subjects)]
        with monitored() as asked:
            await together(unknown, plans)
        return len(asked)

    assert await searches(2) == await searches(5)


async def test_one_question_for_several_finds_whose_consent_has_ended(unknown: Chart) -> None:
    await begin(unknown)
    await unknown.consent("keyworking", status="inactive")
    await unknown.write({"resourceType": "Patient", "id": "other"})
    plans = [plan(1, subject={"reference": "Patient/other"}), plan(2)]
    refused = await together(unknown, plans)
    assert refused.status_code == 422
    assert "CarePlan/plan-2" in refused.text
    assert "CarePlan/plan-1" not in refused.text


async def test_what_there_is_nothing_of_is_not_searched_for(unknown: Chart) -> None:
    with monitored() as asked:
        await unknown.tell(Spell(unknown.nhs_number, NOW).admit())
    # The spell, and the NHS number: of the message, and for another record that has it.
    assert asked == ["Encounter", "Patient", "Patient"]


@contextmanager
def monitored() -> Iterator[list[str]]:
    """The types that rules search in meanwhile."""
    asked: list[str] = []
    search = SessionUnit.search

    async def noted(unit: SessionUnit, query: Any, *more: Any) -> Page:
        asked.append(query.resource_type)
        return await search(unit, query, *more)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(SessionUnit, "search", noted)
        yield asked


async def together(chart: Chart, resources: list[JSON]) -> httpx.Response:
    entries = [
        {"resource": one, "request": {"method": "PUT", "url": f"CarePlan/{one['id']}"}}
        for one in resources
    ]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    return await chart.client.post("", **body(bundle))
