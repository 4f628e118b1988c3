"""Patient/$timeline"""

from datetime import datetime

import pytest

from fhir_server.access.policy import OpenPolicy
from fhir_server.search.ast import Everything, Node, Nothing
from fhir_server.storage.interface import Store
from tests.conftest import Restrict
from tests.operations.asking import counted, got, named, parts
from tests.operations.chart import Chart
from tests.operations.messages import JSON, Spell
from tests.operations.parameters import definition, problems
from tests.support import assert_outcome

ADMITTED = datetime.fromisoformat("2026-06-03T19:40:00+01:00")


async def told(chart: Chart, query: str = "") -> list[str]:
    answer = await got(chart.client, f"{chart.patient}/$timeline?{query}")
    assert problems(answer, definition("timeline.json")) == []
    return lines(answer)


def lines(answer: JSON) -> list[str]:
    found = [parts(one) for one in named(answer, "event")]
    return [f"{one['time']} {one['what']} {one['resource']['reference']}" for one in found]


async def test_tells_what_happened_in_order(chart: Chart) -> None:
    found = await told(chart)
    assert "2026-01-05 rated Flag/amber-2026-01-05" in found
    assert "2026-01-05 consent Consent/consent-register" in found
    assert "2026-01-05 keyworking-began EpisodeOfCare/involvement" in found
    assert "2026-01-05 plan-began CarePlan/plan" in found
    # What the timers have asked for was opened just now.
    before = [line for line in found if line.split()[1] != "task-opened"]
    assert before[-1] == "2026-01-12 goal-set Goal/goal"
    assert [line[:10] for line in found] == sorted(line[:10] for line in found)


async def test_a_stay_is_told_with_its_ratings_and_tasks(chart: Chart) -> None:
    await chart.tell(Spell(chart.nhs_number, ADMITTED).admit())
    found = await told(chart, "start=2026-06-03&end=2026-06-03")
    whats = [line.split()[1] for line in found]
    assert {"admitted", "rated", "rating-ended", "plan-began"} <= set(whats)
    assert "goal-set" not in whats


async def test_a_flag_that_rates_nobody_is_told_by_what_it_says(chart: Chart) -> None:
    said = {"code": {"text": "Speaks by signs"}, "category": [{"text": "Adjustment"}]}
    await chart.write(
        {
            "resourceType": "Flag",
            "id": "adjustment",
            "status": "active",
            "subject": {"reference": chart.patient},
            "period": {"start": "2026-01-20"},
            **said,
        }
    )
    answer = await got(chart.client, f"{chart.patient}/$timeline?start=2026-01-20&end=2026-01-20")
    assert [parts(one)["text"] for one in named(answer, "event")] == ["Flag: Speaks by signs"]


async def test_the_newest_first(chart: Chart) -> None:
    assert await told(chart, "_sort=-date") == (await told(chart))[::-1]


@pytest.mark.parametrize("sort", ["date", "-date"])
async def test_pages_hold_each_event_once(chart: Chart, sort: str) -> None:
    found, address = list[str](), f"{chart.patient}/$timeline?_count=1&_sort={sort}"
    while address:
        answer = await got(chart.client, address)
        found += lines(answer)
        address = next((one["valueUrl"] for one in named(answer, "next")), "")
    assert found == await told(chart, f"_sort={sort}")


async def test_what_never_was_is_not_told(chart: Chart) -> None:
    await chart.rate("green", "2026-01-02", status="entered-in-error")
    assert not [line for line in await told(chart) if "green" in line]


async def test_holds_only_what_the_caller_may_read(chart: Chart, restrict: Restrict) -> None:
    class Without(OpenPolicy):
        def readable(self, resource_type: str) -> Node:
            return Nothing() if resource_type == "Goal" else Everything()

    restrict(Without())
    assert not [line for line in await told(chart) if "Goal" in line]


async def test_asks_one_question_a_type(
    chart: Chart, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with counted(store, monkeypatch) as questions:
        await told(chart)
    assert len(questions) == len(set(questions)) == 10


@pytest.mark.parametrize(
    ("query", "place"),
    [("_sort=name", "http._sort"), ("_count=0", "http._count")],
)
async def test_what_cannot_be_is_refused(chart: Chart, query: str, place: str) -> None:
    answer = await chart.client.get(f"{chart.patient}/$timeline?{query}")
    assert_outcome(answer, 400, "invalid", "", expression=place)


async def test_a_period_that_ends_before_it_begins_is_refused(chart: Chart) -> None:
    address = f"{chart.patient}/$timeline?start=2026-02-01&end=2026-01-01"
    assert_outcome(await chart.client.get(address), 400, "invalid", "before", expression="http.end")


async def test_of_nobody_is_not_found(chart: Chart) -> None:
    answer = await chart.client.get("Patient/x/$timeline")
    assert_outcome(answer, 404, "not-found", "not known")
