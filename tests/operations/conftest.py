"""A record on a real server, whose every stored version is checked at the end."""

from collections.abc import AsyncIterator
from datetime import datetime

import httpx
import pytest

from fhir_server.app import create_app
from fhir_server.fhir.dates import LOCAL
from fhir_server.settings import Settings
from fhir_server.storage.interface import Store
from tests.operations.chart import Chart, require_sound, require_typed
from tests.operations.timing import TODAY


@pytest.fixture(autouse=True)
def _the_day_is_still_the_same() -> None:
    """Tests reckon from the day on which they were read; the server from the one that it is."""
    if datetime.now(LOCAL).date() != TODAY:
        pytest.skip("a day has begun since the tests were read")


@pytest.fixture
async def unknown(client: httpx.AsyncClient, store: Store) -> AsyncIterator[Chart]:
    """Of somebody whom the server does not know yet."""
    yield Chart(client, store)
    await require_typed(store)
    await require_sound(store)


@pytest.fixture
async def older(unknown: Chart, settings: Settings) -> AsyncIterator[Chart]:
    """The same record, written as before the profiles: what is given here need not fit them."""
    app = create_app(settings.model_copy(update={"keyworking_profiles": False}))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url=settings.base + "/") as client:
            yield Chart(client, unknown.store)


@pytest.fixture
async def chart(unknown: Chart) -> Chart:
    """Of somebody on the register at amber, with an active plan."""
    await unknown.open()
    return unknown
