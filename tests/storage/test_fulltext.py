"""Words in every backend: they come and go with the versions that they stand in.

What searches find is compared with `match` in tests/search; here is what happens over time.
"""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from fhir_server.fhir import json
from fhir_server.fhir.json import Resource
from fhir_server.storage.interface import Draft, Store, Unit
from fhir_server.storage.sqlite import fulltext, schema
from fhir_server.storage.sqlite.store import SqliteStore
from tests.storage.backends import Backend
from tests.storage.questions import delete, found, patient, put, query


def told(resource_id: str, story: str, family: str = "Ash") -> Resource:
    div = f'<div xmlns="http://www.w3.org/1999/xhtml">{story}</div>'
    return patient(resource_id, family, text={"status": "generated", "div": div})


async def test_words_of_an_earlier_version_find_nothing_any_more(store: Store) -> None:
    await put(store, told("a", "sleeps badly", "Ash"))
    await put(store, told("a", "sleeps well", "Birch"))
    assert await found(store, "Patient?_text=badly") == []
    assert await found(store, "Patient?_content=ash") == []
    assert await found(store, "Patient?_text=well") == ["a"]
    assert await found(store, "Patient?_content=birch%20sleeps") == ["a"]


async def test_words_of_what_is_deleted_find_nothing_until_it_comes_back(store: Store) -> None:
    await put(store, told("a", "sleeps badly"))
    await delete(store, "Patient", "a")
    assert await found(store, "Patient?_content=badly") == []
    await put(store, told("a", "sleeps well"))
    assert await found(store, "Patient?_content=badly") == []
    assert await found(store, "Patient?_text=well") == ["a"]


async def test_a_version_without_text_takes_the_words_away(store: Store) -> None:
    await put(store, told("a", "sleeps badly"))
    await put(store, {"resourceType": "Patient", "id": "a"})
    assert await found(store, "Patient?_content=badly,ash") == []
    assert await found(store, "Patient?_content:missing=true") == ["a"]


async def test_a_commit_sees_its_own_words_and_leaves_none_when_it_is_taken_back(
    store: Store,
) -> None:
    seen: list[list[str]] = []

    async def work(unit: Unit) -> None:
        await unit.delete("Patient", "b")
        await unit.put(Draft(told("a", "sleeps badly")), "PUT")
        seen.append(await found(unit, "Patient?_text=badly"))
        seen.append(await found(unit, "Patient?_text=well"))
        raise LookupError

    await put(store, told("b", "sleeps well"))
    with pytest.raises(LookupError):
        await store.commit(work)
    assert seen == [["a"], []]
    assert await found(store, "Patient?_text=badly") == []
    assert await found(store, "Patient?_text=well") == ["b"]


async def test_words_of_many_writes_are_all_found(backend: Backend, tmp_path: Path) -> None:
    """More than SQLite keeps aside, many commits at once; then opened again."""
    count = backend.fewer(2 * fulltext.MOVED_AT + 40, 110)
    store = await backend.open(tmp_path)
    try:
        for first in range(0, count, 50):
            numbers = range(first, min(count, first + 50))
            await asyncio.gather(*(put(store, told(f"p{n}", f"word{n} all")) for n in numbers))
        await put(store, *(told(f"p{n}", f"other{n} all") for n in range(0, count, 7)))
        await delete(store, "Patient", *(f"p{n}" for n in range(1, count, 7)))
        await assert_words(store, count)
    finally:
        await store.close()
    store = await backend.open(tmp_path)
    try:
        await assert_words(store, count)
    finally:
        await store.close()


async def assert_words(store: Store, count: int) -> None:
    gone = len(range(1, count, 7))
    assert len(await found(store, "Patient?_text=all", 1000)) == count - gone
    assert len(await found(store, "Patient?_text=other*", 1000)) == len(range(0, count, 7))
    for number in range(0, count, 23):
        expected = [f"p{number}"] if number % 7 > 1 else []
        assert await found(store, f"Patient?_text=word{number}") == expected
        changed = [f"p{number}"] if number % 7 == 0 else []
        assert await found(store, f"Patient?_text=other{number}") == changed


async def test_a_thousand_words_may_be_asked_for(store: Store) -> None:
    await put(store, told("a", " ".join(f"w{n}" for n in range(1000))), told("b", "w1 w2"))
    every = " ".join(f"w{n}" for n in range(1000))
    assert await found(store, f"Patient?_text={every}") == ["a"]
    assert await found(store, f"Patient?_text={every.replace(' ', ',')}") == ["a", "b"]
    assert await found(store, f"Patient?_text=%22{every}%22") == ["a"]


async def test_hundreds_of_tests_may_be_joined(store: Store) -> None:
    await put(store, patient("a", "Ash", gender="male"), patient("b", "Birch"))
    asked = " and ".join(["gender eq male"] * 400)
    assert await found(store, f"Patient?_filter={asked}") == ["a"]
    asked = " or ".join(["family eq ash", "gender eq female"] * 200)
    assert await found(store, f"Patient?_filter={asked}") == ["a"]
    asked = " and ".join(["gender pr false"] * 400)
    assert await found(store, f"Patient?_filter={asked}") == ["b"]


async def test_as_deep_as_is_allowed_is_not_too_deep(store: Store) -> None:
    plan = {"resourceType": "CarePlan", "id": "c", "subject": {"reference": "Patient/a"}}
    await put(store, told("a", "w1 w2"), plan)
    asked = "name co ash"
    for number in range(18):
        asked = f"({asked} {'and name pr true' if number % 2 else 'or gender pr true'})"
    assert await found(store, f"Patient?_filter={asked}") == ["a"]
    assert await found(store, f"CarePlan?_filter=subject:Patient[{asked}].name co ash") == ["c"]
    twice_not = "not(" * 18 + "subject:Patient.name co ash" + ")" * 18
    assert await found(store, f"CarePlan?_filter={twice_not}") == ["c"]
    assert await found(store, f"Patient?_text={'-(' * 8}w1 -w9{')' * 8}") == ["a"]


