"""Files as earlier releases left them are brought up to date when they are opened.

`schemas/N.sql` is a file that the release with schema N wrote, as statements: two patients (one in
two versions), one deleted, a care plan with a contained goal, rows of the audit.
"""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from fhir_server.storage.interface import HistoryOf, Memo, Unit
from fhir_server.storage.sqlite.backup import back_up, restore
from fhir_server.storage.sqlite.schema import MIGRATIONS
from fhir_server.storage.sqlite.store import SqliteStore
from tests.storage.kept import rows
from tests.storage.questions import delete, found, patient, put, versions
from tests.storage.test_backup import quietly
from tests.storage.test_check import examined

FOLDER: Final = Path(__file__).parent / "schemas"
EARLIER: Final = range(1, len(MIGRATIONS))

_AUDITED: Final = """
    SELECT number, at, told ->> 'caller', told ->> 'request_id',
        (SELECT group_concat(value, ' ') FROM json_each(told, '$.targets'))
    FROM audit
"""


@pytest.fixture(params=EARLIER)
def path(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A file with an earlier schema."""
    path = tmp_path / "store.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((FOLDER / f"{request.param}.sql").read_text())
        assert connection.execute("PRAGMA user_version").fetchone() == (request.param,)
    return path


def test_there_is_a_file_of_each_earlier_schema() -> None:
    assert sorted(int(one.stem) for one in FOLDER.iterdir()) == [*EARLIER]


async def test_everything_is_found(path: Path) -> None:
    has_chain = rows(path, "PRAGMA user_version") >= [(6,)]
    audited = rows(
        path, _AUDITED if has_chain else "SELECT number, at, caller, request_id, targets FROM audit"
    )
    store = SqliteStore(path)
    try:
        assert await found(store, "Patient?family=ash&gender=male&birthdate=2011") == ["a"]
        assert await found(store, "Patient?identifier=9990000018") == ["a"]
        assert await found(store, "Patient?_sort=_id") == ["a", "b"]
        assert await found(store, "Patient?family=birch") == []
        assert await found(store, "Patient?_text=trains") == ["a"]  # since schema 3
        assert await found(store, "CarePlan?patient=a&status=active") == ["plan"]
        assert await found(store, "CarePlan?subject:Patient.family=ash") == ["plan"]
        gone = await store.read("Patient", "c")
        assert gone is not None
        assert gone.deleted
        assert versions(await store.history(HistoryOf("Patient", "b"), 10)) == [2, 1]
        assert [seq for seq, _ in await store.changes(0, 10)] == [1, 2, 3, 4, 5, 6]
    finally:
        await store.close()
    assert rows(path, "SELECT type, id FROM contained") == [("CarePlan#Goal", "g")]  # since 4
    assert rows(path, _AUDITED) == audited
    assert rows(path, "SELECT count(DISTINCT hash) FROM audit") == [(len(audited),)]  # since 6
    assert rows(path, "PRAGMA user_version") == [(len(MIGRATIONS),)]


async def test_everything_is_written(path: Path) -> None:
    store = SqliteStore(path)
    try:
        await put(store, patient("b", "Beech", gender="other"), patient("c", "Cherry"))
        await put(store, patient("d", "Damson"))
        await delete(store, "Patient", "a")
        await store.commit(_keep)
        assert await found(store, "Patient?_sort=_id") == ["b", "c", "d"]
        assert await found(store, "Patient?family=cherry,damson&_sort=_id") == ["c", "d"]
        assert versions(await store.history(HistoryOf("Patient", "b"), 10)) == [3, 2, 1]
        assert await store.memo("space", "other") == Memo("space", "other", b"kept")
    finally:
        await store.close()
    assert await asyncio.to_thread(lambda: examined(path)[1]) == []


async def _keep(unit: Unit) -> None:
    await unit.keep(Memo("space", "other", b"kept"))


def test_the_migrated_file_is_sound(path: Path) -> None:
    asyncio.run(_open(path))
    report, told = examined(path)
    assert told == []
    assert (report.resources, report.versions) == (4, 6)


async def _open(path: Path) -> None:
    await SqliteStore(path).close()


def test_it_is_backed_up_and_restored_as_it_is(path: Path, tmp_path: Path) -> None:
    """A backup before a new release is started, and the backups of years ago."""
    version = rows(path, "PRAGMA user_version")
    assert back_up(path, tmp_path / "backup.db", quietly).versions == 6
    assert restore(tmp_path / "backup.db", tmp_path / "again.db", quietly).resources == 4
    assert rows(tmp_path / "again.db", "PRAGMA user_version") == version
    asyncio.run(_open(tmp_path / "again.db"))
    assert examined(tmp_path / "again.db")[1] == []


def test_many_may_open_it_at_once(path: Path) -> None:
    asyncio.run(_open_many(path))
    assert examined(path)[1] == []


async def _open_many(path: Path) -> None:
    stores = await asyncio.gather(*(asyncio.to_thread(SqliteStore, path) for _ in range(6)))
    for one in stores:
        await one.close()
