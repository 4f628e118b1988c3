"""What is left of a request that was refused."""

import gc

import httpx

from fhir_server.http.messages import HttpRequest
from tests.stores import sqlite_alone
from tests.support import FHIR_JSON

pytestmark = sqlite_alone
_BROKEN = b'{"resourceType":"Patient","nothing":1}'
_STALE = b'{"resourceType":"Patient","id":"a"}'


async def _refused(client: httpx.AsyncClient) -> None:
    stale = {**FHIR_JSON, "if-match": 'W/"7"'}
    answers = (
        await client.get("Nothing/1"),
        await client.get("Patient?nothing=1"),
        await client.post("Patient", content=_BROKEN, headers=FHIR_JSON),
        await client.put("Patient/a", content=_STALE, headers=stale),
    )
    assert all(400 <= each.status_code < 500 for each in answers)


async def test_it_is_not_kept_until_somebody_collects_garbage(client: httpx.AsyncClient) -> None:
    def requests() -> int:
        return sum(type(each) is HttpRequest for each in gc.get_objects())

    await _refused(client)
    gc.collect()
    gc.disable()
    try:
        before = requests()
        await _refused(client)
        assert requests() <= before
    finally:
        gc.enable()
