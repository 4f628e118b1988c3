"""One request that has much to look at does not keep all others waiting."""

import asyncio
import time

import httpx

from fhir_server.settings import Settings
from tests.http.serving import served
from tests.support import put

_MANY = 30_000
_SHARE = 0.6
"""Of the time that the request takes, the longest that others may wait at a stretch."""


async def _longest_wait(client: httpx.AsyncClient, address: str) -> tuple[float, float]:
    """Seconds for which the loop did not turn while that was answered, and for the answer."""
    longest, ended = 0.0, asyncio.Event()

    async def watch() -> None:
        nonlocal longest
        while not ended.is_set():
            before = time.perf_counter()
            await asyncio.sleep(0)
            longest = max(longest, time.perf_counter() - before)

    watching = asyncio.create_task(watch())
    begun = time.perf_counter()
    answer = await client.get(address)
    taken = time.perf_counter() - begun
    ended.set()
    await watching
    assert answer.status_code == 200, answer.text
    return longest, taken


async def test_references_that_lead_nowhere_are_looked_up_with_pauses(settings: Settings) -> None:
    entries = [{"item": {"reference": f"Patient/x{number}"}} for number in range(_MANY)]
    many = {"resourceType": "List", "id": "l", "status": "current", "mode": "working"}
    async with served(settings, max_body=16 * 1024 * 1024) as client:
        await put(client, {**many, "entry": entries})
        longest, taken = await _longest_wait(client, "List?_include=List:item")
        assert longest < _SHARE * taken, (longest, taken)


async def test_a_large_code_system_is_read_beside_the_others(settings: Settings) -> None:
    concepts = [{"code": f"c{number}"} for number in range(_MANY)]
    system = {"resourceType": "CodeSystem", "id": "s", "url": "urn:big", "status": "active"}
    async with served(settings, max_body=16 * 1024 * 1024) as client:
        await put(client, {**system, "content": "complete", "concept": concepts})
        longest, taken = await _longest_wait(client, "Observation?code:below=urn:big|c7")
        assert longest < _SHARE * taken, (longest, taken)
