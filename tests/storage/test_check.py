"""`check` finds what is damaged in a SQLite file, names it, and mends what can be rebuilt."""

import asyncio
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from fhir_server.search.parameters import Definition
from fhir_server.storage.checked import Report
from fhir_server.storage.interface import Unit
from fhir_server.storage.sqlite import fulltext
from fhir_server.storage.sqlite.check import check
from fhir_server.storage.sqlite.findings import Fault
from fhir_server.storage.sqlite.store import SqliteStore
from tests.storage.kept import damage, fill, rows
from tests.storage.questions import found, patient, put
from tests.support import caseload

A: Final = "(SELECT rid FROM resource WHERE id = 'a')"
B: Final = "(SELECT rid FROM resource WHERE id = 'b')"
C: Final = "(SELECT rid FROM resource WHERE id = 'c')"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "store.db"
    asyncio.run(fill(path))
    return path


def examined(path: Path, *, repair: bool = False) -> tuple[Report, list[str]]:
    told: list[str] = []

    def tell(fault: Fault, mended: bool) -> None:
        told.append(f"{fault}{' (mended)' if mended else ''}")

    return check(path, repair=repair, told=tell, progress=lambda _done, _total: None), told


def test_a_sound_file_is_found_sound(path: Path) -> None:
    report, told = examined(path)
    assert told == []
    assert (report.resources, report.versions, report.sound) == (4, 7, True)
    assert report.entries > 20


