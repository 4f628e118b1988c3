"""Versions that pages showed are remembered, and never shown in the place of others."""

import sqlite3
from pathlib import Path
from typing import Final

from fhir_server.search.ast import Query
from fhir_server.storage.interface import StoredVersion
from fhir_server.storage.sqlite.shown import Shown
from fhir_server.storage.sqlite.store import SqliteStore
from tests.storage.questions import delete, patient, put

ALL: Final = Query("Patient")


async def matches(store: SqliteStore) -> list[StoredVersion]:
    found = [*(await store.search(ALL, 10)).matches]
    for one in found:
        assert await store.read(one.type, one.id) == one
    return found


async def test_a_page_shows_the_same_objects_again_and_what_was_written_since(
    tmp_path: Path,
) -> None:
    store, other = (SqliteStore(tmp_path / "store.db") for _ in range(2))
    await put(store, *(patient(name, "First") for name in "abc"))
    first, second = await matches(store), await matches(store)
    assert [id(one) for one in first] == [id(one) for one in second]
    for writing in (store, other):
        await put(writing, patient("b", f"By {writing is store}"), patient("d"))
        found = await matches(store)
        assert found[0] is first[0]
        assert f"By {writing is store}".encode() in found[1].body
    await delete(other, "Patient", "a", "d")
    assert [one.id for one in await matches(store)] == ["b", "c"]
    await store.close()
    await other.close()


async def test_a_number_that_is_given_again_is_that_of_another(tmp_path: Path) -> None:
    """As where the last of all versions was taken out, and another was written then."""
    store = SqliteStore(tmp_path / "store.db")
    await put(store, patient("a", "Taken"))
    assert b"Taken" in (await matches(store))[0].body
    with sqlite3.connect(tmp_path / "store.db") as connection:
        for table in ("version", "resource", "entry", "entry_string"):
            connection.execute(f"DELETE FROM {table}")
        connection.commit()
    await put(store, patient("a", "Another"))
    assert [b"Another" in one.body for one in await matches(store)] == [True]
    with sqlite3.connect(tmp_path / "store.db") as connection:
        assert connection.execute("SELECT seq FROM version").fetchall() == [(1,)]
    await store.close()


def test_what_is_kept_is_bounded_in_bytes() -> None:
    shown = Shown(10_000)
    for number in range(1000):
        version = StoredVersion("Patient", f"p{number}", 1, number, "PUT", b"x" * 1000)
        shown.keep(number, version)
        row = (number, 1, "Patient", version.id, number)
        assert shown.of(row) is version
        assert sum(len(one.body) for one in shown._versions.values()) < 12_000
    for other in (
        (999, 1, "Patient", "p999", 998),
        (999, 1, "Patient", "p998", 999),
        (999, 1, "Group", "p999", 999),
    ):
        assert shown.of(other) is None
    large = StoredVersion("Patient", "large", 1, 5000, "PUT", b"x" * 20_000)
    shown.keep(5000, large)
    assert shown.of((5000, 1, "Patient", "large", 5000)) is None
