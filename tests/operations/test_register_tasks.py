"""What runs on without keyworking is the register's while there is no keyworker."""

from collections.abc import AsyncIterator
from typing import Final

import httpx
import pytest

from fhir_server.app import create_app
from fhir_server.fhir import canonicals
from fhir_server.settings import Settings
from tests.operations.chart import KEYWORKER, Chart, code_of
from tests.operations.messages import JSON
from tests.operations.test_pathway import episode, operate
from tests.support import body

KEEPER: Final = {"identifier": {"system": canonicals.ODS_ORGANIZATION, "value": "ZZK09"}}
OTHER: Final = {"reference": "PractitionerRole/other"}
REVIEW: Final = "T-REVIEW-AMBER"


@pytest.fixture
async def kept(unknown: Chart, settings: Settings) -> AsyncIterator[Chart]:
    """Of somebody with a keyworker, at a server that knows who keeps the register."""
    app = create_app(settings.model_copy(update={"register_organisation": "ZZK09"}))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url=settings.base + "/") as client:
            chart = Chart(client, unknown.store)
            await chart.open()
            yield chart


async def reviews(chart: Chart) -> list[JSON]:
    """Those of the rating that are asked for."""
    tasks = await chart.all("Task")
    return [one for one in tasks if code_of(one["code"]) == REVIEW and one["status"] == "requested"]


async def _moves_away(chart: Chart) -> None:
    answer = await operate(chart, "close", reason="moved-away", end_tasks=True, end_goals=True)
    assert answer.status_code == 200, answer.text


async def test_goes_to_the_keeper_with_the_end_and_to_the_next_keyworker(kept: Chart) -> None:
    assert [one["owner"] for one in await reviews(kept)] == [KEYWORKER]
    await _moves_away(kept)
    assert [one["owner"] for one in await reviews(kept)] == [KEEPER]
    over = await episode(kept)
    again = {name: over[name] for name in ("resourceType", "type", "patient")}
    state = {"url": canonicals.PATHWAY_STATE_EXTENSION, "valueCode": "awaiting-allocation"}
    begun = {"managingOrganization": over["managingOrganization"], "extension": [state]}
    begun |= {"id": "again", "status": "waitlist", "period": {"start": "2026-11-01"}}
    await kept.write({**again, **begun})
    await kept.consent("keyworking", id="consent-again")
    await kept.write({"resourceType": "PractitionerRole", "id": "other"})
    given = {"parameter": [{"name": "keyworker", "valueReference": OTHER}]}
    asked = body({"resourceType": "Parameters", **given})
    answer = await kept.client.post("EpisodeOfCare/again/$allocate", **asked)
    assert answer.status_code == 200, answer.text
    assert [one["owner"] for one in await reviews(kept)] == [OTHER]


async def test_is_nobodys_where_no_keeper_is_set(chart: Chart) -> None:
    await _moves_away(chart)
    assert ["owner" in one for one in await reviews(chart)] == [False]


async def test_what_is_asked_for_later_is_the_keepers(kept: Chart) -> None:
    await _moves_away(kept)
    await kept.rate("green", "2026-11-20")
    (green,) = [one for one in await kept.all("Task") if code_of(one["code"]) == "T-REVIEW-GREEN"]
    assert green["owner"] == KEEPER
