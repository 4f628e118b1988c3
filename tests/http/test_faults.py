"""A server in its own process while its file is locked, full, damaged or gone.

503 with Retry-After (https://www.rfc-editor.org/rfc/rfc9110#section-15.6.4) while it lasts, nothing
that was acknowledged is lost, and no restart afterwards; `/health/live` is 200 all the time.
What cannot be audited is not read: reads go on while nothing can be written only without an audit.
"""

import asyncio
import resource
import sqlite3
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.stores import sqlite_alone
from tests.support import ServerProcess, assert_outcome, body, found_ids

pytestmark = sqlite_alone
_RECOVERY: Final = 10.0
"""Seconds after a fault in which the server must have recovered."""
on_linux: Final = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="a limit on a running process is Linux's"
)


@pytest.fixture(scope="module", params=["on", "off"])
def audit(request: pytest.FixtureRequest) -> str:
    how: str = request.param
    return how


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory, audit: str) -> Iterator[ServerProcess]:
    folder: Path = tmp_path_factory.mktemp("faults")
    environment = {
        "KEYWORKING_WRITE_PATIENCE": "0.3",
        "KEYWORKING_JOB_CONCURRENCY": "0",
        "KEYWORKING_AUDIT": audit,
    }
    server = ServerProcess(folder / "faults.db", folder / "faults.log", **environment)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
async def client(process: ServerProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=process.base + "/", timeout=30) as client:
        yield client


async def health(client: httpx.AsyncClient) -> tuple[int, int]:
    """Live, ready."""
    asked = (client.get(_health(client, check)) for check in ("live", "ready"))
    live, ready = await asyncio.gather(*asked)
    return live.status_code, ready.status_code


def _health(client: httpx.AsyncClient, check: str) -> httpx.URL:
    return client.base_url.copy_with(path=f"/health/{check}")


async def write(client: httpx.AsyncClient, mark: str, bulk: int = 0) -> httpx.Response:
    identifier = [{"system": "http://example.org/faults", "value": mark}]
    patient: dict[str, Any] = {"resourceType": "Patient", "id": mark, "identifier": identifier}
    if bulk:
        patient["name"] = [{"text": "x" * bulk}]
    return await client.put(f"Patient/{mark}", **body(patient))


def assert_unavailable(response: httpx.Response) -> None:
    assert_outcome(response, 503, "transient", "")
    assert response.headers["retry-after"] == "1"
    assert "Traceback" not in response.text


async def assert_read_while_nothing_is_written(
    client: httpx.AsyncClient, audit: str, *marks: str
) -> None:
    """With the audit off; with it on, not beyond what was noticed by then."""
    addresses = [*(f"Patient/{mark}" for mark in marks), *(f"Patient?_id={mark}" for mark in marks)]
    for address in addresses:
        if audit == "off":
            assert (await client.get(address)).status_code == 200
        else:
            assert_unavailable(await _last_of(client, address))


async def _last_of(client: httpx.AsyncClient, address: str) -> httpx.Response:
    """The rows of refusals are on their way to the disk; what came before they failed was read."""
    for _ in range(100):
        response = await client.get(address)
        if response.status_code != 200:
            break
        await asyncio.sleep(0.05)
    return response


async def assert_recovered(client: httpx.AsyncClient, made: list[str]) -> None:
    """It becomes ready by itself, takes writes, and finds each that it acknowledged."""
    for _ in range(200):
        if await health(client) == (200, 200):
            break
        await asyncio.sleep(_RECOVERY / 200)
    after = await write(client, f"after-{made[0]}")
    assert after.status_code in (200, 201), after.text
    for mark in [*made, f"after-{made[0]}"]:
        assert await found_ids(client, f"Patient?identifier={mark}") == [mark]
        assert (await client.get(f"Patient/{mark}")).status_code == 200


async def test_a_lock_that_stays_refuses_writes_and_reads_that_cannot_be_audited(
    client: httpx.AsyncClient, process: ServerProcess, audit: str
) -> None:
    assert (await write(client, "locked")).status_code == 201
    with closing(sqlite3.connect(process.store, isolation_level=None)) as locker:
        locker.execute("BEGIN IMMEDIATE")
        refused = await asyncio.gather(*(write(client, f"locked-{n}") for n in range(8)))
        for response in refused:
            assert_unavailable(response)
        assert await health(client) == (200, 503)
        await assert_read_while_nothing_is_written(client, audit, "locked")
        locker.execute("ROLLBACK")
    await assert_recovered(client, ["locked"])
    assert (await client.get("Patient/locked-0")).status_code == 404


@contextmanager
def no_file_may_grow(process: ServerProcess) -> Iterator[None]:
    """A quota: whatever the server writes beyond the first bytes of a file fails."""
    usual = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (4096, usual[1]))
    try:
        yield
    finally:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, usual)


@on_linux
async def test_a_full_disk_refuses_writes_and_reads_that_cannot_be_audited(
    client: httpx.AsyncClient, process: ServerProcess, audit: str
) -> None:
    made = ["full"]
    assert (await write(client, "full")).status_code == 201
    with no_file_may_grow(process):
        answers = await asyncio.gather(*(write(client, f"full-{n}", 50_000) for n in range(16)))
        for response in answers:
            assert_unavailable(response)
        assert await health(client) == (200, 503)
        await assert_read_while_nothing_is_written(client, audit, "full")
    await assert_recovered(client, made)
    for number in range(16):
        assert (await client.get(f"Patient/full-{number}")).status_code == 404


async def test_a_file_that_is_moved_away_is_neither_read_nor_written_until_it_is_back(
    client: httpx.AsyncClient, process: ServerProcess
) -> None:
    assert (await write(client, "moved")).status_code == 201
    away = process.store.with_name("away.db")
    move(process.store, away)
    try:
        for address in ("Patient/moved", "Patient?identifier=moved", "Patient/moved/_history"):
            assert_unavailable(await client.get(address))
        assert_unavailable(await write(client, "moved-lost"))
        assert await health(client) == (200, 503)
    finally:
        move(away, process.store)
    await assert_recovered(client, ["moved"])


async def test_a_damaged_file_is_no_500_and_is_served_again_when_it_is_whole(
    client: httpx.AsyncClient, process: ServerProcess
) -> None:
    assert (await write(client, "damaged")).status_code == 201
    process.stop()  # its log is in the file then
    process.start()
    whole = content(process.store)
    overwrite(process.store, b"\xa5" * len(whole))
    try:
        for address in ("Patient/damaged", "Patient?identifier=damaged", "_history"):
            assert_unavailable(await client.get(address))
        assert_unavailable(await write(client, "damaged-lost"))
        assert await health(client) == (200, 503)
    finally:
        overwrite(process.store, whole)
    await assert_recovered(client, ["damaged"])
    assert "Traceback" not in process.logged()


def move(one: Path, other: Path) -> None:
    one.rename(other)


def content(path: Path) -> bytes:
    return path.read_bytes()


def overwrite(path: Path, whole: bytes) -> None:
    """In place: it stays the same file."""
    with path.open("r+b") as file:
        file.write(whole)
