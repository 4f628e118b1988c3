"""What a commit knows of those before it: it finds what is there, and asks for it once."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import pytest

from fhir_server.search.ast import And, Node, Not, Or, Query, ReferenceTo, SortKey, TokenIs
from fhir_server.storage.interface import Draft, Unit
from fhir_server.storage.sqlite.known import Known
from fhir_server.storage.sqlite.store import SqliteStore
from fhir_server.storage.sqlite.unit import SqliteUnit

MINE, THEIRS = "Patient/a", "Patient/b"
OPEN: Final = Or((TokenIs("status", None, "requested"), TokenIs("status", None, "accepted")))
NEWEST: Final = SortKey("_lastUpdated", "date", descending=True)


def open_tasks(patient: str) -> Query:
    named = ReferenceTo("patient", (patient, f"http://localhost/fhir/{patient}"))
    return Query("Task", And((named, OPEN)), (NEWEST,))


def task(task_id: str, patient: str, status: str = "requested") -> dict[str, Any]:
    about = {"reference": patient}
    return {"resourceType": "Task", "id": task_id, "status": status, "intent": "order"} | {
        "for": about
    }


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(tmp_path / "store.db")
    yield opened
    await opened.close()


async def put(store: SqliteStore, resource: dict[str, Any]) -> None:
    async def work(unit: Unit) -> None:
        await unit.put(Draft(resource), "PUT")

    await store.commit(work)


async def delete(store: SqliteStore, task_id: str) -> None:
    async def work(unit: Unit) -> None:
        await unit.delete("Task", task_id)

    await store.commit(work)


async def found(store: SqliteStore, patient: str) -> list[str]:
    """The ids that a search in a commit finds, which is asked of each patient in each commit."""

    async def work(unit: Unit) -> list[str]:
        pages = {one: await unit.search(open_tasks(one), 10) for one in (MINE, THEIRS)}
        return [match.id for match in pages[patient].matches]

    return await store.commit(work)


async def asked_of_sqlite(store: SqliteStore, work: Callable[[Unit], Any]) -> int:
    """Statements that read, while `work` is under way."""

    async def counted(unit: Unit) -> int:
        assert isinstance(unit, SqliteUnit)
        told: list[str] = []
        unit._connection.set_trace_callback(told.append)
        try:
            await work(unit)
        finally:
            unit._connection.set_trace_callback(None)
        return sum(one.lstrip().startswith("SELECT") for one in told)

    return await store.commit(counted)


async def test_what_nobody_changed_is_asked_once(store: SqliteStore) -> None:
    await put(store, task("1", MINE))

    async def work(unit: Unit) -> None:
        await unit.read("Goal", "none")
        assert [one.id for one in (await unit.search(open_tasks(MINE), 10)).matches] == ["1"]

    first = await asked_of_sqlite(store, work)
    await put(store, task("2", THEIRS))
    await put(store, {"resourceType": "Flag", "id": "1", "subject": {"reference": MINE}})
    assert first > 0
    assert await asked_of_sqlite(store, work) == 0


async def test_what_a_commit_writes_is_found_by_the_next(store: SqliteStore) -> None:
    assert await found(store, MINE) == []
    await put(store, task("1", MINE))
    assert await found(store, MINE) == ["1"]
    await put(store, task("2", MINE, "accepted"))
    assert await found(store, MINE) == ["2", "1"]
    await put(store, task("1", MINE, "completed"))
    assert await found(store, MINE) == ["2"]
    await put(store, task("2", THEIRS))
    assert await found(store, MINE) == []
    assert await found(store, THEIRS) == ["2"]
    await delete(store, "2")
    assert await found(store, THEIRS) == []


async def test_what_was_written_otherwise_is_shown_as_it_is(store: SqliteStore) -> None:
    await put(store, task("1", MINE))
    await found(store, MINE)
    await put(store, task("1", MINE) | {"description": "call them"})

    async def work(unit: Unit) -> bytes:
        return (await unit.search(open_tasks(MINE), 10)).matches[0].body

    assert b"call them" in await store.commit(work)


async def test_whether_there_is_more_is_asked_anew(store: SqliteStore) -> None:
    async def has_more(unit: Unit) -> bool:
        return (await unit.search(open_tasks(MINE), 2)).after is not None

    for number in "123":
        await put(store, task(number, MINE))
    assert await store.commit(has_more)
    await delete(store, "1")
    assert not await store.commit(has_more)


@pytest.mark.parametrize(
    "where",
    [And(()), And((Not(OPEN), ReferenceTo("patient", (MINE,)))), And((OPEN,)), Not(OPEN)],
    ids=["all", "not first", "of anybody", "of nobody"],
)
async def test_what_hangs_on_more_is_asked_each_time(store: SqliteStore, where: Node) -> None:
    async def ids(unit: Unit) -> set[str]:
        return {one.id for one in (await unit.search(Query("Task", where), 10)).matches}

    before = await store.commit(ids)
    await put(store, task("1", MINE))
    await put(store, task("2", MINE, "completed"))
    outside = (await store.search(Query("Task", where), 10)).matches
    assert before == set()
    assert await store.commit(ids) == {one.id for one in outside} != set()


async def test_what_another_process_commits_is_found(tmp_path: Path, store: SqliteStore) -> None:
    other = SqliteStore(tmp_path / "store.db")
    try:
        assert await found(store, MINE) == []
        await put(other, task("1", MINE))
        assert await found(store, MINE) == ["1"]
        await delete(other, "1")
        assert await found(store, MINE) == []
        await put(store, task("1", THEIRS))
        assert await found(other, THEIRS) == ["1"]
    finally:
        await other.close()


async def test_what_was_taken_back_is_not_found(store: SqliteStore) -> None:
    async def work(unit: Unit) -> None:
        await unit.put(Draft(task("1", MINE)), "PUT")
        assert (await unit.search(open_tasks(MINE), 10)).matches
        raise ValueError("not this one")

    with pytest.raises(ValueError, match="not this one"):
        await store.commit(work)
    assert await found(store, MINE) == []

    async def look(unit: Unit) -> object:
        return await unit.read("Task", "1")

    assert await store.commit(look) is None


async def test_no_more_is_kept_than_there_is_room_for(store: SqliteStore) -> None:
    async def work(unit: Unit) -> None:
        assert isinstance(unit, SqliteUnit)
        unit._known = Known(unit._connection, most=2000)
        for number in range(50):
            await unit.read("Task", str(number))
        assert len(unit._known._current) < 10

    await store.commit(work)
