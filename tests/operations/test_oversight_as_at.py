"""$oversight-report about a time that is over: as it was, whenever it is asked for"""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from fhir_server.app import create_app
from fhir_server.fhir import canonicals
from fhir_server.settings import Settings
from fhir_server.storage.clock import MovableClock
from tests.operations.chart import Chart, concept, ended
from tests.operations.messages import JSON
from tests.operations.overseeing import counts, groups_of, report, reported, strata, task
from tests.operations.timing import NOW, TODAY, days_ago, involve

DAY: Final = 24 * 3600 * 1_000_000


@pytest.fixture
def clock(tmp_path: Path) -> MovableClock:
    return MovableClock(tmp_path / "clock")


@pytest.fixture
async def older(settings: Settings, tmp_path: Path) -> AsyncIterator[Chart]:
    """A record on a server whose clock can be moved, and to which nothing is small."""
    given = {"keyworking_profiles": False, "small_number": 0, "scheduler": False}
    app = create_app(settings.model_copy(update=given | {"movable_clock": tmp_path / "clock"}))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url=settings.base + "/") as client:
            yield Chart(client, app.state.store)


async def _goal(chart: Chart, achieved: str) -> None:
    status = concept(canonicals.GOAL_ACHIEVEMENT, achieved)
    goal = {"resourceType": "Goal", "id": "goal", "lifecycleStatus": "active"}
    told = {"description": {"text": "School"}, "startDate": days_ago(30)}
    subject = {"reference": chart.patient}
    await chart.write({**goal, **told, "subject": subject, "achievementStatus": status})


async def _todo(chart: Chart, **elements: Any) -> None:
    todo = task("T-FU-72", "todo", "requested", authoredOn=days_ago(20))
    due = {"period": {"end": days_ago(10)}}
    told = {"for": {"reference": chart.patient}, "restriction": due}
    await chart.write({**todo, **told, **elements})


async def _as_begun(chart: Chart) -> None:
    """Somebody with an involvement, a consent, a Goal and a Task that is overdue."""
    await chart.write({"resourceType": "Patient", "id": "young-person", "birthDate": "2010-05-14"})
    await chart.write({"resourceType": "PractitionerRole", "id": "keyworker"})
    await involve(chart, "plan-active")
    await chart.consent("keyworking")
    await chart.rate("amber", "2026-01-05")
    await _goal(chart, "in-progress")
    await _todo(chart)


async def _yesterday(chart: Chart) -> JSON:
    """The report about the time until the end of the day on which the record was begun."""
    return await reported(chart.client, f"start=2026-01-01&end={TODAY.isoformat()}")


async def test_a_report_about_what_is_over_is_the_same_later(
    older: Chart, clock: MovableClock
) -> None:
    await _as_begun(older)
    clock.move_by(2 * DAY)
    before = await _yesterday(older)
    later = (NOW + timedelta(days=1, hours=12)).isoformat()
    await involve(older, "step-down", careManager={"reference": "PractitionerRole/other"})
    await _goal(older, "achieved")
    await _todo(older, status="completed", executionPeriod={"end": later})
    over = {"period": {"start": "2026-01-05", "end": later}, "status": "inactive"}
    await older.rate("amber", "2026-01-05", **(ended(later) | over))
    await older.consent("keyworking", status="inactive")
    clock.move_by(40 * DAY)
    after = await _yesterday(older)
    assert after["group"] == before["group"]
    groups = groups_of(after)
    assert strata(groups["episodes"], "state") == {"plan-active": 1}
    assert strata(groups["episodes"], "rating") == {"amber": 1}
    assert strata(groups["consents"], "status") == {"active": 1}
    assert strata(groups["goals"], "achievement") == {"in-progress": 1}
    assert strata(groups["tasks-overdue"], "task")["T-FU-72"] == 1
    now = await report(older.client, f"start=2026-01-01&end={clock_day(clock)}")
    assert strata(now["episodes"], "state") == {"step-down": 1}
    assert strata(now["goals"], "achievement") == {"achieved": 1}


