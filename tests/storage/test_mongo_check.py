"""`keyworking check` on MongoDB: nothing is said of a sound store, and every fault is found."""

from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from pymongo import MongoClient
from pymongo.database import Database as PlainDatabase

from fhir_server.search.parameters import Definition
from fhir_server.storage.checked import Report
from fhir_server.storage.interface import Store, Unit
from fhir_server.storage.mongo import check as checks
from fhir_server.storage.mongo.check import check
from fhir_server.storage.remaking import remake
from tests.mongo import mongo_url
from tests.storage.backends import BACKENDS, database_of
from tests.storage.kept import BY_GENDER, PLAN, TEXT
from tests.storage.questions import delete, patient, put

BY_BIRTH: Final = Definition("urn:y", "y", "date", "Patient.birthDate", ("Patient",))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """Two patients, one with three versions; one deleted; a plan with a goal; two parameters."""
    opened = await BACKENDS["mongo"].open(tmp_path)
    text = {"status": "generated", "div": TEXT}
    await put(opened, patient("a", "Ash", gender="male", text=text))
    await put(opened, patient("b", "Birch", gender="female", birthDate="2010"), PLAN)
    await put(opened, patient("b", "Beech", gender="female", birthDate="2010"))
    await put(opened, patient("b", "Beech", gender="other", birthDate="2010"))
    await put(opened, patient("c", "Cedar"))
    await delete(opened, "Patient", "c")
    await define(opened, "one", BY_GENDER)
    await remake(opened)
    await define(opened, "two", BY_BIRTH)
    yield opened
    await opened.close()


async def define(store: Store, name: str, definition: Definition) -> None:
    async def work(unit: Unit) -> None:
        await unit.define((await unit.parameters()).defined(name, definition))

    await store.commit(work)


@pytest.fixture
def plain(store: Store, tmp_path: Path) -> Iterator[PlainDatabase[dict[str, Any]]]:
    """The same database, without the store."""
    assert store
    with MongoClient[dict[str, Any]](mongo_url("admin")) as client:
        yield client[database_of(tmp_path)]


async def checked(place: Path) -> tuple[Report, list[str]]:
    told: list[str] = []
    url = mongo_url(database_of(place))
    return await check(url, told=told.append, progress=lambda *_: None), told


