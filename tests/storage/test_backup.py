"""A backup is the store at one moment, made while servers write, and comes back as it was."""

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from fhir_server.fhir import json
from fhir_server.storage.sqlite import backup
from fhir_server.storage.sqlite.backup import Contents, Unusable, back_up, restore
from fhir_server.storage.sqlite.store import SqliteStore
from tests.storage.kept import damage, fill, rows
from tests.storage.questions import found, patient, put
from tests.storage.test_check import examined
from tests.support import REPOSITORY

ALL: Final = "SELECT * FROM {} ORDER BY 1, 2"
TABLES: Final = (
    "setting",
    "parameter",
    "resource",
    "version",
    "entry",
    "entry_string",
    "fulltext",
    "fulltext_new",
    "contained",
    "memo",
    "audit",
    "audit_name",
    "pruned",
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "store.db"
    asyncio.run(fill(path))
    return path


def quietly(_done: int, _total: int) -> None:
    """Progress that nobody is told."""


def everything(path: Path) -> dict[str, object]:
    return {table: rows(path, ALL.format(table)) for table in TABLES}


def test_what_is_restored_is_what_was_backed_up(path: Path, tmp_path: Path) -> None:
    target, again = tmp_path / "backup.db", tmp_path / "deep" / "down" / "again.db"
    told: list[tuple[int, int]] = []
    made = back_up(path, target, lambda done, total: told.append((done, total)))
    assert (made.resources, made.versions) == (4, 7)
    assert made == Contents(4, 7, target.stat().st_size)
    assert told[-1][0] == told[-1][1] > 0
    assert restore(target, again, quietly).versions == 7
    assert everything(again) == everything(path)
    assert examined(again)[1] == []


def test_a_backup_is_one_file_for_its_owner_alone(path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    back_up(path, folder / "one.db", quietly)
    assert [one.name for one in folder.iterdir()] == ["one.db"]
    assert stat.S_IMODE((folder / "one.db").stat().st_mode) == 0o600
    assert (folder / "one.db").read_bytes()[18:20] == b"\1\1"  # no log beside it
    assert stat.S_IMODE(path.stat().st_mode) == 0o600  # and the store itself


def test_a_backup_is_never_written_over_another(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "backup.db"
    target.write_text("precious")
    with pytest.raises(Unusable, match="is there already"):
        back_up(path, target, quietly)
    assert target.read_text() == "precious"


def test_a_backup_beside_writers_is_the_store_at_one_moment(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In steps of one page, each with a commit of another connection after it."""
    monkeypatch.setattr(backup, "_PAGES", 1)
    before = rows(path, "SELECT seq FROM version")
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:

        def write(done: int, _total: int) -> None:
            row = (f"caller{done}".encode(),)
            writer.execute("INSERT INTO audit (at, told, hash) VALUES (1, ?, '')", row)

        back_up(path, tmp_path / "backup.db", write)
    assert rows(tmp_path / "backup.db", "SELECT seq FROM version") == before
    assert rows(tmp_path / "backup.db", "SELECT count(*) FROM audit") == [(1,)]
    assert rows(path, "SELECT count(*) FROM audit")[0][0] > 20


def test_backups_of_a_busy_store_are_sound_and_lose_nothing_that_was_there(
    path: Path, tmp_path: Path
) -> None:
    stop = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(_write(path, stop)))
    thread.start()
    made: list[Contents] = []
    try:
        enough = 40
        while len(made) < 4 or (made[-1].versions < enough and thread.is_alive()):
            made.append(back_up(path, tmp_path / f"{len(made)}.db", quietly))
            enough = max(40, made[0].versions + 1)
    finally:
        stop.set()
        thread.join()
    for number, one in enumerate(made):
        copy = tmp_path / f"{number}.db"
        assert rows(copy, "SELECT max(seq), count(*) FROM version") == [(one.versions,) * 2]
        assert examined(copy)[1] == []
    assert made[0].versions < made[-1].versions


async def _write(path: Path, stop: threading.Event) -> None:
    store = SqliteStore(path)
    number = 0
    try:
        while not stop.is_set():
            number += 1
            await asyncio.gather(*(put(store, patient(f"p{n}", f"Name{number}")) for n in range(8)))
    finally:
        await store.close()


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        ("UPDATE version SET body = x'7b' WHERE rid = 1", "Patient/a: version 1 cannot be read"),
        ("DELETE FROM fulltext_data WHERE id > 10", "the index of words"),
        ("DELETE FROM resource WHERE rid = 1", "None/None: version 1 has another resourceType"),
    ],
)
def test_a_copy_that_is_not_sound_gets_no_name(
    path: Path, tmp_path: Path, statement: str, text: str
) -> None:
    damage(path, statement)
    folder = tmp_path / "backups"
    folder.mkdir()
    with pytest.raises(Unusable, match=text):
        back_up(path, folder / "backup.db", quietly)
    assert [*folder.iterdir()] == []


def test_a_copy_that_cannot_be_written_leaves_nothing(path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()

    def full(_done: int, _total: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        back_up(path, folder / "backup.db", full)
    assert [*folder.iterdir()] == []


def test_what_is_no_store_is_neither_backed_up_nor_restored(tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    damage(other, "CREATE TABLE x (y)")
    for attempt in (back_up, restore):
        with pytest.raises(RuntimeError, match="not a store of this server"):
            attempt(other, tmp_path / "target.db", quietly)
    damage(other, "PRAGMA user_version = 99")
    with pytest.raises(RuntimeError, match="it has schema 99"):
        restore(other, tmp_path / "target.db", quietly)
    assert not (tmp_path / "target.db").exists()


# Restoring over a store


def test_a_store_is_written_over_only_when_that_is_asked_for(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "backup.db"
    back_up(path, target, quietly)
    asyncio.run(_add(path))
    kept = everything(path)
    with pytest.raises(Unusable, match="--replace"):
        restore(target, path, quietly)
    assert everything(path) == kept
    restore(target, path, quietly, replace=True)
    assert everything(path) == everything(target)
    assert asyncio.run(_served(path)) == ["a", "b"]
    assert examined(path)[1] == []


async def _add(path: Path) -> None:
    store = SqliteStore(path)
    try:
        await put(store, *(patient(f"new{n}", "New" * 50) for n in range(500)))
    finally:
        await store.close()


async def _served(path: Path) -> list[str]:
    store = SqliteStore(path)
    try:
        return await found(store, "Patient?_sort=_id")
    finally:
        await store.close()


def test_a_store_that_a_server_has_open_is_not_written_over(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "backup.db"
    back_up(path, target, quietly)
    asyncio.run(_refused_while_open(path, target))
    restore(target, path, quietly, replace=True)  # and now that it is closed


async def _refused_while_open(path: Path, target: Path) -> None:
    store = SqliteStore(path)
    try:
        with pytest.raises(Unusable, match=r"has .* open; stop it first"):
            await asyncio.to_thread(restore, target, path, quietly, replace=True)
        await put(store, patient("a", "Alder"))
    finally:
        await store.close()


HOLDER: Final = """
import pathlib, sys, time
from fhir_server.storage.sqlite.store import SqliteStore
store = SqliteStore(pathlib.Path(sys.argv[1]))
print("open", flush=True)
time.sleep(600)
"""


def test_the_lock_of_a_killed_server_is_gone_with_it(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "backup.db"
    back_up(path, target, quietly)
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"open\n"
        with pytest.raises(Unusable, match=r"has .* open"):
            restore(target, path, quietly, replace=True)
        server.kill()
    restore(target, path, quietly, replace=True)
    assert everything(path) == everything(target)


def test_an_interrupted_restore_leaves_the_old_store(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "backup.db"
    back_up(path, target, quietly)
    asyncio.run(_add(path))
    kept = everything(path)
    pour, calls = backup._pour, list[int]()

    def breaks_off(
        source: sqlite3.Connection, target: sqlite3.Connection, progress: backup.Progress
    ) -> None:
        calls.append(1)
        if len(calls) == 2:

            def stop(_done: int, _total: int) -> None:
                raise KeyboardInterrupt

            monkeypatch.setattr(backup, "_PAGES", 5)
            progress = stop
        pour(source, target, progress)

    monkeypatch.setattr(backup, "_pour", breaks_off)
    with pytest.raises(KeyboardInterrupt):
        restore(target, path, quietly, replace=True)
    assert everything(path) == kept
    assert examined(path)[1] == []


@pytest.mark.parametrize("cut", [100, 5000, 20_000])
def test_a_backup_that_was_cut_off_is_not_restored(path: Path, tmp_path: Path, cut: int) -> None:
    target = tmp_path / "backup.db"
    back_up(path, target, quietly)
    os.truncate(target, cut)
    kept = everything(path)
    with pytest.raises((Unusable, sqlite3.DatabaseError)):
        restore(target, path, quietly, replace=True)
    assert everything(path) == kept


def test_what_is_left_of_another_store_is_not_mixed_with_a_new_one(
    path: Path, tmp_path: Path
) -> None:
    target = tmp_path / "backup.db"
    back_up(path, target, quietly)
    (tmp_path / "new.db-wal").write_bytes(b"left")
    with pytest.raises(Unusable, match="move it away"):
        restore(target, tmp_path / "new.db", quietly)
    (tmp_path / "text.db").write_text("no database " * 500)
    with pytest.raises(Unusable, match="move it away and restore again"):
        restore(target, tmp_path / "text.db", quietly, replace=True)


def test_a_restored_body_is_the_bytes_that_were_stored(path: Path, tmp_path: Path) -> None:
    back_up(path, tmp_path / "backup.db", quietly)
    restore(tmp_path / "backup.db", tmp_path / "again.db", quietly)
    ((body,),) = rows(tmp_path / "again.db", "SELECT body FROM version WHERE rid = 1")
    assert json.decode(body)["name"] == [{"family": "Ash"}]
