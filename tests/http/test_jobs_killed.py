"""SIGKILL in the middle of jobs, and several processes on one store: each step happens once.

https://hl7.org/fhir/R4/async.html promises a result at the address; this is what keeps it.
"""

import asyncio
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.jobs import LATER, finished, kicked_off, lines, until, with_body
from tests.stores import fewer
from tests.support import ServerProcess, body, opened, stored_versions

LEASE: Final = 1.0
NDJSON: Final = {"content-type": "application/fhir+ndjson"}
LINES: Final = 3000


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[list[ServerProcess]]:
    """Two on one store, which are not started yet."""
    found = [
        ServerProcess(
            tmp_path / "jobs.db", tmp_path / f"{name}.log", KEYWORKING_JOB_LEASE=str(LEASE)
        )
        for name in ("one", "two")
    ]
    try:
        yield found
    finally:
        for process in found:
            process.stop()


def _client(server: ServerProcess) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=server.base + "/", timeout=120)


def _patients(count: int) -> bytes:
    return b"".join(
        b'{"resourceType":"Patient","identifier":[{"value":"%d"}]}\n' % number
        for number in range(count)
    )


async def _progressed(client: httpx.AsyncClient, address: str) -> bool:
    response = await client.get(address)
    return " of " in response.headers.get("x-progress", " of ")


async def _progress(client: httpx.AsyncClient, address: str) -> str:
    return str((await client.get(address)).headers.get("x-progress", ""))


async def _has_moved(client: httpx.AsyncClient, address: str, before: str) -> bool:
    return await _progress(client, address) != before


async def _start_import(client: httpx.AsyncClient) -> str:
    content = _patients(LINES)
    address = await kicked_off(client, "POST", "$import", content=content, headers=NDJSON)
    await until(lambda: _progressed(client, address))
    return address


async def _require_each_line_once(path: Path) -> None:
    store = await opened(path)
    try:
        versions = await stored_versions(store)
        assert {version.version for version in versions} == {1}
        assert len(versions) == len({version.id for version in versions}) == LINES
    finally:
        await store.close()


async def test_a_killed_import_goes_on_where_it_was(
    processes: list[ServerProcess], tmp_path: Path
) -> None:
    server = processes[0]
    await asyncio.to_thread(server.start)
    async with _client(server) as client:
        address = await _start_import(client)
        for _ in range(2):
            before = await _progress(client, address)
            assert " of 3000 lines" in before, "killed in the middle"
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
            await until(partial(_has_moved, client, address, before))
        manifest = (await finished(client, address)).json()
    assert [*manifest["extension"].values()] == [
        {"created": LINES, "updated": 0, "unchanged": 0, "refused": 0}
    ]
    await asyncio.to_thread(server.stop)
    await _require_each_line_once(tmp_path / "jobs.db")


async def test_another_process_takes_the_job_of_one_that_was_killed(
    processes: list[ServerProcess], tmp_path: Path
) -> None:
    first, second = processes
    await asyncio.to_thread(first.start)
    await asyncio.to_thread(second.start)
    async with _client(first) as client, _client(second) as other:
        address = await _start_import(client)
        await asyncio.to_thread(first.kill)
        address = address.replace(first.base, second.base)
        await finished(other, address)
    await asyncio.to_thread(second.stop)
    await _require_each_line_once(tmp_path / "jobs.db")


async def test_a_killed_batch_repeats_no_entry_and_an_export_no_resource(
    processes: list[ServerProcess],
) -> None:
    server, count = processes[0], fewer(1000, 10)
    await asyncio.to_thread(server.start)
    entry = {
        "resource": {"resourceType": "Patient", "active": True},
        "request": {"method": "POST", "url": "Patient"},
    }
    batch: Any = {"resourceType": "Bundle", "type": "batch", "entry": [entry] * count}
    async with _client(server) as client:
        address = await kicked_off(client, "POST", "", **with_body(batch))
        await until(lambda: _progressed(client, address))
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        answered = (await finished(client, address)).json()
        assert {one["response"]["status"] for one in answered["entry"]} == {"201 Created"}
        locations = [one["response"]["location"] for one in answered["entry"]]
        assert len(set(locations)) == count
        export = await kicked_off(client, "GET", "$export")
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        manifest = (await finished(client, export)).json()
        exported = await lines(client, manifest["output"])
    found = sorted(f"Patient/{one['id']}/_history/1" for one in exported)
    assert found == sorted(locations)


async def test_two_processes_do_not_run_a_job_twice(
    processes: list[ServerProcess], tmp_path: Path
) -> None:
    jobs = fewer(16, 4)
    for process in processes:
        await asyncio.to_thread(process.start)
    entry = {
        "resource": {"resourceType": "Patient", "active": True},
        "request": {"method": "POST", "url": "Patient"},
    }
    bundle = body({"resourceType": "Bundle", "type": "batch", "entry": [entry] * 20})
    bundle["headers"] |= LATER
    async with _client(processes[0]) as one, _client(processes[1]) as two:
        sent = [(one, two)[number % 2].post("", **bundle) for number in range(jobs)]
        accepted = await asyncio.gather(*sent)
        addresses = [
            response.headers["content-location"].replace(processes[1].base, processes[0].base)
            for response in accepted
        ]
        answers = await asyncio.gather(*(finished(one, address) for address in addresses))
    locations = [
        entry["response"]["location"] for answer in answers for entry in answer.json()["entry"]
    ]
    assert len(set(locations)) == jobs * 20
    for process in processes:
        await asyncio.to_thread(process.stop)
    store = await opened(tmp_path / "jobs.db")
    assert len(await stored_versions(store)) == jobs * 20
    await store.close()
