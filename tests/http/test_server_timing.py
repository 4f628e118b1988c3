"""`Server-Timing`: https://www.w3.org/TR/server-timing/."""

import asyncio
import re
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest

from fhir_server.settings import Settings
from fhir_server.stopwatch import RUNNING, Stopwatch
from fhir_server.storage.interface import Draft, Unit
from fhir_server.storage.sqlite.store import SqliteStore
from fhir_server.storage.timed import timed
from tests.http.serving import served

FORM = re.compile(r"store;dur=(\d+\.\d\d), total;dur=(\d+\.\d\d)")
PATIENT: dict[str, Any] = {"resourceType": "Patient", "active": True}


async def test_an_answer_tells_how_long_it_waited_for_the_store(settings: Settings) -> None:
    async with served(settings, server_timing=True) as client:
        made = await client.post("Patient", json=PATIENT)
        asked = (
            made,
            await client.get(f"Patient/{made.json()['id']}"),
            await client.get("Patient?active=true"),
            await client.get("Patient/nobody"),
        )
    for answer in asked:
        told = FORM.fullmatch(answer.headers["server-timing"])
        assert told, answer.headers
        store, total = map(float, told.groups())
        assert 0 < store <= total
    refused = FORM.fullmatch(asked[-1].headers["server-timing"])
    assert asked[-1].status_code == 404
    assert refused


async def test_nothing_is_told_unless_it_is_wanted(settings: Settings) -> None:
    async with served(settings) as client:
        answer = await client.get("Patient")
    assert answer.status_code == 200
    assert "server-timing" not in answer.headers


async def test_what_a_commit_works_out_by_itself_is_no_time_of_the_store(tmp_path: Path) -> None:
    store = timed(SqliteStore(tmp_path / "timed.db"))
    watch = Stopwatch()
    running = RUNNING.set(watch)

    by_itself = 0.0

    async def work(unit: Unit) -> None:
        nonlocal by_itself
        await unit.put(Draft({**PATIENT, "id": "one"}), "PUT")
        begun = perf_counter()
        await asyncio.sleep(0.05)
        by_itself += perf_counter() - begun

    try:
        begun = perf_counter()
        await store.commit(work)
        passed = perf_counter() - begun
        alone = watch.store
        found = await store.read("Patient", "one")
    finally:
        RUNNING.reset(running)
        await store.close()
    assert found is not None
    assert 0 < alone <= passed - by_itself
    assert watch.store > alone


async def test_a_commit_that_fails_raises_what_it_raised_and_is_measured(tmp_path: Path) -> None:
    store = timed(SqliteStore(tmp_path / "timed.db"))
    watch = Stopwatch()
    running = RUNNING.set(watch)

    async def work(unit: Unit) -> None:
        await unit.put(Draft({**PATIENT, "id": "one"}), "PUT")
        raise LookupError("on the way")

    try:
        with pytest.raises(LookupError, match="on the way"):
            await store.commit(work)
    finally:
        RUNNING.reset(running)
    assert await store.read("Patient", "one") is None
    await store.close()
    assert watch.store > 0
