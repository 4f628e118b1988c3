"""What the SQLite backend promises beyond the contract: locks, files, old releases, plans."""

import asyncio
import sqlite3
import subprocess
import sys
import time
from collections.abc import Awaitable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest

from fhir_server.errors import FhirError, Kind
from fhir_server.fhir.json import Resource
from fhir_server.search.extract import CONTENT, extract
from fhir_server.search.parameters import Definition
from fhir_server.storage.interface import Draft, Progress, StoredVersion, Unit
from fhir_server.storage.remaking import remake
from fhir_server.storage.sqlite import reindex
from fhir_server.storage.sqlite.connect import connect as connected
from fhir_server.storage.sqlite.entries import keyed_hash
from fhir_server.storage.sqlite.reader import NotBrief
from fhir_server.storage.sqlite.schema import MIGRATIONS
from fhir_server.storage.sqlite.store import _PATIENT_READERS, _READERS, SqliteStore
from tests.storage.questions import delete, found, patient, put, query

ROOT: Final = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "down" / "store.db"


@pytest.fixture
def locker(path: Path) -> Iterator[sqlite3.Connection]:
    """Another process's connection to the file."""
    path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


async def refusal(attempt: Awaitable[Any]) -> FhirError:
    with pytest.raises(FhirError) as caught:
        await attempt
    return caught.value


async def test_a_write_waits_for_another_process_and_then_is_refused(
    path: Path, locker: sqlite3.Connection
) -> None:
    store = SqliteStore(path, write_patience=0.1)
    try:
        await put(store, patient("a", "Ash"))
        locker.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        results = await asyncio.gather(
            *(put(store, patient(f"p{n}", "Birch")) for n in range(5)), return_exceptions=True
        )
        assert time.monotonic() - began < 4
        kinds = [result.kind for result in results if isinstance(result, FhirError)]
        assert kinds == [Kind.UNAVAILABLE] * 5
        assert await found(store, "Patient?family=ash") == ["a"]  # reads go on
        assert (await refusal(store.secret("new"))).kind is Kind.UNAVAILABLE
        locker.execute("ROLLBACK")
        await put(store, patient("b", "Birch"))
        assert await found(store, "Patient?family=birch") == ["b"]
    finally:
        await store.close()


async def test_a_write_lands_when_the_other_process_is_done_in_time(
    path: Path, locker: sqlite3.Connection
) -> None:
    store = SqliteStore(path, write_patience=5)
    try:
        locker.execute("BEGIN IMMEDIATE")
        writing = asyncio.create_task(put(store, patient("a", "Ash")))
        await asyncio.sleep(0.05)
        assert not writing.done()
        locker.execute("ROLLBACK")
        await writing
        assert await found(store, "Patient?family=ash") == ["a"]
    finally:
        await store.close()


async def test_a_database_fault_in_one_commit_leaves_the_others_of_the_group(path: Path) -> None:
    store = SqliteStore(path)

    async def faulty(unit: Unit) -> None:
        await unit.put(Draft(patient("faulty", "Birch")), "PUT")
        raise sqlite3.IntegrityError

    try:
        results = await asyncio.gather(
            put(store, patient("a", "Ash")),
            store.commit(faulty),
            put(store, patient("b", "Ash")),
            return_exceptions=True,
        )
        assert isinstance(results[1], FhirError)
        assert results[1].kind is Kind.UNAVAILABLE
        assert await found(store, "Patient") == ["a", "b"]
    finally:
        await store.close()


async def test_a_commit_whose_caller_left_before_its_turn_is_not_made(path: Path) -> None:
    store = SqliteStore(path)
    let_go = asyncio.Event()

    async def slow(unit: Unit) -> None:
        await unit.put(Draft(patient("slow")), "PUT")
        await let_go.wait()

    try:
        first = asyncio.create_task(store.commit(slow))
        left = asyncio.create_task(put(store, patient("left")))
        last = asyncio.create_task(put(store, patient("last")))
        await asyncio.sleep(0.01)
        left.cancel()
        let_go.set()
        await asyncio.gather(first, last)
        assert await found(store, "Patient?_sort=_id") == ["last", "slow"]
    finally:
        await store.close()


