"""A server in its own process while its MongoDB is dead, hangs, or cannot be reached.

503 with Retry-After (https://www.rfc-editor.org/rfc/rfc9110#section-15.6.4) while it lasts, nothing
that was acknowledged is lost, and no restart afterwards; `/health/live` is 200 all the time.
"""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.cable import Cable
from tests.mongo import MongoProcess
from tests.support import ServerProcess, assert_outcome, body, outcome_issues

WRITERS: Final = 32
PATIENCE: Final = 120.0
SYSTEM: Final = "http://example.org/away"
_HASTE: Final = "serverSelectionTimeoutMS=1000&connectTimeoutMS=1000&socketTimeoutMS=4000"


@dataclass(frozen=True)
class Site:
    """A server that reaches its database by a cable."""

    database: MongoProcess
    cable: Cable
    server: ServerProcess


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    database = MongoProcess(tmp_path, "--sync-on-commit")
    cable = Cable(database.port)
    # Else the driver goes to where the replica set says that it is.
    store = f"mongodb://127.0.0.1:{cable.port}/away?directConnection=true&{_HASTE}"
    server = ServerProcess(store, tmp_path / "server.log", KEYWORKING_WRITE_PATIENCE="2")
    try:
        await asyncio.to_thread(database.start)
        await cable.plug()
        await asyncio.to_thread(server.start)
        yield Site(database, cable, server)
    finally:
        await asyncio.to_thread(server.stop)
        await cable.cut()
        database.kill()


@pytest.fixture
async def client(site: Site) -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=2 * WRITERS)
    base = site.server.base + "/"
    async with httpx.AsyncClient(base_url=base, limits=limits, timeout=PATIENCE) as client:
        yield client


Act = Callable[[Site], Awaitable[None]]


async def _kill(site: Site) -> None:
    site.database.kill()


async def _start(site: Site) -> None:
    await asyncio.to_thread(site.database.start)


async def _hang(site: Site) -> None:
    site.database.send(signal.SIGSTOP)


async def _go_on(site: Site) -> None:
    site.database.send(signal.SIGCONT)


async def _cut(site: Site) -> None:
    await site.cable.cut()


async def _plug(site: Site) -> None:
    await site.cable.plug()


FAULTS: Final[dict[str, tuple[Act, Act]]] = {
    "cut off": (_cut, _plug),
    "hanging": (_hang, _go_on),
    "killed": (_kill, _start),
}


@dataclass
class Written:
    """What was acknowledged, and how many requests were refused."""

    bodies: dict[str, Any] = field(default_factory=dict)
    """Address of a version -> the resource as it was acknowledged."""
    last: dict[str, str] = field(default_factory=dict)
    """Patient -> the mark of its last acknowledged update."""
    refused: int = 0
    acknowledged: set[str] = field(default_factory=set)
    """Writers that had an answer since this was cleared."""
    done: bool = False

    def begin(self) -> None:
        """Another fault: whoever writes has had no answer yet."""
        self.refused, self.done = 0, False
        self.acknowledged.clear()


def _patient(name: str, mark: str) -> dict[str, Any]:
    identifier = [{"system": SYSTEM, "value": mark}]
    return {"resourceType": "Patient", "id": name, "identifier": identifier}


def assert_unavailable(response: httpx.Response) -> None:
    (issue,) = outcome_issues(response)
    # Or the audit's rows cannot be written to it, and nothing is read without them; or so many
    # wait for it that there is no turn left.
    expected = ("The store ", "The audit cannot be written ", "The server has too much to do ")
    assert issue["diagnostics"].startswith(expected)
    assert_outcome(response, 503, "transient", "")
    assert response.headers["retry-after"] == "1"
    assert "127.0.0.1" not in response.text


async def _write(client: httpx.AsyncClient, written: Written, name: str) -> None:
    """One update after the other; whoever is refused tries again, as it is told."""
    for number in count():
        if written.done:
            return
        mark = f"{name}-{number}"
        response = await client.put(f"Patient/{name}", **body(_patient(name, mark)))
        if response.status_code == 503:
            assert_unavailable(response)
            written.refused += 1
            await asyncio.sleep(0.1)
            continue
        assert response.status_code in (200, 201), response.text
        resource = response.json()
        written.bodies[f"Patient/{name}/_history/{resource['meta']['versionId']}"] = resource
        written.last[name] = mark
        written.acknowledged.add(name)


