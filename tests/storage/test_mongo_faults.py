"""MongoDB goes away, hangs, is held up by the dead: clean refusals, and recovery by itself.

https://www.mongodb.com/docs/manual/core/transactions-in-applications/ says what may be retried.
"""

import asyncio
import itertools
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from pymongo import MongoClient
from pymongo.read_concern import ReadConcern

from fhir_server.app import create_app
from fhir_server.errors import FhirError, Kind
from fhir_server.fhir import json
from fhir_server.settings import Settings
from fhir_server.storage.interface import Draft, Store, Unit
from fhir_server.storage.mongo import turns
from fhir_server.storage.mongo.check import check
from fhir_server.storage.mongo.store import MongoStore, open_mongo
from tests.mongo import MongoProcess, mongo_url
from tests.storage.backends import BACKENDS, database_of
from tests.storage.crash_writer import TYPES, WRITERS, resources
from tests.storage.questions import found, patient, put, query
from tests.support import assert_outcome, body

ROUNDS: Final = 20 if os.environ.get("HYPOTHESIS_PROFILE") == "nightly" else 1


@pytest.fixture
def database(tmp_path: Path) -> Iterator[MongoProcess]:
    """A server for this test alone, which may be killed."""
    process = MongoProcess(tmp_path, "--sync-on-commit")
    process.start()
    try:
        yield process
    finally:
        process.kill()


def hasty(process: MongoProcess, answer_within: int = 10_000) -> str:
    """An address whose driver soon gives up; an answer may take so many milliseconds."""
    options = f"serverSelectionTimeoutMS=1500&connectTimeoutMS=1500&socketTimeoutMS={answer_within}"
    return f"{process.url('kw')}?{options}"


@pytest.fixture
async def kept(database: MongoProcess) -> AsyncIterator[MongoStore]:
    store = await open_mongo(hasty(database), write_patience=3)
    yield store
    await store.close()


@pytest.fixture
async def impatient(database: MongoProcess) -> AsyncIterator[MongoStore]:
    store = await open_mongo(hasty(database, 1500), write_patience=3)
    yield store
    await store.close()


async def until_it_works(store: Store, resource_id: str) -> None:
    """As a client would that is told to try again."""
    deadline = time.monotonic() + 60
    while True:
        try:
            await put(store, patient(resource_id, "After"))
        except FhirError as error:
            if error.kind is not Kind.UNAVAILABLE or time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.1)
        else:
            return


async def test_a_database_killed_under_many_writers_keeps_every_acknowledged_write(
    database: MongoProcess, kept: MongoStore
) -> None:
    """Nothing is half there either: `check` goes through all of it."""
    acknowledged: dict[str, int] = {}
    for round_ in range(ROUNDS):
        await write_until_killed(database, kept, acknowledged)
        database.start()
        await until_it_works(kept, f"after-{round_}")
        assert await faults_of(database) == []
        for key in [*acknowledged][-8:]:
            await assert_kept(kept, key, acknowledged[key])


async def write_until_killed(
    database: MongoProcess, store: Store, acknowledged: dict[str, int]
) -> None:
    """Generations of sets of resources; those written last stand at the end."""
    is_enough = asyncio.Event()
    enough = sum(acknowledged.values()) + 2 * WRITERS

    async def write(number: int) -> None:
        key = f"w{number}"
        for generation in itertools.count(acknowledged.get(key, 0) + 1):
            await put(store, *resources(key, generation))
            acknowledged.pop(key, None)
            acknowledged[key] = generation
            if sum(acknowledged.values()) > enough:
                is_enough.set()

    writers: list[asyncio.Task[Any]] = [
        asyncio.create_task(write(number)) for number in range(WRITERS)
    ]
    waiting = asyncio.create_task(is_enough.wait())
    await asyncio.wait([waiting, *writers], return_when=asyncio.FIRST_COMPLETED)
    assert is_enough.is_set(), "a writer ended by itself"
    database.kill()
    for refused in await asyncio.gather(*writers, return_exceptions=True):
        assert isinstance(refused, FhirError)
        assert refused.kind is Kind.UNAVAILABLE
    with pytest.raises(FhirError) as caught:
        await store.read("Patient", "w0")
    assert caught.value.kind is Kind.UNAVAILABLE


async def faults_of(database: MongoProcess) -> list[str]:
    told: list[str] = []
    report = await check(hasty(database), told=told.append, progress=lambda *_: None)
    assert report.sound is not bool(told)
    assert report.resources >= WRITERS
    return told


async def assert_kept(store: Store, key: str, generation: int) -> None:
    """All of the acknowledged generation, or all of a later one."""
    newest = {name: await newest_of(store, name, key) for name in TYPES}
    assert len(set(newest.values())) == 1, newest
    assert newest["Patient"] >= generation
    for name, version in newest.items():
        current = f"{name}?identifier=urn:generation|{key}-{version}"
        assert await found(store, current) == [key]
    assert await found(store, f"CarePlan?subject=Patient/{key}") == [key]


async def newest_of(store: Store, resource_type: str, resource_id: str) -> int:
    stored = await store.read(resource_type, resource_id)
    assert stored is not None
    said = json.decode_resource(stored.body)["identifier"][1]["value"]
    # What was answered "unknown" may have been written, and is then sent again unchanged.
    assert said == f"{resource_id}-{stored.version}"
    return stored.version


