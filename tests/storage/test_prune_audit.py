"""Retention of the audit: its first rows go, with what clients sent by them; the rest is a chain.

docs/audit.md#retention, of each backend.
"""

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final

import pytest
from pymongo import MongoClient

from fhir_server.access.audit.chain import Verdict, anchor, read_anchor, verify
from fhir_server.search.ast import Query, TextMatches
from fhir_server.storage.audited import AuditQuery, AuditRow, Link
from fhir_server.storage.interface import Draft, Store, Unit
from fhir_server.storage.mongo.prune import prune_audit
from fhir_server.storage.mongo.store import MongoStore
from fhir_server.storage.sqlite.prune import Retention, prune
from tests.mongo import mongo_url
from tests.storage.backends import BACKENDS, Backend, database_of
from tests.storage.test_check import examined
from tests.storage.test_prune import quietly

COUNT: Final = 6


@pytest.fixture
async def store(backend: Backend, tmp_path: Path) -> AsyncIterator[Store]:
    """Six rows, each of a commit that stored an AuditEvent."""
    opened = await backend.open(tmp_path)
    for number in range(1, COUNT + 1):
        await opened.commit(_receiving(f"e{number}"))
    yield opened
    await opened.close()


def _receiving(name: str) -> Callable[[Unit], Awaitable[None]]:
    event = {
        "resourceType": "AuditEvent",
        "id": name,
        "text": {"status": "generated", "div": "<div>nightingale</div>"},
        "contained": [{"resourceType": "Device", "id": "d"}],
        "outcome": "0",
    }

    async def work(unit: Unit) -> None:
        stored = await unit.put(Draft(event), "POST")
        digest = hashlib.sha256(stored.body).hexdigest()
        await unit.audit(AuditRow("c", "create", received=(f"AuditEvent/{name} {digest}",)))

    return work


async def pruned(store: Store, place: Path, before: int, *, dry: bool = False) -> int:
    """How many rows went."""
    if isinstance(store, MongoStore):
        return await prune_audit(store, before, dry=dry)
    return prune(place / "store.db", Retention(audit_before=before), quietly, dry=dry).audit_rows


async def moment(store: Store, number: int) -> int:
    """When that row was made."""
    (entry,) = await store.audited(AuditQuery(after=number - 1, before=number + 1), 1)
    return entry.link.at


async def left(store: Store) -> tuple[list[int], list[bool]]:
    """Numbers of rows, and whether each AuditEvent is there."""
    rows = [entry.link.number for entry in await store.audited(AuditQuery(), 100)]
    names = [f"e{number}" for number in range(1, COUNT + 1)]
    return rows, [await store.read("AuditEvent", name) is not None for name in names]


async def test_the_first_go_with_what_was_received_and_the_rest_is_a_chain(
    store: Store, tmp_path: Path
) -> None:
    kept, gone = [read_anchor(anchor((await verify(store)).end)), await _link(store, 2)]
    before = await moment(store, 4)
    assert await pruned(store, tmp_path, before, dry=True) == 3
    assert await left(store) == ([1, 2, 3, 4, 5, 6], [True] * 6)
    assert await pruned(store, tmp_path, before) == 3
    assert await left(store) == ([4, 5, 6, 7], [False] * 3 + [True] * 3)
    assert _of(await verify(store)) == (3, 7, "")
    assert (await verify(store, kept)).fault == ""
    assert (await verify(store, gone)).fault == ""  # it cannot be compared any more
    assert await pruned(store, tmp_path, before) == 0
    found = await store.search(Query("AuditEvent", TextMatches("_text", "nightingale")), 10)
    assert [one.id for one in found.matches] == ["e4", "e5", "e6"]
    await store.commit(_receiving("e1"))
    assert (await verify(store)).fault == ""
    assert len((await store.search(Query("AuditEvent"), 10)).matches) == 4


async def _link(store: Store, number: int) -> Link:
    (entry,) = await store.audited(AuditQuery(after=number - 1, before=number + 1), 1)
    return entry.link


def _of(verdict: Verdict) -> tuple[int, int, str]:
    return verdict.begin.number, verdict.end.number, verdict.fault


async def test_the_newest_stays_whatever_its_age(store: Store, tmp_path: Path) -> None:
    assert await pruned(store, tmp_path, 2**60) == COUNT - 1
    assert (await left(store))[0] == [COUNT, COUNT + 1]
    assert (await verify(store)).fault == ""


async def test_a_sqlite_file_is_sound_then(tmp_path: Path) -> None:
    opened = await BACKENDS["sqlite"].open(tmp_path)
    for number in range(1, COUNT + 1):
        await opened.commit(_receiving(f"e{number}"))
    await opened.close()
    await pruned(opened, tmp_path, 2**60)
    assert examined(tmp_path / "store.db")[1] == []


async def test_rows_of_mongodb_that_went_without_a_prune_are_missed(tmp_path: Path) -> None:
    opened = await BACKENDS["mongo"].open(tmp_path)
    try:
        for number in range(1, COUNT + 1):
            await opened.commit(_receiving(f"e{number}"))
        link = await _link(opened, 2)
        with MongoClient[dict[str, object]](mongo_url("admin")) as client:
            plain = client[database_of(tmp_path)]
            plain.trail.delete_many({"_id": {"$lte": 2}})
            assert "row 1 is missing" in (await verify(opened)).fault
            end = {"number": link.number, "at": link.at, "hash": link.hash}
            plain.setting.update_one({"_id": "commit"}, {"$set": {"audit_begin": end}})
        assert "no row says that they were pruned" in (await verify(opened)).fault
    finally:
        await opened.close()
