"""One request that has much to look at does not keep all others waiting."""

import asyncio
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from fhir_server.access.guarded import GuardedReader
from fhir_server.access.policy import Caller, OpenPolicy
from fhir_server.access.session import Session, SessionUnit
from fhir_server.fhir.json import Resource
from fhir_server.jobs import desk
from fhir_server.jobs.record import FILES
from fhir_server.storage.interface import Store
from fhir_server.terminology import held
from fhir_server.terminology.systems import CodeSystem, code_system
from tests.support import put


async def test_references_that_lead_nowhere_are_looked_up_with_pauses(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn = 0
    reads: Counter[int] = Counter()
    read = GuardedReader.read

    async def counted(session: GuardedReader, resource_type: str, resource_id: str) -> Any:
        reads[turn] += 1
        return await read(session, resource_type, resource_id)

    async def watch() -> None:
        nonlocal turn
        while True:
            await asyncio.sleep(0)
            turn += 1

    entries = [{"item": {"reference": f"Patient/x{number}"}} for number in range(1000)]
    many = {"resourceType": "List", "id": "l", "status": "current", "mode": "working"}
    await put(client, {**many, "entry": entries})
    monkeypatch.setattr(GuardedReader, "read", counted)
    watching = asyncio.create_task(watch())
    await asyncio.sleep(0)
    assert (await client.get("List?_include=List:item")).status_code == 200
    watching.cancel()
    assert reads.total() == 1000
    assert max(reads.values()) < 100


async def test_a_code_system_is_read_beside_the_others(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []

    def noted(resource: Resource) -> CodeSystem:
        threads.append(threading.get_ident())
        return code_system(resource)

    monkeypatch.setattr(held, "code_system", noted)
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
