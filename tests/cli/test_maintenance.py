"""`keyworking backup | restore | check | prune`: what they do, what they say, how they exit."""

import asyncio
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from pymongo import MongoClient

from fhir_server import maintenance
from fhir_server.access.caller import ANONYMOUS, caller_to_json
from fhir_server.access.facts import remaking
from fhir_server.access.facts.kept import PART
from fhir_server.cli import main
from fhir_server.events.asked import Asked
from fhir_server.events.record import Record, keep
from fhir_server.storage.audited import AuditRow
from fhir_server.storage.interface import Unit
from fhir_server.storage.mongo.store import open_mongo
from fhir_server.storage.sqlite.store import SqliteStore
from tests.mongo import URL, mongo_url
from tests.storage.backends import BACKENDS, database_of
from tests.storage.kept import damage, fill, rows
from tests.storage.questions import found, patient, put


@pytest.fixture(autouse=True)
def _no_settings_but_the_test_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*os.environ]:
        if name.upper().startswith("KEYWORKING_") and name != URL:
            monkeypatch.delenv(name)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store, which the environment names."""
    path = tmp_path / "store.db"
    asyncio.run(fill(path))
    monkeypatch.setenv("KEYWORKING_STORE", f"sqlite:///{path}")
    return path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments], catch_exceptions=False)


def refused(*arguments: str, status: int = 1) -> str:
    """The one line of a command that did nothing."""
    result = run(*arguments)
    assert result.exit_code == status, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    return line.removeprefix("Error: ")


async def served(path: Path) -> list[str]:
    store = SqliteStore(path)
    try:
        return await found(store, "Patient?_sort=_id")
    finally:
        await store.close()


def test_a_backup_is_made_and_restored(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "backup.db"
    made = run("backup", str(target))
    assert made.exit_code == 0, made.output
    size = f"{target.stat().st_size:,}"
    assert made.stdout == (
        f"{path} is backed up in {target}, which was read back: "
        f"4 resources, 7 versions, {size} bytes\n"
    )
    again = tmp_path / "again.db"
    restored = run("restore", str(target), "--store", f"sqlite:///{again}")
    assert restored.exit_code == 0, restored.output
    assert restored.stdout == (
        f"{again} is what was backed up in {target}: 4 resources, 7 versions, {size} bytes\n"
    )
    assert asyncio.run(served(again)) == ["a", "b"]


def test_a_store_is_written_over_with_replace_alone(path: Path, tmp_path: Path) -> None:
    target = str(tmp_path / "backup.db")
    assert run("backup", target).exit_code == 0
    assert refused("backup", target) == (
        f"{target} is there already; a backup is never written over another"
    )
    damage(path, "DELETE FROM resource")
    assert refused("restore", target) == f"There is a store {path}; --replace writes over it"
    assert run("restore", target, "--replace").exit_code == 0
    assert asyncio.run(served(path)) == ["a", "b"]


async def test_a_store_that_is_open_is_not_written_over(path: Path, tmp_path: Path) -> None:
    target = str(tmp_path / "backup.db")
    store = SqliteStore(path)
    try:
        assert (await asyncio.to_thread(run, "backup", target)).exit_code == 0
        line = await asyncio.to_thread(refused, "restore", target, "--replace")
        assert line == f"A server or another command has {path} open; stop it first"
    finally:
        await store.close()


def test_a_backup_that_cannot_be_written_is_one_line(path: Path, tmp_path: Path) -> None:
    line = refused("backup", str(tmp_path / "nowhere" / "backup.db"))
    assert line.startswith(f"{path} cannot be backed up: ")
    assert "No such file or directory" in line


def test_what_is_no_backup_is_one_line(path: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.db"
    text.write_text("This is no database, but a text that is long enough. " * 20)
    kept = path.read_bytes()
    line = refused("restore", str(text), "--replace")
    assert line == f"{text} cannot be restored to {path}: file is not a database"
    assert path.read_bytes() == kept


def test_a_damaged_store_gets_no_backup(path: Path, tmp_path: Path) -> None:
    damage(path, "UPDATE version SET body = x'7b' WHERE rid = 1")
    line = refused("backup", str(tmp_path / "backup.db"))
    assert line.startswith("The copy is not sound: Patient/a: version 1 cannot be read")
    assert not (tmp_path / "backup.db").exists()


def test_a_sound_store_is_said_to_be_sound(path: Path) -> None:
    result = run("check", "--store", f"sqlite:///{path}")
    assert result.exit_code == 0
    looked, sound = result.stdout.splitlines()
    assert looked.startswith("Looked at 4 resources, 7 versions and ")
    assert sound == "The store is sound."


def test_faults_are_named_and_mended(path: Path) -> None:
    damage(path, "DELETE FROM entry_string WHERE rid = 1 AND text = 'ash'")
    result = run("check")
    assert result.exit_code == 1
    *faults, _, last = result.stdout.splitlines()
    assert "Patient/a: index entries of 'family': 1 missing [--repair mends it]" in faults
    assert last == f"Faults: {len(faults)}, of which mended: 0."
    result = run("check", "--repair")
    assert result.exit_code == 0
    assert "Patient/a: index entries of 'family': 1 missing [mended]" in result.stdout
    assert run("check").stdout.splitlines()[-1] == "The store is sound."


async def spoil_facts(path: Path) -> None:
    """A store with facts, one of which is gone."""
    store = SqliteStore(path)
    await remaking.ensure(store)
    await store.commit(lambda unit: unit.forget(PART, "Patient/a>"))
    await store.close()


def test_facts_by_which_access_is_decided_are_checked_and_mended(path: Path) -> None:
    asyncio.run(spoil_facts(path))
    wrong = "Patient/a: who may see whom by it is not what it says"
    found = run("check")
    assert found.exit_code == 1
    assert f"{wrong} [keyworking reindex --all mends it]" in found.stdout
    assert "Faults: 1, of which mended: 0." in found.stdout
    mended = run("check", "--repair")
    assert mended.exit_code == 0, mended.output
    assert f"{wrong} [mended]" in mended.stdout
    assert "The store is sound." in run("check").stdout


def test_a_whole_reindex_makes_the_facts_anew(path: Path) -> None:
    asyncio.run(spoil_facts(path))
    assert run("reindex", "--all").exit_code == 0
    assert "The store is sound." in run("check").stdout


def test_what_cannot_be_mended_is_said(path: Path) -> None:
    damage(path, "UPDATE version SET body = x'7b' WHERE rid = 1")
    expected = "only a backup has what was there"
    result = run("check")
    assert result.exit_code == 1
    assert f"{expected} [cannot be mended]" in result.stdout
    result = run("check", "--repair")
    assert result.exit_code == 1
    assert f"{expected} [not mended]" in result.stdout


def test_many_faults_are_counted_and_not_all_told(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "_TOLD", 2)
    damage(path, "DELETE FROM entry_string")
    *faults, more, _, last = run("check").stdout.splitlines()
    assert len(faults) == 2
    count = int(last.removeprefix("Faults: ").partition(",")[0])
    assert more == f"... and {count - 2} more"


def test_progress_is_told_now_and_then(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance, "_BETWEEN", -1.0)
    assert run("check").stdout.splitlines()[0] == "4 of 4 resources, 100 %"
    assert path.is_file()


@pytest.mark.parametrize(
    ("command", "status"), [(["check"], 2), (["backup", "x.db"], 1), (["prune"], 1)]
)
def test_a_store_that_is_not_there_is_one_line(
    tmp_path: Path, command: list[str], status: int
) -> None:
    store = tmp_path / "nothing.db"
    line = refused(*command, "--store", f"sqlite:///{store}", status=status)
    assert line == f"There is no store {store}"
    assert not store.exists()


@pytest.mark.parametrize("command", [["check"], ["prune"]])
def test_a_store_of_an_earlier_release_is_one_line(
    path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setenv("KEYWORKING_KEEP_HISTORY", "1")
    damage(path, "PRAGMA user_version = 1")
    line = refused(*command, status=2 if command == ["check"] else 1)
    assert "an earlier release has made it; start this release's server once" in line


@pytest.mark.parametrize(
    ("command", "instead"),
    [
        (["backup", "FILE"], "mongodump --oplog, or a snapshot of its volumes, backs MongoDB up"),
        (["restore", "FILE"], "mongorestore --oplogReplay restores what mongodump has made"),
        (["check", "--repair"], "keyworking reindex --all makes the index of a MongoDB store anew"),
    ],
)
def test_what_mongodb_does_better_is_referred_to_it(
    command: list[str], instead: str, tmp_path: Path
) -> None:
    file = tmp_path / "x.db"
    if "restore" in command:
        file.touch()
    arguments = [str(file) if one == "FILE" else one for one in command]
    address = "mongodb://me:secret@localhost/x"
    status = 2 if "check" in command else 1
    line = refused(*arguments, "--store", address, status=status)
    assert (
        line
        == f"keyworking {' '.join(command).removesuffix(' FILE')} is for SQLite stores; {instead}"
    )


def test_a_mongodb_store_is_checked(tmp_path: Path) -> None:
    url = mongo_url(database_of(tmp_path))
    line = refused("check", "--store", url, status=2)
    assert line.startswith(f"{url} cannot be checked: there is no store in this database")
    asyncio.run(fill_mongo(tmp_path))
    sound = run("check", "--store", url)
    assert (sound.exit_code, sound.stdout.splitlines()[-1]) == (0, "The store is sound.")
    with MongoClient[dict[str, Any]](url) as client:
        client[database_of(tmp_path)].version.update_one({"id": "a"}, {"$unset": {"t": ""}})
    faulty = run("check", "--store", url)
    assert faulty.exit_code == 1
    assert faulty.stdout.splitlines() == [
        "Patient/a: its index entries (t) are not those of its content; "
        "keyworking reindex --all makes it anew",
        "Looked at 1 resources, 1 versions and 0 index entries.",
        "Faults: 1, of which mended: 0.",
    ]
    anew = CliRunner().invoke(main, ["reindex", "--all", "--store", url], catch_exceptions=False)
    assert anew.exit_code == 0, anew.output
    assert run("check", "--store", url).exit_code == 0


async def fill_mongo(place: Path) -> None:
    store = await BACKENDS["mongo"].open(place)
    await put(store, patient("a", "Ash"))
    await store.close()


# Retention


def test_nothing_is_pruned_unless_a_setting_says_so(path: Path) -> None:
    before = rows(path, "SELECT * FROM version")
    result = run("prune")
    assert result.exit_code == 0
    assert result.stdout.startswith("Everything is kept")
    assert rows(path, "SELECT * FROM version") == before


def later(monkeypatch: pytest.MonkeyPatch, days: int) -> None:
    """The commands run so many days from now."""

    class Later(datetime):
        @classmethod
        def now(cls, _zone: object = None) -> datetime:  # type: ignore[override]
            return datetime.now(UTC) + timedelta(days=days)

    monkeypatch.setattr(maintenance, "datetime", Later)


def test_versions_go_by_their_number(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYWORKING_KEEP_VERSIONS", "2")
    # A POST that is sent again within a day is answered with the version that it made.
    assert run("prune").stdout.startswith("Took out 0 older versions")
    later(monkeypatch, days=2)
    assert run("prune", "--dry-run").stdout.startswith("Would take out 1 older versions (")
    assert rows(path, "SELECT count(*) FROM version") == [(7,)]
    assert run("prune").stdout.startswith("Took out 1 older versions (")
    assert rows(path, "SELECT count(*) FROM version") == [(6,)]
    assert run("check").exit_code == 0


@pytest.mark.parametrize(("status", "taken"), [("active", 0), ("error", 0), ("off", 1)])
def test_what_a_subscription_has_not_looked_at_stays(
    path: Path, monkeypatch: pytest.MonkeyPatch, status: str, taken: int
) -> None:
    asyncio.run(_subscribe(path, status))
    monkeypatch.setenv("KEYWORKING_KEEP_VERSIONS", "2")
    later(monkeypatch, days=2)
    assert run("prune").stdout.startswith(f"Took out {taken} older versions")


async def _subscribe(path: Path, status: str) -> None:
    """Before everything that is in the store."""
    who = caller_to_json(ANONYMOUS)
    asked = Asked("", "Patient?active=true", (), "websocket")
    record = Record("s", who, asked, status, "mark", cursor=0, end=0)

    async def work(unit: Unit) -> None:
        await keep(unit, record)

    store = SqliteStore(path)
    await store.commit(work)
    await store.close()


@pytest.mark.parametrize(("age", "left"), [(29, 7), (31, 4)])
def test_versions_and_audit_go_by_their_age(
    path: Path, monkeypatch: pytest.MonkeyPatch, age: int, left: int
) -> None:
    """Those of now, seen so many days later."""
    monkeypatch.setenv("KEYWORKING_KEEP_HISTORY", "30")
    monkeypatch.setenv("KEYWORKING_KEEP_AUDIT", "30")
    asyncio.run(_audited_once_more(path))

    later(monkeypatch, age)
    assert run("prune").exit_code == 0
    assert rows(path, "SELECT count(*) FROM version") == [(left,)]
    # In the place of the first stands the row that tells of its end.
    expected = (1, 2) if age < 30 else (2, 3)
    assert rows(path, "SELECT min(number), max(number) FROM audit") == [expected]


def test_of_a_mongodb_store_the_audit_alone_is_pruned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = mongo_url(database_of(tmp_path))
    line = refused("prune", "--store", url, status=1)
    assert "in MongoDB every version is kept; KEYWORKING_KEEP_AUDIT says for how long" in line
    asyncio.run(_some_rows(url))
    monkeypatch.setenv("KEYWORKING_KEEP_AUDIT", "30")
    monkeypatch.setenv("KEYWORKING_KEEP_VERSIONS", "1")
    later(monkeypatch, 31)
    told = run("prune", "--dry-run", "--store", url).stdout
    assert "KEYWORKING_KEEP_HISTORY and _VERSIONS do nothing" in told
    assert "Would take out 2 rows of the audit." in told
    assert "Took out 2 rows of the audit." in run("prune", "--store", url).stdout
    assert "Rows up to 2 were pruned." in run("audit", "verify", "--store", url).stdout


async def _some_rows(url: str) -> None:
    store = await open_mongo(url)
    for _ in range(3):
        await store.commit(lambda unit: unit.audit(AuditRow("x", "x")))
    await store.close()


async def _audited_once_more(path: Path) -> None:
    async def work(unit: Unit) -> None:
        await unit.audit(AuditRow("x", "x"))

    store = SqliteStore(path)
    await store.commit(work)
    await store.close()


@pytest.mark.parametrize("name", ["KEEP_HISTORY", "KEEP_VERSIONS", "KEEP_AUDIT"])
def test_a_retention_of_nothing_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(f"KEYWORKING_{name}", "0")
    assert "greater than or equal to 1" in refused("prune")
    assert path.is_file()