ETHNIC: Final = "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-EthnicCategory"


async def _who(chart: Chart, area: str, need: str, ethnicity: str, **elements: Any) -> None:
    """Who the young person is by now, and where."""
    code = {"coding": [{"system": "https://fhir.hl7.org.uk/CodeSystem/E", "code": ethnicity}]}
    person = {"resourceType": "Patient", "id": "young-person", "birthDate": "2010-05-14"}
    told = {"extension": [{"url": ETHNIC, "valueCodeableConcept": code}], **elements}
    managed = {"managingOrganization": {"reference": f"Organization/{area}"}}
    await chart.write({**person, **told, **managed})
    condition = {"resourceType": "Condition", "id": "need", "code": {"text": need}}
    await chart.write({**condition, "subject": {"reference": chart.patient}})


async def _of_area(chart: Chart, area: str, last: str) -> JSON:
    """Involvements of that area, by what they are counted by."""
    query = f"start=2026-01-01&end={last}&area=Organization/{area}"
    groups = await report(chart.client, query)
    if "episodes" not in groups:
        return {}
    by = ("area", "sex", "ethnicity", "need")
    return {name: [*strata(groups["episodes"], name)] for name in by}


async def test_who_somebody_was_and_where_counts_as_at_the_end(
    older: Chart, clock: MovableClock
) -> None:
    for area in ("north", "south"):
        await older.write({"resourceType": "Organization", "id": area, "name": area})
    await older.write({"resourceType": "PractitionerRole", "id": "keyworker"})
    await _who(older, "north", "Learning disability", "A", gender="female")
    await involve(older)
    last, then = TODAY.isoformat(), ["Organization/north", "female", "A", "learning-disability"]
    clock.move_by(2 * DAY)
    assert [*(await _of_area(older, "north", last)).values()] == [[one] for one in then]
    await _who(older, "south", "Autism", "Z", gender="other")
    clock.move_by(DAY)
    assert [*(await _of_area(older, "north", last)).values()] == [[one] for one in then]
    assert await _of_area(older, "south", last) == {}
    now = ["Organization/south", "other", "Z", "autism"]
    assert [*(await _of_area(older, "south", clock_day(clock))).values()] == [[one] for one in now]
    assert await _of_area(older, "north", clock_day(clock)) == {}


async def test_a_need_that_was_found_later_is_not_recorded_before(
    older: Chart, clock: MovableClock
) -> None:
    await older.write({"resourceType": "PractitionerRole", "id": "keyworker"})
    await older.write({"resourceType": "Patient", "id": "young-person", "birthDate": "2010-05-14"})
    await involve(older)
    clock.move_by(2 * DAY)
    condition = {"resourceType": "Condition", "id": "need", "code": {"text": "Autism"}}
    told = {**condition, "subject": {"reference": older.patient}}
    await older.write(told)
    assert strata(groups_of(await _yesterday(older))["episodes"], "need") == {"not-recorded": 1}
    await older.write({**told, "id": "known", "recordedDate": days_ago(20)})
    assert strata(groups_of(await _yesterday(older))["episodes"], "need") == {"autism": 1}


def clock_day(clock: MovableClock) -> str:
    return datetime.fromtimestamp(clock() / 1_000_000, NOW.tzinfo).date().isoformat()


async def test_what_happened_in_the_period_counts_however_late_it_is_told(
    older: Chart, clock: MovableClock
) -> None:
    await _as_begun(older)
    clock.move_by(2 * DAY)
    assert counts(groups_of(await _yesterday(older))["in-time-T-FU-72"]) == [0, 1]
    await _todo(older, status="completed", executionPeriod={"end": days_ago(12)})
    await older.rate("red", days_ago(3))
    groups = groups_of(await _yesterday(older))
    assert counts(groups["in-time-T-FU-72"]) == [1, 1]
    assert "T-FU-72" not in strata(groups["tasks-overdue"], "task")
    assert strata(groups["episodes"], "rating") == {"red": 1}
