"""`keyworking reindex`: what it does, what it says, how it exits."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import CliRunner, Result
from pymongo import MongoClient

from fhir_server.cli import main
from fhir_server.search.parameters import Definition, State
from fhir_server.storage.interface import Unit
from fhir_server.storage.sqlite.store import SqliteStore
from tests.mongo import URL, mongo_url
from tests.storage.backends import database_of
from tests.storage.questions import found, patient, put
from tests.support import REPOSITORY

BY_GENDER: Final = Definition("urn:x", "x", "token", "Patient.gender", ("Patient",))
# A process that was started in the background ignores SIGINT, and so do those that it starts.
_HEED: Final = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
_COMMAND: Final = f"{_HEED}; from fhir_server.cli import main; main()"
REINDEX: Final = [sys.executable, "-c", _COMMAND, "reindex"]


@pytest.fixture(autouse=True)
def _no_settings_but_the_test_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*os.environ]:
        if name.upper().startswith("KEYWORKING_") and name != URL:
            monkeypatch.delenv(name)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with 3000 patients and a parameter that is not indexed."""
    path = tmp_path / "store.db"
    asyncio.run(fill(path))
    return path


async def fill(path: Path) -> None:
    store = SqliteStore(path)
    await put(store, *(patient(f"p{n}", "Ash", gender="male") for n in range(3000)))
    await store.commit(define)
    await store.close()


async def define(unit: Unit) -> None:
    await unit.define((await unit.parameters()).defined("one", BY_GENDER))


async def searched(path: Path, text: str) -> int:
    store = SqliteStore(path)
    try:
        return len(await found(store, text))
    finally:
        await store.close()


async def states(path: Path) -> list[State]:
    store = SqliteStore(path)
    try:
        return [one.state for one in (await store.parameters()).account.added]
    finally:
        await store.close()


def reindex(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["reindex", *arguments], catch_exceptions=False)


def test_indexes_what_is_new_and_says_how_far_it_is(path: Path) -> None:
    result = reindex("--store", f"sqlite:///{path}")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[-3:] == [
        "3000 of 3000 resources, 100 %",
        "The index is up to date.",
        "Searchable: x of Patient",
    ]
    assert lines[0] == "16 of 3000 resources, 0 %"
    assert asyncio.run(searched(path, "Patient?x=male")) == 3000


def test_takes_the_store_of_the_environment(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYWORKING_STORE", f"sqlite:///{path}")
    assert reindex().exit_code == 0
    again = reindex()
    assert again.exit_code == 0
    assert again.stdout.splitlines()[0] == "Nothing is to be done: the index is up to date."


def test_makes_all_of_it_anew(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DELETE FROM entry_string")
    assert asyncio.run(searched(path, "Patient?family=ash")) == 0
    assert reindex("--store", f"sqlite:///{path}", "--all").exit_code == 0
    assert asyncio.run(searched(path, "Patient?family=ash")) == 3000
    assert asyncio.run(searched(path, "Patient?x=male")) == 3000


def test_an_interrupted_one_says_so_and_is_gone_on_with(path: Path) -> None:
    command = [*REINDEX, "--store", f"sqlite:///{path}", "--all"]
    # On a busy machine it may be through before the signal is.
    attempts = (interrupted(command) for _ in range(10))
    code, complaint = next(attempt for attempt in attempts if attempt[0])
    assert code == 1
    assert complaint == b"Error: Interrupted; run it again to go on\n"
    assert asyncio.run(states(path)) == [State.BUILDING]
    again = reindex("--store", f"sqlite:///{path}")
    assert again.stdout.splitlines()[0] != "16 of 3000 resources, 0 %"
    assert asyncio.run(searched(path, "Patient?x=male")) == 3000


def interrupted(command: list[str]) -> tuple[int, bytes]:
    """The exit status and what is said, once the first step has been told."""
    with subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate()
    return process.returncode, complaint


@pytest.mark.parametrize(
    ("store", "text"),
    [
        ("sqlite:///{}/nothing.db", "There is no store"),
        ("sqlite:///{}", "There is no store"),
        ("mongodb://localhost", "names no database"),
        ("mongodb://localhost:1/x?serverSelectionTimeoutMS=100", "cannot be reached now"),
        ("sqlite:///{}/text.db", "cannot be indexed: file is not a database"),
    ],
)
def test_a_store_that_cannot_be_indexed_is_one_line(tmp_path: Path, store: str, text: str) -> None:
    (tmp_path / "text.db").write_text("This is no database, but a text that is long enough. " * 20)
    result = reindex("--store", store.format(tmp_path))
    assert result.exit_code == 1
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert text in line
    assert not (tmp_path / "nothing.db").exists()


def test_a_misspelt_setting_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYWORKING_STOER", "x")
    result = reindex()
    assert result.exit_code == 1
    assert "KEYWORKING_STOER is not a setting" in result.stderr


def test_a_mongodb_database_that_has_no_store_is_not_made_one(tmp_path: Path) -> None:
    url = mongo_url(database_of(tmp_path))
    result = reindex("--store", url)
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: The store {url} cannot be indexed: there is no store in this database; "
        "keyworking serve makes one\n"
    )
    with MongoClient[dict[str, Any]](url) as client:
        assert database_of(tmp_path) not in client.list_database_names()
