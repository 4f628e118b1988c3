"""SIGKILL in the middle of many writers: what was acknowledged is there, nothing is half there.

One round on a SQLite store and one on MongoDB, 20 with `HYPOTHESIS_PROFILE=nightly`; through every
step of one commit goes `tests/storage/test_killed_within.py`.
https://www.sqlite.org/atomiccommit.html and
https://www.mongodb.com/docs/manual/core/transactions/ are the promises that the stores build on,
https://hl7.org/fhir/R4/http.html#transaction the one that the server gives.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.sound import faults_of
from tests.stores import KINDS, NIGHTLY, store_at
from tests.support import ServerProcess, body, opened

SYSTEM: Final = "http://example.org/kill"
WRITERS: Final = 32
ROUNDS: Final = 20 if NIGHTLY else 1
SECONDS_OF_WRITING: Final = 0.7
"""At the least: until each writer has come through once, on a slow machine too."""
PATIENCE: Final = 120.0


@dataclass
class Written:
    """What was tried, and what of it was acknowledged."""

    bodies: dict[str, Any] = field(default_factory=dict)
    """Address of a version -> the resource as it was acknowledged."""
    marks: set[str] = field(default_factory=set)
    """Identifiers of acknowledged creates and transactions."""
    transactions: set[str] = field(default_factory=set)
    """Identifiers of all transactions that were tried."""


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Of the store."""
    found: str = request.param
    return found


@pytest.fixture
def store(kind: str, tmp_path: Path) -> str:
    """Its address."""
    return store_at(tmp_path / "killed.db", kind)


@pytest.fixture
def killed(store: str, tmp_path: Path) -> Iterator[ServerProcess]:
    process = ServerProcess(store, tmp_path / "killed.log")
    try:
        yield process
    finally:
        process.stop()


async def test_every_acknowledged_write_is_there_and_nothing_is_half_there(
    killed: ServerProcess, store: str
) -> None:
    written = Written()
    for turn in range(ROUNDS):
        killed.start()
        await _write_until_killed(killed, written, turn)
        await _all_that_is_there_belongs_together(store)
        killed.start()
        async with _client(killed) as client:
            await _everything_acknowledged_is_read(client, written)
            await _everything_acknowledged_is_found(client, written)
            await _whatever_is_updated_is_found_by_its_current_version(client, written)
            await _transactions_are_whole_or_absent(client, written)
            await _create(client, written, f"{turn}-after")
        killed.stop()
        await _all_that_is_there_belongs_together(store)
    assert len(written.marks) > ROUNDS * WRITERS


def _client(server: ServerProcess) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=WRITERS, max_keepalive_connections=WRITERS)
    return httpx.AsyncClient(base_url=server.base + "/", limits=limits, timeout=60)


async def _write_until_killed(server: ServerProcess, written: Written, turn: int) -> None:
    async with _client(server) as client:
        writers = [
            asyncio.create_task(_write(client, written, f"{turn}-{number}"))
            for number in range(WRITERS)
        ]
        await _for_a_while(written, len(written.marks) + 2 * WRITERS)
        await asyncio.to_thread(server.kill)
        await asyncio.gather(*writers)


async def _for_a_while(written: Written, enough: int) -> None:
    deadline = time.monotonic() + PATIENCE
    await asyncio.sleep(SECONDS_OF_WRITING)
    while len(written.marks) < enough:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def _write(client: httpx.AsyncClient, written: Written, writer: str) -> None:
    """Creates, updates and transactions in turn, until the server is gone."""
    try:
        for number in count():
            mark = f"{writer}-{number}"
            await _create(client, written, f"{mark}-create")
            await _update(client, written, writer, number)
            await _transact(client, written, f"{mark}-transaction")
    except httpx.TransportError:
        return


def _patient(mark: str, **more: Any) -> dict[str, Any]:
    return {"resourceType": "Patient", "identifier": [_identifier(mark)], **more}


def _identifier(mark: str) -> dict[str, str]:
    return {"system": SYSTEM, "value": mark}


