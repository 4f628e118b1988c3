"""Reads for whoever cannot wait, with one memo beside each: of the same moment, and of no other."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest

from fhir_server.access.facts import kept
from fhir_server.errors import FhirError
from fhir_server.search.ast import Query
from fhir_server.storage.interface import Memo, Unit
from fhir_server.storage.sqlite import memos
from fhir_server.storage.sqlite.at_once import AtOnce
from fhir_server.storage.sqlite.store import SqliteStore
from tests.storage.questions import patient, put

pytestmark = pytest.mark.sqlite_alone
STATE: Final = memos.WATCHED


@pytest.fixture
async def whole(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(tmp_path / "test.db")
    await put(store, patient("p"))
    yield store
    await store.close()


async def _keep(store: SqliteStore, value: bytes, expires: int = 0) -> None:
    async def work(unit: Unit) -> None:
        await unit.keep(Memo(*STATE, value, expires))

    await store.commit(work)


async def test_the_memo_is_of_the_moment_of_the_read_and_is_given_once(whole: SqliteStore) -> None:
    await _keep(whole, b"1")
    reader = AtOnce(whole, watches=True)
    found = await reader.read("Patient", "p")
    await _keep(whole, b"2")
    assert found == await whole.read("Patient", "p")
    assert [await reader.memo(*STATE) for _ in range(3)] == [
        Memo(*STATE, b"1"),
        Memo(*STATE, b"2"),
        Memo(*STATE, b"2"),
    ]


async def test_a_memo_of_an_earlier_read_is_never_given(whole: SqliteStore) -> None:
    await _keep(whole, b"1")
    reader = AtOnce(whole, watches=True)
    await reader.read("Patient", "p")
    await _keep(whole, b"2")
    assert await reader.read("Patient", "absent") is None
    assert await reader.memo(*STATE) == Memo(*STATE, b"2")
    await _keep(whole, b"gone", expires=1)
    await reader.read("Patient", "p")
    assert [await reader.memo(*STATE) for _ in range(2)] == [None, None]


def test_the_memo_is_that_of_the_state_of_the_facts() -> None:
    assert memos.WATCHED == (kept.STATE, kept.STATE_KEY)


async def test_what_the_memo_held_is_told_beside_the_read_and_goes_with_it(
    whole: SqliteStore,
) -> None:
    reader = AtOnce(whole, watches=True)
    told: list[bytes | None] = []
    for value in (b"1", b"2"):
        await reader.read("Patient", "p")
        told.append(reader.beside)
        await _keep(whole, value)
    await reader.read("Patient", "p")
    told.append(reader.beside)
    assert await reader.memo(*STATE) == Memo(*STATE, b"2")
    await reader.read("Patient", "absent")
    assert [*told, reader.beside] == [None, b"1", b"2", None]


@pytest.mark.parametrize("name", ["", "o", "P", "p-", "pp", "q", "zz", "é"])
async def test_the_one_before_what_is_absent_is_never_given(whole: SqliteStore, name: str) -> None:
    """It is looked at in its place, so that both take the same time."""
    await _keep(whole, b"1")
    reader = AtOnce(whole, watches=True)
    assert await reader.read("Patient", name) is None
    assert await reader.memo(*STATE) == Memo(*STATE, b"1")
    assert await reader.read("Task", name) is None


async def test_any_other_memo_is_read_by_itself(whole: SqliteStore) -> None:
    reader = AtOnce(whole, watches=True)
    await reader.read("Patient", "p")
    assert await reader.memo("state", "there") is None
    assert await AtOnce(whole).read("Patient", "p") == await whole.read("Patient", "p")


async def test_what_has_to_be_waited_for_is_refused(whole: SqliteStore, tmp_path: Path) -> None:
    reader = AtOnce(whole, watches=True)
    with pytest.raises(FhirError):
        await reader.changes(0, 1)
    with pytest.raises(FhirError):
        await reader.memos("state", count=1000)
    assert len((await reader.search(Query("Patient"), 1)).matches) == 1
    (tmp_path / "test.db").rename(tmp_path / "elsewhere.db")
    with pytest.raises(FhirError):
        await reader.read("Patient", "p")
    (tmp_path / "elsewhere.db").rename(tmp_path / "test.db")
    assert await reader.read("Patient", "p") is not None
