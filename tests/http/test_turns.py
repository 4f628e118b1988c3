"""One request that has much to look at does not keep all others waiting."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from fhir_server.access.policy import Caller, OpenPolicy
from fhir_server.access.session import Session, SessionUnit
from fhir_server.fhir.json import Resource
from fhir_server.jobs import desk
from fhir_server.jobs.record import FILES
from fhir_server.settings import Settings
from fhir_server.storage.interface import Store
from fhir_server.terminology import service
from fhir_server.terminology.systems import CodeSystem, code_system
from tests.http.serving import served
from tests.support import put


async def _turns(client: httpx.AsyncClient, address: str) -> int:
    """How often others had their turn while that was answered."""
    turns, ended = 0, asyncio.Event()

    async def watch() -> None:
        nonlocal turns
        while not ended.is_set():
            await asyncio.sleep(0)
            turns += 1

    watching = asyncio.create_task(watch())
    answer = await client.get(address)
    ended.set()
    await watching
    assert answer.status_code == 200, answer.text
    return turns


async def test_references_that_lead_nowhere_are_looked_up_with_pauses(settings: Settings) -> None:
    entries = [{"item": {"reference": f"Patient/x{number}"}} for number in range(6400)]
    many = {"resourceType": "List", "id": "l", "status": "current", "mode": "working"}
    async with served(settings, max_body=16 * 1024 * 1024) as client:
        await put(client, {**many, "entry": entries})
        alone = await _turns(client, "List?_id=l")
        assert await _turns(client, "List?_id=l&_include=List:item") > alone + 90


async def test_a_code_system_is_read_beside_the_others(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []

    def noted(resource: Resource) -> CodeSystem:
        threads.append(threading.get_ident())
        return code_system(resource)

    monkeypatch.setattr(service, "code_system", noted)
    system = {"resourceType": "CodeSystem", "id": "s", "url": "urn:big", "status": "active"}
    await put(client, {**system, "content": "complete", "concept": [{"code": "a"}]})
    assert (await client.get("Observation?code:below=urn:big|a")).status_code == 200
    assert threads
    assert threading.get_ident() not in threads


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