async def test_a_whole_caseload_is_found_sound(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = SqliteStore(path)
    entries = [entry["resource"] for bundle in caseload() for entry in bundle["entry"]]
    try:
        await put(store, *(one for one in entries if "id" in one))
    finally:
        await store.close()
    report, told = examined(path)
    assert told == []
    assert report.resources > 300


CURABLE: Final = {
    "an entry is gone": (
        f"DELETE FROM entry WHERE rid = {A} AND parameter ="
        " (SELECT number FROM parameter WHERE type = 'Patient' AND code = 'gender')",
        "Patient/a: index entries of 'gender': 1 missing",
    ),
    "an entry has another value": (
        f"UPDATE entry SET low = low + 1 WHERE rid = {A} AND parameter ="
        " (SELECT number FROM parameter WHERE type = 'Patient' AND code = 'gender')",
        "Patient/a: index entries of 'gender': 1 missing, 1 that should not be there",
    ),
    "an entry of an added parameter is gone": (
        f"DELETE FROM entry WHERE rid = {B} AND parameter ="
        " (SELECT number FROM parameter WHERE code LIKE 'x~%')",
        "Patient/b: index entries of 'x~1': 1 missing",
    ),
    "a string is gone": (
        f"DELETE FROM entry_string WHERE rid = {B} AND text = 'beech' AND parameter ="
        " (SELECT number FROM parameter WHERE type = 'Patient' AND code = 'family')",
        "Patient/b: index entries of 'family': 1 missing",
    ),
    "an entry has no parameter": (
        f"INSERT INTO entry VALUES ({A}, 9999, 0, 1, 1, NULL, NULL, NULL)",
        "Patient/a: index entries of 'None': 1 that should not be there",
    ),
    "what is deleted has entries": (
        f"INSERT INTO entry SELECT {C}, parameter, ordinal, low, high, text, system, unit"
        f" FROM entry WHERE rid = {A} AND text = 'male' AND parameter < 9 LIMIT 1",
        "Patient/c: index entries of",
    ),
    "words are gone": (
        f"DELETE FROM fulltext WHERE rowid = {A}",
        "Patient/a: index entries of the words of its text: 1 missing",
    ),
    "new words stand in the way": (
        f"INSERT INTO fulltext_new VALUES ({A}, ' other ', '')",
        "Patient/a: index entries of the words of its text: 1 missing, 1 that should not",
    ),
    "the index of words lacks them": (
        "DELETE FROM fulltext_data WHERE id > 10",
        "fulltext: the index of words is not that of the texts",
    ),
    "the index of words has another one": (
        f"UPDATE fulltext_content SET c0 = ' fond of drains and of rain ' WHERE id = {A}",
        "fulltext: the index of words is not that of the texts",
    ),
    "a contained resource is gone": (
        "DELETE FROM contained",
        "CarePlan/plan: index entries of a contained resource: 1 missing",
    ),
    "the row points to an older version": (
        f"UPDATE resource SET (version, seq) = (SELECT version, seq FROM version v"
        f" WHERE v.rid = resource.rid AND v.version = 1) WHERE rid = {B}",
        "Patient/b: its row points to version 1 (number 2), and the newest is version 3 (number 5)",
    ),
    "what is deleted is said to be there": (
        f"UPDATE resource SET deleted = 0 WHERE rid = {C}",
        "Patient/c: its row points to version 2",
    ),
    "entries of no resource": (
        "INSERT INTO entry VALUES (7777, 1, 0, 1, 1, NULL, NULL, NULL)",
        "entry: index entries of no resource (row 7777)",
    ),
    "strings of no resource": (
        "INSERT INTO entry_string VALUES (7777, 1, 0, 'x', 'x')",
        "entry_string: index entries of no resource (row 7777)",
    ),
    "words of no resource": (
        "INSERT INTO fulltext (rowid, narrative, content) VALUES (7777, ' x ', '')",
        "fulltext: index entries of no resource (row 7777)",
    ),
    "new words of no resource": (
        "INSERT INTO fulltext_new VALUES (7777, ' x ', '')",
        "fulltext_new: index entries of no resource (row 7777)",
    ),
    "contained in no resource": (
        "INSERT INTO contained VALUES (-50, 'CarePlan#Goal', 'x', 7777)",
        "contained: index entries of no resource (row -50)",
    ),
    "an index of the database is gone": (
        "DROP INDEX entry_by_value",
        "the file: the index entry_by_value is missing",
    ),
    "the secret of the index is gone": (
        "DELETE FROM setting WHERE name = 'secret:index'",
        "setting: the secret of the index is missing",
    ),
}


@pytest.mark.parametrize("name", CURABLE)
def test_finds_and_mends(path: Path, name: str) -> None:
    statement, expected = CURABLE[name]
    damage(path, statement)
    before = [*rows(path, "SELECT * FROM entry"), *rows(path, "SELECT * FROM resource")]
    report, told = examined(path)
    assert any(one.startswith(expected) for one in told), told
    assert not report.sound
    after = [*rows(path, "SELECT * FROM entry"), *rows(path, "SELECT * FROM resource")]
    assert after == before, "a check alone writes nothing"
    report, told = examined(path, repair=True)
    assert report.sound, told
    assert all(one.endswith(" (mended)") for one in told)
    assert examined(path)[1] == []


async def test_what_is_mended_is_found_again(path: Path) -> None:
    damage(path, *(statement for statement, _ in CURABLE.values() if "DROP" not in statement))
    await asyncio.to_thread(lambda: examined(path, repair=True))
    assert await asyncio.to_thread(lambda: examined(path)[1]) == []
    store = SqliteStore(path)
    try:
        assert await found(store, "Patient?gender=male") == ["a"]
        assert await found(store, "Patient?x=other&family=beech") == ["b"]
        assert await found(store, "Patient?_text=trains") == ["a"]
        assert await found(store, "CarePlan?_contained=false&status=active") == ["plan"]
        assert await found(store, "Patient?_sort=_id") == ["a", "b"]
    finally:
        await store.close()


def test_finds_and_mends_a_row_that_an_index_of_the_database_lacks(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        kept = connection.execute("SELECT * FROM sqlite_schema WHERE name = 'entry_by_value'")
        row = kept.fetchone()
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("DELETE FROM sqlite_schema WHERE name = 'entry_by_value'")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"UPDATE entry SET low = low + 1 WHERE rid = {A}")
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("INSERT INTO sqlite_schema VALUES (?, ?, ?, ?, ?)", row)
    told = examined(path)[1]
    assert any("missing from index entry_by_value" in one for one in told), told
    report, told = examined(path, repair=True)
    assert report.sound, told
    assert examined(path)[1] == []


INCURABLE: Final = {
    "a version is gone": (
        f"DELETE FROM version WHERE rid = {B} AND version = 2",
        ["Patient/b: version 2 is missing", "version: 1 numbers of versions are missing"],
    ),
    "the first version is gone": (
        f"DELETE FROM version WHERE rid = {B} AND version = 1",
        ["Patient/b: version 1 is missing", "version: 1 numbers of versions are missing"],
    ),
    "all versions are gone": (
        f"DELETE FROM version WHERE rid = {A}",
        ["Patient/a: has no version", "version: 1 numbers"],
    ),
    "a resource is gone": (
        "DELETE FROM resource WHERE id = 'a'",
        ["version: 1 versions belong to no resource (row 1)"],
    ),
    "a body is cut off": (
        f"UPDATE version SET body = substr(body, 1, 20) WHERE rid = {A}",
        ["Patient/a: version 1 cannot be read"],
    ),
    "a body is text": (
        f"UPDATE version SET body = '{{}}' WHERE rid = {A}",
        ["Patient/a: version 1 is not stored as bytes"],
    ),
    "a body is another's": (
        f"UPDATE version SET body = (SELECT body FROM version WHERE rid = {A})"
        f" WHERE rid = {B} AND version = 1",
        ["Patient/b: version 1 has another id", "Patient/b: version 1 has another lastUpdated"],
    ),
    "a body is gone": (
        f"UPDATE version SET body = x'' WHERE rid = {B} AND version = 1",
        ["Patient/b: version 1 is half a deletion"],
    ),
    "an older version has a later time": (
        f"UPDATE version SET updated = updated + 10000000000 WHERE rid = {B} AND version = 1",
        ["Patient/b: version 2 is not later than version 1"],
    ),
    "versions are in another order": (
        f"UPDATE version SET seq = 100 WHERE rid = {B} AND version = 1",
        ["Patient/b: version 2 is not later than version 1"],
    ),
    "a table is gone": ("DROP TABLE memo", ["the file: the table memo is missing or another"]),
}


@pytest.mark.parametrize("name", INCURABLE)
def test_finds_and_says_that_only_a_backup_helps(path: Path, name: str) -> None:
    statement, expected = INCURABLE[name]
    damage(path, statement)
    for repair in (False, True):
        report, told = examined(path, repair=repair)
        assert not report.sound
        for text in expected:
            assert any(one.startswith(text) and "only a backup" in one for one in told), told


def test_a_damaged_page_is_a_fault_and_no_traceback(path: Path) -> None:
    damage(path, "PRAGMA wal_checkpoint(TRUNCATE)")
    (page,) = rows(path, "SELECT rootpage FROM sqlite_schema WHERE name = 'version'")[0]
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 4096)
    report, told = examined(path, repair=True)
    assert not report.sound
    assert any("only a backup" in one or "cannot be read" in one for one in told)


