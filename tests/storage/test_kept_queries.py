"""A statement that is kept is that of the same search, and finds what there is by now."""

from pathlib import Path
from typing import Final

import pytest

from fhir_server.search.ast import Everything, KeptQuery, ReferenceTo
from fhir_server.storage.interface import Store
from fhir_server.storage.sqlite import reader as reading
from fhir_server.storage.sqlite.opened import Readers
from fhir_server.storage.sqlite.store import SqliteStore
from tests.storage.questions import found, patient, put

EVEN, ODD = (
    KeptQuery("Flag", ReferenceTo("patient", tuple(f"Patient/p{n}" for n in range(first, 6000, 2))))
    for first in (0, 1)
)
FLAGS: Final = [
    {
        "resourceType": "Flag",
        "id": f"f{number}",
        "status": "active",
        "code": {"text": "test"},
        "subject": {"reference": f"Patient/p{number}"},
    }
    for number in range(10)
]


async def _ids(store: Store, query: KeptQuery, count: int = 100) -> list[int]:
    return [int(one.id[1:]) for one in (await store.search(query, count)).matches]


async def test_each_search_keeps_its_own_lists_and_counts(store: Store) -> None:
    for query in (EVEN, ODD):  # before there is any: the parameter has no number yet
        assert await _ids(store, query) == []
    await put(store, *FLAGS)
    for _ in range(3):
        assert await _ids(store, EVEN) == [0, 2, 4, 6, 8]
        assert await _ids(store, ODD) == [1, 3, 5, 7, 9]
        assert await _ids(store, ODD, 2) == [1, 3]
    page = await store.search(ODD, 2)
    assert [one.id for one in (await store.search(ODD, 2, page.after)).matches] == ["f5", "f7"]
    assert await store.total(ODD) == 5


async def test_what_is_kept_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_MOST_KEPT", 3)
    store = SqliteStore(tmp_path / "store.db")
    await put(store, patient("a"))
    queries = [KeptQuery("Patient", Everything()) for _ in range(5)]
    for query in queries:
        assert len((await store.search(query, 10)).matches) == 1
    opened = store._place.at_hand()
    assert opened is not None
    assert len(opened.reader()._kept) == 2
    await store.close()


async def test_after_a_rollback_no_statement_is_taken_for_what_its_numbers_meant(
    tmp_path: Path,
) -> None:
    """A number that was taken back goes to another parameter."""
    store = SqliteStore(tmp_path / "store.db")
    await put(store, *FLAGS)
    opened = store._place.at_hand()
    assert opened is not None
    reader = opened.reader()
    before = reader._asked(EVEN, 11, None, None)
    assert reader._asked(EVEN, 11, None, None) is before
    reader._numbers.forget()
    assert reader._asked(EVEN, 11, None, None) is not before
    await store.close()


async def test_a_short_search_is_never_ended_for_what_came_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite counts the steps of a statement that it knows again on from those before."""
    handed: list[object] = []
    run = Readers.run

    async def counted(self: Readers, job: object) -> object:
        handed.append(job)
        return await run(self, job)  # type: ignore[arg-type]

    store = SqliteStore(tmp_path / "store.db")
    await put(store, *FLAGS)
    monkeypatch.setattr(Readers, "run", counted)
    for _ in range(300):
        assert len(await found(store, "Flag?status=active")) == 10
    assert handed == []
    monkeypatch.setattr(reading, "_BRIEF_STEPS", 20)
    assert len(await found(store, "Flag?status=active")) == 10
    assert len(handed) == 1
    await store.close()
