"""One request that has much to look at does not keep all others waiting."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from fhir_server.access.policy import Caller, OpenPolicy
from fhir_server.access.session import Session, SessionUnit
from fhir_server.jobs import desk
from fhir_server.jobs.record import FILES
from fhir_server.settings import Settings
from fhir_server.storage.interface import Store
from tests.http.serving import served
from tests.support import put

_MANY = 30_000
_SHARE = 0.6
"""Of the time that the request takes, the longest that others may wait at a stretch."""


async def _longest_wait(work: Awaitable[Any]) -> tuple[float, float]:
    """Seconds for which the loop did not turn during that work, and for all of it."""
    longest, ended = 0.0, asyncio.Event()

    async def watch() -> None:
        nonlocal longest
        while not ended.is_set():
            before = time.perf_counter()
            await asyncio.sleep(0)
            longest = max(longest, time.perf_counter() - before)

    watching = asyncio.create_task(watch())
    begun = time.perf_counter()
    await work
    taken = time.perf_counter() - begun
    ended.set()
    await watching
    return longest, taken


async def _found(client: httpx.AsyncClient, address: str) -> None:
    answer = await client.get(address)
    assert answer.status_code == 200, answer.text


async def test_references_that_lead_nowhere_are_looked_up_with_pauses(settings: Settings) -> None:
    entries = [{"item": {"reference": f"Patient/x{number}"}} for number in range(_MANY)]
    many = {"resourceType": "List", "id": "l", "status": "current", "mode": "working"}
    async with served(settings, max_body=16 * 1024 * 1024) as client:
        await put(client, {**many, "entry": entries})
        longest, taken = await _longest_wait(_found(client, "List?_include=List:item"))
        assert longest < _SHARE * taken, (longest, taken)


async def test_a_large_code_system_is_read_beside_the_others(settings: Settings) -> None:
    concepts = [{"code": f"c{number}"} for number in range(_MANY)]
    system = {"resourceType": "CodeSystem", "id": "s", "url": "urn:big", "status": "active"}
    async with served(settings, max_body=16 * 1024 * 1024) as client:
        await put(client, {**system, "content": "complete", "concept": concepts})
        longest, taken = await _longest_wait(_found(client, "Observation?code:below=urn:big|c7"))
        assert longest < _SHARE * taken, (longest, taken)


class _Counting(Session):
    """A session that counts its commits: between two of them, others have their turn."""

    commits = 0

    async def commit(self, action: str, work: Callable[[SessionUnit], Awaitable[Any]]) -> Any:
        self.commits += 1
        return await super().commit(action, work)


async def test_a_job_with_many_files_is_forgotten_a_few_at_a_time(store: Store) -> None:
    session = _Counting(store, Caller("nurse"), OpenPolicy())
    job = desk.Desk().new(session, "test")

    async def fill(unit: SessionUnit) -> None:
        await unit.keep(job.memo())
        for number in range(32):
            await unit.keep(job.file(f"input/{number:06}", b"x"))

    await session.commit("job", fill)
    session.commits = 0
    await desk.forget(session, job.id)
    assert session.commits > 4
    assert not await session.memos(FILES, job.id)
