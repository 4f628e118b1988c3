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