def test_a_parameter_that_is_being_built_may_lack_entries(path: Path) -> None:
    asyncio.run(_begin_another(path))
    assert examined(path)[1] == []


async def _begin_another(path: Path) -> None:
    store = SqliteStore(path)

    async def work(unit: Unit) -> None:
        known = await unit.parameters()
        other = Definition("urn:y", "y", "string", "Patient.name.family", ("Patient",))
        await unit.define(known.defined("two", other).begun(whole=False))

    try:
        await store.commit(work)
        await put(store, patient("d", "Damson"))
    finally:
        await store.close()


@pytest.mark.parametrize("repair", [False, True])
def test_goes_on_beside_writers(path: Path, repair: bool) -> None:
    stop = threading.Event()
    written: list[int] = []
    thread = threading.Thread(target=lambda: asyncio.run(_write(path, stop, written)))
    thread.start()
    looked = 0
    try:
        while looked < 5 or (len(written) < 30 and thread.is_alive()):
            assert examined(path, repair=repair)[1] == []
            looked += 1
    finally:
        stop.set()
        thread.join()
    assert len(written) >= 30
    assert examined(path)[1] == []


async def _write(path: Path, stop: threading.Event, written: list[int]) -> None:
    store = SqliteStore(path)
    try:
        while not stop.is_set():
            number = len(written) + 1
            await put(store, patient(f"p{number % 20}", f"Name{number}", gender="male"))
            written.append(number)
    finally:
        await store.close()


def test_a_file_of_an_earlier_release_is_refused(path: Path) -> None:
    damage(path, "PRAGMA user_version = 2")
    with pytest.raises(RuntimeError, match="an earlier release has made it"):
        examined(path)
    damage(path, "PRAGMA user_version = 99")
    with pytest.raises(RuntimeError, match="it has schema 99; this release knows"):
        examined(path)


def test_words_wait_to_be_moved_without_a_fault(path: Path) -> None:
    asyncio.run(_write_few(path))
    assert rows(path, "SELECT count(*) FROM fulltext_new") != [(0,)]
    assert fulltext.MOVED_AT > 3
    assert examined(path)[1] == []


async def _write_few(path: Path) -> None:
    store = SqliteStore(path)
    try:
        await put(store, patient("a", "Alder"), patient("e", "Elm"))
    finally:
        await store.close()