# SQLite


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


def count(path: Path, table: str) -> int:
    with closing(sqlite3.connect(path)) as connection:
        (rows,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
        return int(rows)


async def test_new_words_are_moved_together(path: Path) -> None:
    store = SqliteStore(path)
    try:
        await put(store, *(told(f"p{n}", "all") for n in range(fulltext.MOVED_AT - 1)))
        assert (count(path, "fulltext_new"), count(path, "fulltext")) == (fulltext.MOVED_AT - 1, 0)
        await put(store, told("last", "all"))
        assert (count(path, "fulltext_new"), count(path, "fulltext")) == (0, fulltext.MOVED_AT)
    finally:
        await store.close()


async def test_a_move_that_is_taken_back_has_moved_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fulltext, "MOVED_AT", 2)
    store = SqliteStore(path)

    async def work(unit: Unit) -> None:
        await unit.delete("Patient", "a")
        await unit.put(Draft(told("c", "sleeps badly")), "PUT")
        await unit.put(Draft(told("d", "sleeps badly")), "PUT")
        assert await found(unit, "Patient?_text=sleeps") == ["b", "c", "d"]
        raise LookupError

    try:
        await put(store, told("a", "sleeps well"), told("b", "sleeps badly"))
        assert count(path, "fulltext") == 2
        with pytest.raises(LookupError):
            await store.commit(work)
        assert await found(store, "Patient?_text=badly") == ["b"]
        assert await found(store, "Patient?_text=well") == ["a"]
        await put(store, told("a", "sleeps badly"), told("c", "sleeps well"))
        assert await found(store, "Patient?_text=badly") == ["a", "b"]
    finally:
        await store.close()


async def test_what_waits_is_counted_when_the_file_is_opened_again(path: Path) -> None:
    for number in range(2):
        store = SqliteStore(path)
        half = range(fulltext.MOVED_AT // 2)
        await put(store, *(told(f"p{number}-{n}", "all") for n in half))
        await store.close()
    assert (count(path, "fulltext_new"), count(path, "fulltext")) == (0, fulltext.MOVED_AT)


async def test_what_is_deleted_leaves_no_words_behind(path: Path) -> None:
    store = SqliteStore(path)
    try:
        await put(store, told("a", "seen"))
        await put(store, *(told(f"p{n}", "all") for n in range(fulltext.MOVED_AT)))
        await delete(store, "Patient", "a", *(f"p{n}" for n in range(fulltext.MOVED_AT)))
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            fulltext.FulltextWriter().move(connection)
            assert connection.execute("SELECT count(*) FROM fulltext").fetchone() == (0,)
            connection.execute("INSERT INTO fulltext (fulltext) VALUES ('integrity-check')")
    finally:
        await store.close()


def older_file(path: Path, *resources: Resource) -> None:
    """As a release before words left it, with the resources and no index."""
    before = next(n for n, script in enumerate(schema.MIGRATIONS) if "fulltext" in script)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for script in schema.MIGRATIONS[:before]:
            connection.executescript(script)
        connection.execute(f"PRAGMA user_version = {before}")
        for rid, resource in enumerate(resources, 1):
            body = json.encode(resource)
            name = (rid, resource["resourceType"], resource["id"])
            connection.execute("INSERT INTO resource VALUES (?, ?, ?, 1, ?, 1, 0)", (*name, rid))
            version = (rid, rid, 1, 1, "PUT", body)
            connection.execute("INSERT INTO version VALUES (?, ?, ?, ?, ?, ?)", version)


async def test_a_file_of_the_schema_before_words_gets_them(path: Path) -> None:
    older_file(path, told("a", "sleeps badly"), told("b", "sleeps well"))
    store = SqliteStore(path)
    try:
        assert await found(store, "Patient?_text=badly") == ["a"]
        assert await found(store, "Patient?_content=ash") == ["a", "b"]
        await put(store, told("a", "sleeps well"))
        assert await found(store, "Patient?_text=badly") == []
        assert await found(store, "Patient?_text=well") == ["a", "b"]
    finally:
        await store.close()


def test_an_sqlite_without_full_text_search_is_refused_by_name(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fulltext, "MODULE", "fts99")
    with pytest.raises(RuntimeError, match="built without FTS99, which _text and _content need"):
        SqliteStore(path)
    assert count(path, "sqlite_schema") == 0


def test_the_migrations_take_an_empty_file_to_where_they_all_lead(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        schema.migrate(connection)
        schema.migrate(connection)
        assert connection.execute("PRAGMA user_version").fetchone() == (len(schema.MIGRATIONS),)


async def test_a_word_leads_where_nothing_promises_less(path: Path) -> None:
    """Then FTS5 is asked once, and the resources of the type are not walked."""
    store = SqliteStore(path)
    try:
        await put(store, *(told(f"p{n}", f"word{n}") for n in range(300)))
        steps: list[Any] = []
        reader = store._place.last.reader()
        reader._connection.set_trace_callback(steps.append)
        page = reader.search(query("Patient?_text=word7&active:missing=true"), 10, None)
        assert [one.id for one in page.matches] == ["p7"]
        plan = reader._connection.execute(f"EXPLAIN QUERY PLAN {steps[0]}").fetchall()
        assert not [row for row in plan if "resource_by_type" in row[3]], plan
    finally:
        await store.close()
