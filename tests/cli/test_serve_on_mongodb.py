"""`keyworking serve --workers 2` on MongoDB: two processes, one store."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import httpx
import pytest

from fhir_server.keeping import open_store
from fhir_server.settings import Settings
from fhir_server.storage.mongo.store import MongoStore
from tests.stores import MONGODB, store_at
from tests.support import ServerProcess, body

REQUESTS: Final = 32


@pytest.fixture
def served(tmp_path: Path) -> Iterator[ServerProcess]:
    store = store_at(tmp_path / "workers", MONGODB)
    process = ServerProcess(store, tmp_path / "server.log", KEYWORKING_WORKERS="2")
    try:
        process.start()
        yield process
    finally:
        process.stop()


async def test_two_workers_serve_one_store(served: ServerProcess) -> None:
    """A connection of its own for each request: whichever worker is free takes it."""
    criteria = "identifier=https://keyworking.example/workers|one"
    identifier = [{"system": "https://keyworking.example/workers", "value": "one"}]
    request = body({"resourceType": "Patient", "identifier": identifier})
    request["headers"]["if-none-exist"] = criteria

    async def create() -> httpx.Response:
        async with httpx.AsyncClient(base_url=served.base + "/", timeout=60) as client:
            return await client.post("Patient", **request)

    answers = await asyncio.gather(*(create() for _ in range(REQUESTS)))
    assert sorted(answer.status_code for answer in answers) == [200] * (REQUESTS - 1) + [201]
    assert len({answer.json()["id"] for answer in answers}) == 1
    await asyncio.wait_for(started(served, 2), timeout=60)  # one may serve before the other starts


async def started(served: ServerProcess, processes: int) -> None:
    """Wait until so many serve."""
    pattern = r"Started server process \[(\d+)\]"
    while len({*re.findall(pattern, served.logged())}) < processes:  # noqa: ASYNC110 - a file
        await asyncio.sleep(0.1)


async def test_the_patience_of_the_settings_is_that_of_the_store(tmp_path: Path) -> None:
    address = store_at(tmp_path / "patience", MONGODB)
    store = await open_store(Settings(auth="none", store=address, write_patience=0.25))
    assert isinstance(store, MongoStore)
    assert store._committer._patience == 0.25
    await store.close()