async def test_a_database_that_hangs_is_unavailable_in_time_and_serves_again(
    database: MongoProcess, impatient: MongoStore
) -> None:
    await until_it_works(impatient, "before")
    database.send(signal.SIGSTOP)
    try:
        async with asyncio.timeout(50):  # it hangs for ever, and a driver's own word is minutes
            results = await asyncio.gather(
                put(impatient, patient("during", "During")),
                impatient.search(query("Patient"), 10),
                impatient.read("Patient", "before"),
                impatient.ready(),
                return_exceptions=True,
            )
    finally:
        database.send(signal.SIGCONT)
    for result in results:
        assert isinstance(result, FhirError)
        assert result.kind is Kind.UNAVAILABLE
        assert "127.0.0.1" not in str(result)
    await until_it_works(impatient, "after")
    stored = await impatient.read("Patient", "before")
    assert stored is not None
    assert not stored.deleted


async def test_over_http_it_is_503_with_a_time_to_try_again(database: MongoProcess) -> None:
    settings = Settings(auth="none", store=hasty(database))
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url=settings.base + "/") as client:
            database.kill()
            for method, address, sent in (
                ("GET", "Patient/a", {}),
                ("GET", "Patient?name=a", {}),
                ("GET", "Patient/a/_history", {}),
                ("POST", "Patient", body({"resourceType": "Patient"})),
            ):
                refused = await client.request(method, address, **sent)
                assert_outcome(refused, 503, "transient", "try again later")
                assert refused.headers["retry-after"] == "1"
            assert (await client.get("http://127.0.0.1:8080/health/ready")).status_code == 503
            database.start()
            statuses = {503}
            async with asyncio.timeout(60):
                while 503 in statuses:
                    await asyncio.sleep(0.05)  # the loop is the server's too
                    created = await client.post("Patient", **body({"resourceType": "Patient"}))
                    statuses = {created.status_code}
            assert statuses == {201}, created.text


async def test_a_server_alone_is_refused_at_start(tmp_path: Path) -> None:
    process = MongoProcess(tmp_path, "--standalone")
    process.start()
    try:
        with pytest.raises(RuntimeError, match="neither a replica set nor a sharded cluster"):
            await open_mongo(process.url("kw"))
        with MongoClient[dict[str, Any]](process.url("")) as client:
            assert "kw" not in client.list_database_names()
    finally:
        process.kill()


async def test_a_turn_that_a_dead_process_holds_is_freed(tmp_path: Path) -> None:
    store = await open_mongo(mongo_url(database_of(tmp_path)), write_patience=40)
    with MongoClient[dict[str, Any]](mongo_url("admin")) as client:
        database = client[database_of(tmp_path)]
        # As one that was killed between its first write and its commit.
        with client.start_session() as session:
            session.start_transaction(ReadConcern("snapshot"))
            database.setting.update_one({"_id": "commit"}, {"$inc": {"turn": 1}}, session=session)
            dead = {"_id": "dead", "session": session.session_id, "beat": 7}
            database.writer.insert_one(dead)
            # MongoDB itself would end it after a minute.
            await put(store, patient("a", "Ash"))
            assert database.writer.count_documents({"_id": "dead"}) == 0
    await store.close()


async def test_a_turn_that_a_living_process_holds_for_long_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "_DEAD_AFTER", 2.5)
    monkeypatch.setattr(turns, "_BEAT", 0.05)
    slow, quick = [await BACKENDS["mongo"].open(tmp_path) for _ in range(2)]
    begun: list[int] = []
    has_begun = asyncio.Event()

    async def work(unit: Unit) -> None:
        begun.append(1)
        has_begun.set()
        await asyncio.sleep(4)
        await unit.put(Draft(patient("slow", "Slow")), "PUT")

    committing = asyncio.create_task(slow.commit(work))
    await has_begun.wait()
    await put(quick, patient("quick", "Quick"))
    await committing
    assert begun == [1]
    assert [stored.id for _, stored in await quick.changes(0, 10)] == ["slow", "quick"]
    for store in (slow, quick):
        await store.close()


async def test_whom_the_others_took_for_dead_runs_its_commit_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "_DEAD_AFTER", 0.5)
    monkeypatch.setattr(turns, "_BEAT", 60.0)
    slow, quick = [await BACKENDS["mongo"].open(tmp_path) for _ in range(2)]
    has_begun, is_overtaken = asyncio.Event(), asyncio.Event()

    async def work(unit: Unit) -> int:
        has_begun.set()
        before = await unit.total(query("Patient"))
        if not before:
            await is_overtaken.wait()
        await unit.put(Draft(patient("slow", "Slow")), "PUT")
        return before

    committing = asyncio.create_task(slow.commit(work))
    await has_begun.wait()
    await put(quick, patient("quick", "Quick"))
    is_overtaken.set()
    assert await committing == 1
    assert [stored.id for _, stored in await quick.changes(0, 10)] == ["quick", "slow"]
    for store in (slow, quick):
        await store.close()


async def test_who_commits_now_and_then_gets_a_turn_beside_one_that_never_pauses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "_LOOK", 0.0)
    busy, seldom = [await BACKENDS["mongo"].open(tmp_path) for _ in range(2)]
    ends = asyncio.Event()

    async def write(number: int) -> None:
        while not ends.is_set():
            await put(busy, patient(f"p{number}", str(time.monotonic())))

    writers = [asyncio.create_task(write(number)) for number in range(4)]
    taken: list[int] = []
    with MongoClient[dict[str, Any]](mongo_url("admin")) as client:
        setting = client[database_of(tmp_path)]["setting"]

        def turn() -> int:
            found = setting.find_one({"_id": "commit"})
            assert found is not None
            return int(found["turn"])

        for number in range(8):
            before = turn()
            await put(seldom, patient("seldom", str(number)))
            taken.append(turn() - before)
    ends.set()
    await asyncio.gather(*writers)
    for store in (busy, seldom):
        await store.close()
    # Its own, one that was under way, one that had looked before it waited, one since.
    assert max(taken) <= 4, taken