async def test_a_search_that_takes_too_long_is_refused_as_too_costly(path: Path) -> None:
    store = SqliteStore(path, patience=0.0)
    try:
        await put(store, *(patient(f"p{n}", f"Name{n}") for n in range(2000)))
        error = await refusal(store.search(query("Patient?name:contains=me1&_sort=-family"), 10))
        assert error.kind is Kind.TOO_COSTLY
        stored = await store.read("Patient", "p1")
        assert stored is not None
    finally:
        await store.close()


async def test_a_patient_view_has_its_own_patience_and_does_not_hold_up_the_end(
    path: Path,
) -> None:
    store = SqliteStore(path, patience=0.0)
    patiently = store.patient(600.0)
    await put(store, *(patient(f"p{n}", f"Name{n}") for n in range(2000)))
    page = await patiently.search(query("Patient?name:contains=me1&_sort=-family"), 10)
    assert len(page.matches) == 10
    slow = query("Patient?" + "&".join(f"name:contains=a{n}e&_sort=-family" for n in range(1)))
    searches = [asyncio.create_task(patiently.search(slow, 10)) for _ in range(50)]
    await asyncio.sleep(0)
    began = asyncio.get_running_loop().time()
    await store.close()
    await asyncio.gather(*searches, return_exceptions=True)
    assert asyncio.get_running_loop().time() - began < 60


async def test_a_store_opens_beside_another_that_is_writing(
    path: Path, locker: sqlite3.Connection
) -> None:
    (stored,) = await _written(path)
    locker.execute("BEGIN IMMEDIATE")
    second = SqliteStore(path)
    try:
        assert await second.read("Patient", "p1") == stored
    finally:
        await second.close()
        locker.execute("ROLLBACK")


async def _written(path: Path) -> list[StoredVersion]:
    first = SqliteStore(path)
    try:
        return await put(first, patient("p1", "Ash"))
    finally:
        await first.close()


def test_refuses_a_file_of_a_newer_release(path: Path, locker: sqlite3.Connection) -> None:
    locker.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    with pytest.raises(RuntimeError, match=f"schema {len(MIGRATIONS) + 1}; this release knows"):
        SqliteStore(path)
    assert locker.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,)


OPENER: Final = """
import asyncio, pathlib, sys
from fhir_server.storage.sqlite.store import _PATIENT_READERS, _READERS, SqliteStore
from tests.storage.questions import patient, put

async def main():
    sys.stdin.read(1)
    store = SqliteStore(pathlib.Path(sys.argv[1]))
    await put(store, patient(sys.argv[2], "Ash"))
    print((await store.secret("pages")).hex())
    await store.close()

asyncio.run(main())
"""