async def _create(client: httpx.AsyncClient, written: Written, mark: str) -> None:
    response = await client.post("Patient", **body(_patient(mark)))
    assert response.status_code == 201, response.text
    _acknowledged(written, response)
    written.marks.add(mark)


async def _update(client: httpx.AsyncClient, written: Written, writer: str, number: int) -> None:
    resource = _patient(
        f"{writer}-updated-{number}", id=f"writer-{writer}", multipleBirthInteger=number
    )
    response = await client.put(f"Patient/writer-{writer}", **body(resource))
    assert response.headers["etag"] == f'W/"{number + 1}"'
    _acknowledged(written, response)


def _acknowledged(written: Written, response: httpx.Response) -> None:
    resource = response.json()
    version = resource["meta"]["versionId"]
    address = f"{resource['resourceType']}/{resource['id']}/_history/{version}"
    written.bodies[address] = resource


async def _transact(client: httpx.AsyncClient, written: Written, mark: str) -> None:
    child = "urn:uuid:3fa1c9d2-0000-4000-8000-000000000001"
    subject = {"reference": child}
    resources = [
        _patient(mark),
        {
            "resourceType": "CarePlan",
            "identifier": [_identifier(mark)],
            "status": "draft",
            "intent": "plan",
            "subject": subject,
        },
        {
            "resourceType": "Task",
            "identifier": [_identifier(mark)],
            "status": "draft",
            "intent": "order",
            "for": subject,
        },
    ]
    entries: list[dict[str, Any]] = [
        {"resource": r, "request": {"method": "POST", "url": r["resourceType"]}} for r in resources
    ]
    entries[0]["fullUrl"] = child
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    written.transactions.add(mark)
    response = await client.post("", **body(bundle))
    assert response.status_code == 200, response.text
    written.marks.add(mark)


async def _everything_acknowledged_is_read(client: httpx.AsyncClient, written: Written) -> None:
    async def read(address: str, expected: Any) -> None:
        response = await client.get(address)
        assert response.status_code == 200, address
        assert response.json() == expected

    await asyncio.gather(*(read(address, known) for address, known in written.bodies.items()))


async def _everything_acknowledged_is_found(client: httpx.AsyncClient, written: Written) -> None:
    found = await _found(client, "Patient", written.marks)
    assert [mark for mark in written.marks if found[mark] != 1] == []


async def _whatever_is_updated_is_found_by_its_current_version(
    client: httpx.AsyncClient, written: Written
) -> None:
    """And by no other: the entries of the version before are gone with it."""
    names = {address.split("/")[1] for address in written.bodies if "/writer-" in address}
    for name in sorted(names):
        current = (await client.get(f"Patient/{name}")).json()
        mark = current["identifier"][0]["value"]
        head, _, number = mark.rpartition("-")
        before = f"{head}-{int(number) - 1}"
        assert await _found(client, "Patient", {mark, before}) == {mark: 1}


async def _transactions_are_whole_or_absent(client: httpx.AsyncClient, written: Written) -> None:
    by_type = [
        await _found(client, name, written.transactions) for name in ("Patient", "CarePlan", "Task")
    ]
    for mark in written.transactions:
        counts = {found[mark] for found in by_type}
        assert counts in ({0}, {1}), mark
        assert counts == {1} or mark not in written.marks


async def _found(client: httpx.AsyncClient, name: str, marks: set[str]) -> dict[str, int]:
    """How many resources of the type each mark is on, read through the index."""
    found: dict[str, int] = defaultdict(int)
    ordered = sorted(marks)
    for start in range(0, len(ordered), 200):
        chosen = ",".join(f"{SYSTEM}|{mark}" for mark in ordered[start : start + 200])
        form = {"identifier": chosen, "_count": "1000"}
        response = await client.post(f"{name}/_search", data=form)
        assert response.status_code == 200, response.text
        for entry in response.json().get("entry", ()):
            found[entry["resource"]["identifier"][0]["value"]] += 1
    return found


async def _all_that_is_there_belongs_together(address: str) -> None:
    """Versions, index and audit, before the next server could have mended any of it."""
    store = await opened(address)
    try:
        assert await faults_of(address, store) == []
    finally:
        await store.close()
