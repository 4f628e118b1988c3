"""The one clock of the server, and moving it on."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from fhir_server.app import create_app
from fhir_server.fhir.dates import interval
from fhir_server.settings import Settings
from fhir_server.storage.clock import MovableClock, system_clock
from tests.support import body

DAY = 24 * 3600 * 1_000_000


def test_it_is_the_system_s_until_it_is_moved(tmp_path: Path) -> None:
    clock = MovableClock(tmp_path / "clock")
    assert abs(clock() - system_clock()) < DAY // 24
    clock.move_by(3 * DAY)
    assert 3 * DAY <= clock() - system_clock() + 1_000_000 < 4 * DAY


def test_whoever_goes_by_the_same_file_follows(tmp_path: Path) -> None:
    there = datetime.now(UTC) + timedelta(days=400)
    MovableClock(tmp_path / "clock").move_to(there)
    ahead = MovableClock(tmp_path / "clock")() - round(there.timestamp() * 1_000_000)
    assert 0 <= ahead < 60_000_000


def test_it_does_not_go_back(tmp_path: Path) -> None:
    clock = MovableClock(tmp_path / "clock")
    clock.move_by(DAY)
    with pytest.raises(ValueError, match="does not go back"):
        clock.move_to(datetime.now(UTC))
    with pytest.raises(ValueError, match="no time zone"):
        clock.move_to(datetime(2031, 1, 1))  # noqa: DTZ001


def test_it_is_refused_with_tokens(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="movable_clock is for auth 'none' alone"):
        Settings(auth=None, movable_clock=tmp_path / "clock")


async def test_versions_and_due_dates_go_by_it(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "clock"
    app = create_app(settings.model_copy(update={"movable_clock": path}))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url=settings.base + "/") as client:
            MovableClock(path).move_by(500 * DAY)
            basic = {"resourceType": "Basic", "code": {"text": "later"}}
            answer = await client.post("Basic", **body(basic))
    updated = interval(answer.json()["meta"]["lastUpdated"]).low
    assert 499 * DAY < updated - system_clock() < 501 * DAY