async def _until(holds: Callable[[], Awaitable[bool]], writers: asyncio.Future[Any]) -> None:
    """Look again and again, and at what the writers may have met."""
    deadline = time.monotonic() + PATIENCE
    while not await holds():
        if writers.done():
            await writers
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)


async def _health(client: httpx.AsyncClient) -> tuple[int, int]:
    """Live, ready."""
    addresses = (client.base_url.copy_with(path=f"/health/{check}") for check in ("live", "ready"))
    live, ready = await asyncio.gather(*map(client.get, addresses))
    return live.status_code, ready.status_code


async def test_in_the_middle_of_many_writers_it_refuses_and_goes_on_by_itself(
    site: Site, client: httpx.AsyncClient
) -> None:
    """Each fault in turn on one site, which has to have got over the one before."""
    written = Written()
    for begin, end in FAULTS.values():
        await _refused_and_going_on(site, client, written, begin, end)
    await _nothing_acknowledged_is_lost(client, written)
    assert "Traceback" not in site.server.logged()


async def _refused_and_going_on(
    site: Site, client: httpx.AsyncClient, written: Written, begin: Act, end: Act
) -> None:
    written.begin()
    writing = asyncio.gather(*(_write(client, written, f"w{n}") for n in range(WRITERS)))

    async def all_have_written() -> bool:
        return len(written.acknowledged) == WRITERS

    async def is_live_and_not_ready() -> bool:
        live, ready = await _health(client)
        assert live == 200
        return ready == 503

    async def all_were_refused() -> bool:
        return written.refused >= WRITERS

    await _until(all_have_written, writing)
    await begin(site)
    try:
        await _until(is_live_and_not_ready, writing)
        for address in ("Patient/w0", "Patient?identifier=w0-0", "Patient/w0/_history"):
            assert_unavailable(await client.get(address))
        await _until(all_were_refused, writing)
    finally:
        await end(site)
    written.acknowledged.clear()
    await _until(all_have_written, writing)
    written.done = True
    await writing
    assert await _health(client) == (200, 200)


async def _nothing_acknowledged_is_lost(client: httpx.AsyncClient, written: Written) -> None:
    for address, resource in written.bodies.items():
        assert (await client.get(address)).json() == resource
    for name, mark in written.last.items():
        search = await client.get(f"Patient?identifier={SYSTEM}|{mark}")
        assert [entry["resource"]["id"] for entry in search.json()["entry"]] == [name]
        history = (await client.get(f"Patient/{name}/_history?_count=1000")).json()["entry"]
        versions = [int(entry["resource"]["meta"]["versionId"]) for entry in history]
        assert versions == [*range(len(versions), 0, -1)]


async def test_a_transaction_that_is_cut_off_is_whole_or_absent(
    site: Site, client: httpx.AsyncClient
) -> None:
    """Large ones, so that the cut comes in the middle of one."""
    size = 50

    async def post(mark: str) -> int:
        entry = {"request": {"method": "POST", "url": "Patient"}}
        identifier = [{"system": SYSTEM, "value": mark}]
        patient = {"resourceType": "Patient", "identifier": identifier}
        entries = [{**entry, "resource": patient}] * size
        bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
        return (await client.post("", **body(bundle))).status_code

    assert await post("before") == 200
    marks = [f"t{number}" for number in range(4)]
    posted = asyncio.gather(*map(post, marks))
    await asyncio.sleep(0.2)
    await site.cable.cut()
    assert await _health(client) == (200, 503)
    await site.cable.plug()
    answers = {"before": 200, **dict(zip(marks, await posted, strict=True))}
    assert {*answers.values()} <= {200, 503}
    for mark, status in answers.items():
        found = await client.get(f"Patient?identifier={SYSTEM}|{mark}&_summary=count")
        assert found.json()["total"] in ((size,) if status == 200 else (0, size)), mark