async def test_many_processes_may_make_the_file_at_once(path: Path) -> None:
    command = [sys.executable, "-c", OPENER, str(path)]
    processes = [
        await asyncio.create_subprocess_exec(
            *command, f"p{number}", cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for number in range(6)
    ]
    outputs = await asyncio.gather(*(process.communicate(b"!") for process in processes))
    assert [process.returncode for process in processes] == [0] * 6
    assert len({secret for secret, _ in outputs}) == 1
    store = SqliteStore(path)
    try:
        assert sorted(await found(store, "Patient?family=ash")) == [f"p{n}" for n in range(6)]
    finally:
        await store.close()


async def test_many_stores_of_one_process_may_make_the_file_at_once(path: Path) -> None:
    stores = await asyncio.gather(*(asyncio.to_thread(SqliteStore, path) for _ in range(8)))
    try:
        await asyncio.gather(*(put(one, patient(f"p{n}")) for n, one in enumerate(stores)))
        assert await stores[0].total(query("Patient")) == 8
    finally:
        for one in stores:
            await one.close()


async def test_every_commit_is_flushed_to_disk(path: Path) -> None:
    store = SqliteStore(path)
    try:
        writer = store._place.last.writer
        assert writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert writer.execute("PRAGMA synchronous").fetchone() == (2,)
    finally:
        await store.close()


async def test_what_is_deleted_leaves_no_index_entries_behind(path: Path) -> None:
    store = SqliteStore(path)
    try:
        await put(store, patient("a", "Ash", gender="male"))

        async def work(unit: Unit) -> None:
            await unit.delete("Patient", "a")

        await store.commit(work)
        with closing(sqlite3.connect(path)) as connection:
            for table in ("entry", "entry_string"):
                assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
    finally:
        await store.close()


def test_hashes_differ_from_file_to_file_so_that_nobody_can_aim_at_a_collision() -> None:
    one, other = keyed_hash(b"1" * 32), keyed_hash(b"2" * 32)
    assert one("active") != other("active")
    assert one("active") == keyed_hash(b"1" * 32)("active")
    assert (one(""), other("")) == (0, 0)


async def test_codes_whose_hashes_meet_are_still_told_apart(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "fhir_server.storage.sqlite.opened.keyed_hash", lambda _secret: lambda text: int(bool(text))
    )
    store = SqliteStore(path)
    try:
        await put(store, patient("a", gender="male"), patient("b", gender="female"))
        assert await found(store, "Patient?gender=male") == ["a"]
        assert await found(store, "Patient?gender=male,other") == ["a"]
        assert await found(store, "Patient?gender:not=male") == ["b"]
    finally:
        await store.close()


# An index that an older release has made


async def older_store(path: Path, count: int) -> None:
    """A file as the first release left it: it knows nothing of texts, and keeps no account."""
    store = SqliteStore(path)
    try:
        code = {"text": "Autism"}
        resources: list[Resource] = [
            {"resourceType": "Condition", "id": f"c{n}", "code": code} for n in range(count)
        ]
        await put(store, *resources)
        await delete(store, "Condition", "c1")
    finally:
        await store.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        texts = "SELECT number FROM parameter WHERE code LIKE '%:%'"
        connection.execute(f"DELETE FROM entry_string WHERE parameter IN ({texts})")
        connection.execute("DELETE FROM parameter WHERE code LIKE '%:%'")
        connection.execute("DELETE FROM setting WHERE name LIKE 'index:%'")


def accounts(path: Path) -> dict[str, int]:
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT name, value FROM setting WHERE name LIKE 'index:%'")
        return {name: int(value) for name, value in rows}


async def test_an_index_of_an_older_release_is_made_anew_before_it_serves(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reindex, "BATCH", 7)
    await older_store(path, 30)
    store = SqliteStore(path)
    try:
        assert len(await found(store, "Condition?code:text=autism")) == 29
        assert "c1" not in await found(store, "Condition")
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("SELECT count(*) FROM entry_string").fetchone() == (29,)
        assert accounts(path) == {"index:content": CONTENT}
    finally:
        await store.close()


async def test_a_remaking_that_was_interrupted_goes_on_where_it_ended(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reindex, "BATCH", 7)
    await older_store(path, 30)
    taken: list[int] = []
    extracted = extract

    def interrupted(resource: Any) -> Any:
        taken.append(1)
        if len(taken) == 20:
            raise KeyboardInterrupt
        return extracted(resource)

    monkeypatch.setattr(reindex, "extract", interrupted)
    with pytest.raises(KeyboardInterrupt):
        SqliteStore(path)
    assert accounts(path) == {"index:reached": 14}
    store = SqliteStore(path)
    try:
        assert len(taken) == 20 + 30 - 14  # the one that was deleted has nothing to extract
        assert len(await found(store, "Condition?code:text=autism")) == 29
    finally:
        await store.close()


async def test_several_stores_may_share_the_remaking(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reindex, "BATCH", 3)
    await older_store(path, 40)
    stores = await asyncio.gather(*(asyncio.to_thread(SqliteStore, path) for _ in range(4)))
    try:
        for one in stores:
            assert len(await found(one, "Condition?code:text=autism")) == 39
    finally:
        for one in stores:
            await one.close()


async def test_a_damaged_index_is_mended_by_making_all_of_it_anew(path: Path) -> None:
    store = SqliteStore(path)
    try:
        await put(store, patient("a", "Ash"), patient("b", "Birch"), patient("c", "Cedar"))
        await put(store, patient("b", "Beech"))
        await delete(store, "Patient", "c")
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            whole = [*connection.execute(_STRINGS)]
            connection.execute("UPDATE entry_string SET text = 'x'")
            connection.execute("DELETE FROM entry_string WHERE rid = 1")
        assert await found(store, "Patient?family=ash") == []
        assert await remake(store, whole=True)
        assert await found(store, "Patient?family=ash") == ["a"]
        with closing(sqlite3.connect(path)) as connection:
            assert [*connection.execute(_STRINGS)] == whole
    finally:
        await store.close()


_STRINGS: Final = "SELECT * FROM entry_string ORDER BY rid, parameter, ordinal"


@pytest.mark.parametrize("whole", [False, True])
async def test_a_step_ends_in_time_however_much_was_asked_for(
    path: Path, monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    monkeypatch.setattr(reindex, "_LONGEST", 0)
    store = SqliteStore(path)

    async def begin(unit: Unit) -> Progress:
        await unit.define((await unit.parameters()).begun(whole=whole))
        return await unit.reindex(100)

    try:
        await put(store, *(patient(f"p{number}") for number in range(5)))
        assert await store.commit(begin) == Progress(1, 5)
        assert await store.commit(lambda unit: unit.reindex(100)) == Progress(2, 5)
        assert await remake(store)
        assert not await remake(store)
    finally:
        await store.close()


async def test_an_older_index_is_made_anew_with_what_was_added(path: Path) -> None:
    await older_store(path, 30)
    store = SqliteStore(path)
    try:
        await store.commit(by_text)
        await remake(store)
    finally:
        await store.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DELETE FROM entry_string")
        connection.execute("DELETE FROM setting WHERE name = 'index:content'")
    store = SqliteStore(path)
    try:
        assert len(await found(store, "Condition?described=aut")) == 29
    finally:
        await store.close()


async def by_text(unit: Unit) -> None:
    described = Definition("urn:x", "described", "string", "Condition.code.text", ("Condition",))
    await unit.define((await unit.parameters()).defined("one", described))


async def test_a_new_file_has_nothing_to_remake(path: Path) -> None:
    store = SqliteStore(path)
    await store.close()
    assert accounts(path) == {"index:content": CONTENT}


async def test_refuses_an_index_of_a_newer_release(path: Path) -> None:
    store = SqliteStore(path)
    await store.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(
            "UPDATE setting SET value = ? WHERE name = 'index:content'", (b"%d" % (CONTENT + 1),)
        )
    with pytest.raises(RuntimeError, match="this release knows up to"):
        SqliteStore(path)


async def test_a_search_of_many_steps_is_not_brief(path: Path) -> None:
    store = SqliteStore(path)
    try:
        await put(store, *(patient(f"p{n}", f"Ash{n}") for n in range(1_200)))
        with pytest.raises(NotBrief):
            store._place.last.reader().search(
                query("Patient?family:contains=no"), 20, None, briefly=True
            )
    finally:
        await store.close()


async def test_all_connections_together_keep_no_more_than_28_mb_of_the_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a process with every thread at work, whatever the size of the file."""
    made: list[sqlite3.Connection] = []

    def connect(*words: Any, **options: Any) -> sqlite3.Connection:
        made.append(connected(*words, **options))
        return made[-1]

    monkeypatch.setattr("fhir_server.storage.sqlite.opened.connect", connect)
    store = SqliteStore(path)
    try:
        stores = (store, store.patient(60.0))
        await asyncio.gather(*(one.changes(0, 10) for one in stores for _ in range(50)))
        kept = [-connection.execute("PRAGMA cache_size").fetchone()[0] for connection in made]
    finally:
        await store.close()
    assert len(kept) > 2
    assert all(one > 0 for one in kept), "bounded in KiB, not in pages"
    most = sum(kept[:2]) + max(kept[2:]) * (_READERS + _PATIENT_READERS)
    assert most <= 28 * 1024
