"""A stay that is told by plain writes comes to what it comes to by messages.

The oracle is the same course, told by `$process-message`: what was stored of the Encounter after
each message is written plainly on a server of its own.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import httpx
import pytest

from fhir_server.app import create_app
from fhir_server.settings import Settings
from tests.operations.chart import Chart
from tests.operations.courses import ADMITTED, course
from tests.operations.messages import JSON, Spell
from tests.operations.test_any_order import state_of
from tests.stores import store_at
from tests.support import body

Way = Callable[[Chart, JSON], Awaitable[None]]
_OF_THE_SERVER: Final = ("meta", "text")


async def _by_put(chart: Chart, stay: JSON) -> None:
    await chart.write(stay)


async def _by_transaction(chart: Chart, stay: JSON) -> None:
    request = {"method": "PUT", "url": f"Encounter/{stay['id']}"}
    entry = [{"request": request, "resource": stay}]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entry}
    answer = await chart.client.post("", **body(bundle))
    assert answer.status_code == 200, answer.text


async def _by_patch(chart: Chart, stay: JSON) -> None:
    known = await chart.client.get(f"Encounter/{stay['id']}")
    if known.status_code == 404:
        await chart.write(stay)
        return
    before = known.json()
    patch: list[JSON] = [
        {"op": "add", "path": f"/{name}", "value": value}
        for name, value in stay.items()
        if before.get(name) != value
    ]
    gone = before.keys() - stay.keys() - {*_OF_THE_SERVER}
    patch += [{"op": "remove", "path": f"/{name}"} for name in sorted(gone)]
    if patch:
        headers = {"content-type": "application/json-patch+json"}
        answer = await chart.client.patch(f"Encounter/{stay['id']}", json=patch, headers=headers)
        assert answer.status_code == 200, answer.text


ADMISSION, HOME, REOPENED, HOME_AGAIN, UNDONE = 1, 9, 10, 12, 15
COURSES: Final = {
    "pre-admission, transfers, leave, a discharge that was cancelled": [
        *(0, ADMISSION, 3, 4, 5, 6, 7, HOME, REOPENED, HOME_AGAIN),
    ],
    "pre-admission that was cancelled": [0, UNDONE],
    "admission that was cancelled": [ADMISSION, UNDONE],
    "discharged from leave, all of it cancelled": [ADMISSION, 6, HOME, UNDONE],
    "to another hospital after all": [ADMISSION, HOME_AGAIN, 13],
    "died after all": [ADMISSION, HOME_AGAIN, 14],
}


@pytest.mark.parametrize("name", COURSES)
async def test_plain_writes_come_to_what_messages_come_to(name: str) -> None:
    await _require_alike(COURSES[name], _by_put)


@pytest.mark.parametrize("way", [_by_transaction, _by_patch])
async def test_so_do_transactions_and_patches(way: Way) -> None:
    await _require_alike([ADMISSION, 6, HOME, REOPENED, UNDONE], way)


async def _require_alike(order: Sequence[int], way: Way) -> None:
    async with _record() as told, _record() as written:
        sent = course(Spell(told.nhs_number, ADMITTED, "spell"))
        for index in order:
            await told.tell(sent[index])
            stay = await told.stay()
            kept = {name: one for name, one in stay.items() if name not in _OF_THE_SERVER}
            await way(written, kept)
            assert await _state(written) == await _state(told), index


async def _state(chart: Chart) -> JSON:
    found = await state_of(chart)
    for flag in found["Flag"]:
        flag.pop("author")  # who sends the message, or serves the stay
    return found


@asynccontextmanager
async def _record() -> AsyncIterator[Chart]:
    with TemporaryDirectory() as folder:
        own = Settings(store=store_at(Path(folder) / "own.db"), auth="none", scheduler=False)
        app = create_app(own)
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url=own.base + "/") as client:
                chart = Chart(client, app.state.store)
                await chart.open()
                yield chart