@pytest.mark.parametrize("batch", [1, 2, 200])
async def test_a_sound_store_has_no_faults_and_all_of_it_is_looked_at(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    assert store
    monkeypatch.setattr(checks, "_BATCH", batch)
    report, told = await checked(tmp_path)
    assert told == []
    assert report.sound
    assert (report.resources, report.versions) == (4, 7)
    assert report.entries > 10


@pytest.mark.parametrize("identity", ["Patient/a/1", "CarePlan/plan/1"])
async def test_entries_that_another_release_has_found_in_another_order_are_no_fault(
    plain: PlainDatabase[dict[str, Any]], tmp_path: Path, identity: str
) -> None:
    there = plain.version.find_one({"_id": identity})
    assert there is not None
    told = {"$set": {"t": there["t"][::-1]}}
    assert plain.version.update_one({"_id": identity}, told).modified_count == 1
    assert (await checked(tmp_path))[1] == []


FAULTS: Final[list[tuple[str, Mapping[str, Any], str]]] = [
    ("Patient/a/1", {"$set": {"g": [{"p": "gone"}]}}, "Patient/a: its index entries (g)"),
    ("Patient/a/1", {"$pull": {"t": {"p": "family"}}}, "Patient/a: its index entries (t)"),
    ("Patient/a/1", {"$pull": {"t": {"c": "male"}}}, "Patient/a: its index entries (t)"),
    ("Patient/a/1", {"$unset": {"w": ""}}, "Patient/a: its index entries (w)"),
    ("Patient/a/1", {"$unset": {"n": ""}}, "Patient/a: its index entries (n)"),
    ("CarePlan/plan/1", {"$set": {"i": []}}, "CarePlan/plan: its index entries (i)"),
    ("Patient/b/3", {"$unset": {"r": ""}}, "Patient/b: its index entries (r)"),
    ("Patient/c/2", {"$set": {"t": [{"p": "x"}]}}, "Patient/c: its index entries (t)"),
    ("Patient/b/1", {"$set": {"t": [{"p": "x"}]}}, "version 1 is indexed, and is not the current"),
    ("Patient/b/1", {"$set": {"live": True}}, "version 1 says that it is the current"),
    ("Patient/b/3", {"$unset": {"live": ""}}, "version 3 says that it is not the current"),
    ("Patient/b/3", {"$set": {"until": 5}}, "version 3 has ended, and none follows"),
    ("Patient/b/1", {"$unset": {"until": ""}}, "version 1 does not end where the next begins"),
    ("Patient/b/2", {"$set": {"seq": 1}}, "version 2 is not later than the one before"),
    ("Patient/b/2", {"$set": {"created": True}}, "version 2 does not say what came before"),
    ("Patient/a/1", {"$set": {"body": b"{"}}, "Patient/a: version 1 cannot be read"),
    ("Patient/b/2", {"$set": {"body": b""}}, "version 2 is half a deletion"),
    ("Patient/a/1", {"$set": {"id": "z"}}, "version 1 has another name, version or time"),
    ("Patient/a/1", {"$set": {"updated": 5}}, "version 1 has another name, version or time"),
]


@pytest.mark.parametrize(("identity", "damage", "words"), FAULTS)
async def test_every_fault_of_a_resource_is_found(
    plain: PlainDatabase[dict[str, Any]],
    tmp_path: Path,
    identity: str,
    damage: Mapping[str, Any],
    words: str,
) -> None:
    assert plain.version.update_one({"_id": identity}, damage).modified_count == 1
    report, told = await checked(tmp_path)
    assert [fault for fault in told if words in fault], told
    assert report.found == len(told)
    assert not report.sound


@pytest.mark.parametrize(
    ("identity", "words"),
    [
        ("Patient/b/1", "Patient/b: what lies before version 2 is missing"),
        ("Patient/b/2", "Patient/b: versions 1 and 3 follow each other"),
        ("Patient/b/3", "Patient/b: version 2 has ended, and none follows"),
        ("Patient/a/1", "version: there are 6 versions, the last has number 7"),
    ],
)
async def test_a_version_that_is_missing_is_found(
    plain: PlainDatabase[dict[str, Any]], tmp_path: Path, identity: str, words: str
) -> None:
    assert plain.version.delete_one({"_id": identity}).deleted_count == 1
    _, told = await checked(tmp_path)
    assert [fault for fault in told if fault.startswith(words)], told


async def test_an_index_that_is_missing_is_found_and_made_at_the_next_start(
    plain: PlainDatabase[dict[str, Any]], tmp_path: Path
) -> None:
    plain.version.drop_index("by_text")
    _, told = await checked(tmp_path)
    assert told == ["version: index by_text is missing; a start of the server makes it"]
    await (await BACKENDS["mongo"].open(tmp_path)).close()
    assert (await checked(tmp_path))[1] == []


async def test_a_wrong_index_is_made_anew_by_a_remaking(
    store: Store, plain: PlainDatabase[dict[str, Any]], tmp_path: Path
) -> None:
    plain.version.update_many({"live": True}, {"$unset": {"t": "", "r": "", "w": ""}})
    assert len((await checked(tmp_path))[1]) > 3
    await remake(store, whole=True)
    assert (await checked(tmp_path))[1] == []


async def test_what_is_no_store_is_not_made_one(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="there is no store in this database"):
        await checked(tmp_path)
    with MongoClient[dict[str, Any]](mongo_url("admin")) as client:
        assert database_of(tmp_path) not in client.list_database_names()
