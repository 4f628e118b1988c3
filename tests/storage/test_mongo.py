"""What only MongoDB has: its documents, indexes and validators, its limits, its injections."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any, Final
from urllib.parse import quote

import httpx
import pytest
from pymongo import MongoClient
from pymongo.database import Database as PlainDatabase
from pymongo.errors import WriteError

from fhir_server.app import create_app
from fhir_server.errors import FhirError, Kind
from fhir_server.fhir.json import Resource
from fhir_server.search.extract import CONTENT
from fhir_server.search.parse import parse
from fhir_server.settings import Settings
from fhir_server.storage.interface import Draft, Store, Unit
from fhir_server.storage.mongo import links, reindex, schema
from fhir_server.storage.mongo import store as mongo_store
from fhir_server.storage.mongo.compile import Compiler
from fhir_server.storage.mongo.documents import MOST
from fhir_server.storage.mongo.links import resolved
from fhir_server.storage.mongo.store import open_mongo
from fhir_server.terminology.resolve import resolved as with_codes
from tests.mongo import mongo_url
from tests.search import ask, generate
from tests.search.shelf import Shelf
from tests.storage.backends import BACKENDS, database_of
from tests.storage.questions import BASE, NOW, found, patient, put, query
from tests.support import ServerProcess, assert_outcome, body

Plain = PlainDatabase[dict[str, Any]]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await BACKENDS["mongo"].open(tmp_path)
    yield opened
    await opened.close()


@pytest.fixture
def plain(store: Store, tmp_path: Path) -> Iterator[Plain]:
    """The same database, without the store."""
    assert store
    with MongoClient[dict[str, Any]](mongo_url("admin")) as client:
        yield client[database_of(tmp_path)]


async def reopened(place: Path) -> Store:
    return await BACKENDS["mongo"].open(place)


# Documents


async def test_only_the_current_version_can_be_found_by_its_values(
    store: Store, plain: Plain
) -> None:
    await put(store, patient("a", "Ash", gender="male"))
    await put(store, patient("a", "Birch"))
    old, new = plain.version.find(sort=[("seq", 1)])
    assert {"t", "r", "g", "w", "n", "o", "live"}.isdisjoint(old)
    assert old["until"] == new["updated"]
    assert new["live"] is True
    assert {"p": "family", "c": "birch", "x": "Birch"} in new["t"]


async def test_a_group_of_works_is_one_commit(store: Store, plain: Plain) -> None:
    before = plain.setting.find_one({"_id": "commit"})
    await asyncio.gather(*(put(store, patient(f"p{n}", "Ash")) for n in range(60)))
    after = plain.setting.find_one({"_id": "commit"})
    assert before is not None
    assert after is not None
    assert after["seq"] == before["seq"] + 60
    assert after["turn"] <= before["turn"] + 3


async def test_a_document_that_mongodb_would_not_take_is_refused_before_it_is_sent(
    store: Store,
) -> None:
    def big(resource_id: str, size: int) -> Resource:
        return patient(resource_id, "Big", text={"status": "generated", "div": "<" * size})

    async def work(unit: Unit) -> None:
        await unit.put(Draft(patient("mate", "Mate")), "PUT")
        await unit.put(Draft(big("big", MOST)), "PUT")

    results = await asyncio.gather(
        store.commit(work), put(store, patient("other", "Other")), return_exceptions=True
    )
    refused = results[0]
    assert isinstance(refused, FhirError)
    assert refused.kind is Kind.TOO_LARGE
    assert "Patient/big is" in str(refused)
    assert [stored.id for _, stored in await store.changes(0, 10)] == ["other"]
    await put(store, big("fits", MOST - 100_000))
    assert await store.read("Patient", "fits") is not None


async def test_what_is_too_large_for_the_store_is_413(tmp_path: Path) -> None:
    settings = Settings(auth="none", store=mongo_url(database_of(tmp_path)), max_body=2**25)
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url=settings.base + "/") as client:
            data = "QUJD" * (17 * 2**18)
            binary = {"resourceType": "Binary", "contentType": "text/plain", "data": data}
            refused = await client.post("Binary", **body(binary))
            assert_outcome(refused, 413, "too-long", "this store takes up to")


async def test_a_malformed_document_is_refused_by_the_database_itself(plain: Plain) -> None:
    for collection in ("version", "memo", "trail", "writer"):
        with pytest.raises(WriteError, match="failed validation"):
            plain[collection].insert_one({"_id": "x", "resource": 1})


# Migration


async def test_opening_again_changes_no_index_and_no_setting(
    store: Store, plain: Plain, tmp_path: Path
) -> None:
    def everything() -> list[Any]:
        indexes = {name: plain[name].index_information() for name in schema.INDEXES}
        return [indexes, *plain.setting.find(sort=[("_id", 1)])]

    await put(store, patient("a", "Ash"))
    before = everything()
    made = {name: {one.document["name"] for one in of} for name, of in schema.INDEXES.items()}
    for name, indexes in made.items():
        assert plain[name].index_information().keys() == indexes | {"_id_"}
    for again in [await reopened(tmp_path) for _ in range(2)]:
        await again.close()
    assert everything() == before


async def test_several_may_make_a_new_store_at_once(tmp_path: Path) -> None:
    stores = await asyncio.gather(*(reopened(tmp_path) for _ in range(6)))
    await asyncio.gather(*(put(one, patient(f"p{n}")) for n, one in enumerate(stores)))
    assert len(await found(stores[0], "Patient")) == 6
    for one in stores:
        await one.close()


@pytest.mark.parametrize(
    ("setting", "change", "words"),
    [
        ("schema", {"number": schema.SCHEMA + 1}, "has schema"),
        ("index", {"content": CONTENT + 1}, "index has content"),
    ],
)
async def test_what_a_newer_release_has_made_is_not_opened(
    store: Store, plain: Plain, tmp_path: Path, setting: str, change: dict[str, int], words: str
) -> None:
    assert store
    plain.setting.update_one({"_id": setting}, {"$set": change})
    with pytest.raises(RuntimeError, match=words):
        await reopened(tmp_path)


async def test_an_index_of_an_older_release_is_made_anew_before_anything_is_served(
    store: Store, plain: Plain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reindex, "BATCH", 20)
    await put(store, *(patient(f"p{n:03}", "Ash", gender="male") for n in range(50)))
    await put(store, patient("p000", "Birch"))
    plain.version.update_many({}, {"$unset": {"t": "", "w": "", "n": "", "o": ""}})
    plain.version.update_many({"live": True}, {"$set": {"g": [{"p": "gone"}]}})
    # As if it had been interrupted after the first few.
    reached = {"content": CONTENT - 1, "reached": "Patient/p010/1"}
    plain.setting.update_one({"_id": "index"}, {"$set": reached})
    again = await reopened(tmp_path)
    try:
        assert len(await found(again, "Patient?gender=male", 1000)) == 39
        assert await found(again, "Patient?family=birch") == []
        plain.setting.update_one({"_id": "index"}, {"$set": {**reached, "reached": ""}})
        await (await reopened(tmp_path)).close()
        assert len(await found(again, "Patient?gender=male", 1000)) == 49
        assert await found(again, "Patient?_content=birch") == ["p000"]
        assert plain.version.count_documents({"g": {"$exists": True}}) == 0
        assert plain.version.count_documents({"t": {"$exists": True}}) == 50
    finally:
        await again.close()


# Queries


HOSTILE: Final = [
    "$where",
    "$ne",
    '{"$ne":""}',
    "a.b",
    "$$ROOT",
    "'; return true; //",
    "a\\u0000b",
    ".*",
    "^",
    "[a",
    "(?i)x",
    "$expr",
]
FIELDS: Final = "_id resource type live id first updated t r g i w n o p c s v x u l h c0 c1 c2 c3"
OPERATORS: Final = """
    $and $or $nor $eq $in $nin $gt $gte $lt $lte $regex $elemMatch $exists
    $expr $indexOfBytes $ifNull $literal
"""
NAMES: Final = frozenset(f"{FIELDS} t.p r.p g.p {OPERATORS}".split())


def names_in(filter_: Any) -> Iterator[str]:
    if isinstance(filter_, Mapping):
        for name, value in filter_.items():
            yield name
            if name != "$literal":
                yield from names_in(value)
    elif isinstance(filter_, list):
        for value in filter_:
            yield from names_in(value)


async def nowhere(stages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """An answer as hostile as can be to what chains lead to."""
    assert set(itertools.chain(*map(names_in, stages[:1]))) <= NAMES | {"$match"}
    named = {"text": "Patient/$where", "version": "", "l": 0.0, "h": 0.0}
    return [{"_id": named, "id": "$ne", "code": "url", "text": "$ne"}]


async def test_names_in_a_filter_are_ours_whatever_is_asked() -> None:
    random = Random(1)  # noqa: S311 - test data
    asked = 0
    for number in range(1500):
        resource_type = random.choice(["Patient", "Observation", "CarePlan", "Task", "ValueSet"])
        name, value = random.choice(ask.parameters(resource_type, random) or [("_id", "a")])
        hostile = HOSTILE[number % len(HOSTILE)]
        given = hostile if number % 2 else value.partition("|")[0] + "|" + hostile
        try:
            parsed = parse(resource_type, [(name, given)], base=BASE, now=NOW).query
            search = await with_codes(parsed, Shelf(generate.TERMINOLOGY))
        except FhirError:
            continue
        asked += 1
        compiler = Compiler(await resolved(search, nowhere))
        assert set(names_in(compiler.filter)) <= NAMES, given
        assert all(
            not isinstance(value, dict) or all(name.startswith("$") for name in value)
            for value in compiler.filter.values()
        )
    assert asked > 300


@pytest.mark.parametrize("text", HOSTILE)
async def test_hostile_texts_are_kept_and_found_as_texts(store: Store, text: str) -> None:
    await put(store, patient("other", "Other", identifier=[{"system": "urn:x", "value": "1"}]))
    identifier = [{"system": "urn:x", "value": text}]
    await put(store, patient("a", text, identifier=identifier))
    asked = quote(text.replace("\\", "\\\\").replace("$", "\\$").replace(",", "\\,"))
    assert await found(store, f"Patient?family:exact={asked}") == ["a"]
    assert await found(store, f"Patient?identifier=urn:x|{asked}") == ["a"]
    assert "other" not in await found(store, f"Patient?family:contains={asked}")


async def test_a_chain_through_too_many_is_too_costly(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "MOST", 3)
    for number in range(4):
        plan = {"resourceType": "CarePlan", "id": f"c{number}", "status": "active"}
        subject = {"subject": {"reference": f"Patient/p{number}"}}
        await put(store, patient(f"p{number}", "Ash"), {**plan, **subject})
    for asked in (
        "CarePlan?subject:Patient.name=ash",
        "Patient?_has:CarePlan:subject:status=active",
    ):
        with pytest.raises(FhirError) as caught:
            await store.search(query(asked), 10)
        assert caught.value.kind is Kind.TOO_COSTLY
    await put(store, patient("p0", "Birch"))
    assert sorted(await found(store, "CarePlan?subject:Patient.name=ash")) == ["c1", "c2", "c3"]


async def test_a_search_that_takes_too_long_is_too_costly_and_fails_for_itself(
    store: Store, tmp_path: Path
) -> None:
    await put(store, *(patient(f"p{n}", "x" * 200 + str(n)) for n in range(300)))
    costly = query("Patient?name:contains=" + ",".join(f"x{n}y" for n in range(300)))
    hasty = await open_mongo(mongo_url(database_of(tmp_path)), patience=0.002)

    async def work(unit: Unit) -> None:
        await unit.put(Draft(patient("costly", "Ash")), "PUT")
        await unit.search(costly, 10)

    async def swallowing(unit: Unit) -> None:
        await unit.put(Draft(patient("swallowed", "Ash")), "PUT")
        try:
            await unit.search(costly, 10)
        except FhirError:
            await unit.read("Patient", "p0")

    try:
        results = await asyncio.gather(
            put(hasty, patient("first", "Ash")),
            hasty.commit(work),
            hasty.commit(swallowing),
            put(hasty, patient("last", "Ash")),
            hasty.search(costly, 10),
            return_exceptions=True,
        )
    finally:
        await hasty.close()
    kinds = [one.kind if isinstance(one, FhirError) else None for one in results]
    assert kinds == [None, Kind.TOO_COSTLY, Kind.TOO_COSTLY, None, Kind.TOO_COSTLY]
    assert await found(store, "Patient?family=ash") == ["first", "last"]


async def test_no_search_is_promised_more_time_than_a_transaction_lives(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(store, *(patient(f"p{n}", "x" * 200 + str(n)) for n in range(300)))
    costly = query("Patient?name:contains=" + ",".join(f"x{n}y" for n in range(300)))
    assert (await store.search(costly, 10)).matches == []
    monkeypatch.setattr(mongo_store, "_USABLE", 0.002 / 60)
    hasty = await open_mongo(mongo_url(database_of(tmp_path)), patience=100)
    try:
        for one in (hasty, hasty.patient(300)):
            with pytest.raises(FhirError, match=r"took longer than 0\.0\d+ s") as caught:
                await one.search(costly, 10)
            assert caught.value.kind is Kind.TOO_COSTLY
    finally:
        await hasty.close()


PLANS: Final = [
    ("Patient", "by_first"),
    ("Patient?_id=p7", "of_resource"),
    ("Patient?identifier=urn:x|7", "by_text"),
    ("Patient?family:exact=Ash7", "by_text"),
    ("Patient?general-practitioner=Practitioner/7", "by_text"),
    ("Patient?birthdate=2010-01-08", "by_range"),
    ("Patient?_text=word7", "by_word"),
]


@pytest.mark.parametrize(("asked", "index"), PLANS)
async def test_a_search_can_go_by_an_index(
    store: Store, plain: Plain, asked: str, index: str
) -> None:
    """The index leads to every match, and a planner that weighs them chooses it.

    SecantusDB's does not: of several indexes that begin with what is asked for it takes one by
    its place in their list, and it takes none for `$elemMatch`.
    """
    await put(store, *(indexed(number) for number in range(100)))
    compiler = Compiler(query(asked))
    matches = 1 if "?" in asked else 100
    by_it = plain.version.find(compiler.filter, sort=compiler.order, hint=index)
    by_none = plain.version.find(compiler.filter, sort=compiler.order, hint={"$natural": 1})
    found_by_it = [document["_id"] for document in by_it]
    assert found_by_it == [document["_id"] for document in by_none]
    assert len(found_by_it) == matches
    command = {"find": "version", "filter": compiler.filter, "sort": dict(compiler.order)}
    told = plain.command("explain", command, verbosity="executionStats")
    assert told["executionStats"]["nReturned"] == matches
    if not is_secantus(plain):
        plan = str(told["queryPlanner"]["winningPlan"])
        assert f"'indexName': '{index}'" in plan
        assert told["executionStats"]["totalDocsExamined"] == matches


@pytest.mark.parametrize(
    ("asked", "order", "index"),
    [
        ({"resource": {"$eq": "Patient/p7"}}, {"version": -1}, "of_resource"),
        ({"seq": {"$gt": 90}}, {"seq": 1}, "in_order"),
        ({"type": {"$eq": "Patient"}}, {"seq": -1}, "of_type_in_order"),
    ],
)
async def test_a_read_and_a_history_go_by_an_index(
    store: Store, plain: Plain, asked: dict[str, Any], order: dict[str, int], index: str
) -> None:
    await put(store, *(indexed(number) for number in range(100)))
    command = {"find": "version", "filter": asked, "sort": order, "limit": 5}
    plan = str(plain.command("explain", command)["queryPlanner"]["winningPlan"])
    assert f"'indexName': '{index}'" in plan


def indexed(number: int) -> Resource:
    return patient(
        f"p{number}",
        f"Ash{number}",
        identifier=[{"system": "urn:x", "value": str(number)}],
        birthDate=f"2010-01-{number + 1:02}" if number < 28 else "2011",
        generalPractitioner=[{"reference": f"Practitioner/{number}"}],
        text={"status": "generated", "div": f"<div>word{number}</div>"},
    )


def is_secantus(plain: Plain) -> bool:
    found: bool = plain.client.admin.command("hello")["setName"] == "secantus"
    return found


# Addresses and processes


async def test_an_unreachable_database_is_told_without_the_password(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(FhirError) as caught:
        await open_mongo("mongodb://me:secret@127.0.0.1:1/kw?serverSelectionTimeoutMS=200")
    assert caught.value.kind is Kind.UNAVAILABLE
    assert "secret" not in str(caught.value) + caplog.text
    settings = Settings(store="mongodb://me:hush-hush@127.0.0.1:1/kw")
    assert "hush-hush" not in repr(settings)
    with pytest.raises(ValueError, match="max_count") as refused:
        Settings(store="mongodb://me:hush-hush@127.0.0.1:1/kw", max_count=-1)
    assert "hush-hush" not in str(refused.value)


async def test_servers_on_one_database_create_once_under_one_condition(tmp_path: Path) -> None:
    servers = [
        ServerProcess(mongo_url(database_of(tmp_path)), tmp_path / f"server{n}.log")
        for n in range(2)
    ]
    identifier = [{"system": "urn:nhs", "value": "9990000001"}]
    resource = patient("ignored", "Race", identifier=identifier)
    del resource["id"]
    headers = {"if-none-exist": "identifier=urn:nhs|9990000001"}
    try:
        for server in servers:
            server.start()
        async with httpx.AsyncClient(timeout=30) as client:

            async def create(number: int) -> int:
                sent = body(resource)
                sent["headers"] |= headers
                return (
                    await client.post(f"{servers[number % 2].base}/Patient", **sent)
                ).status_code

            statuses = await asyncio.gather(*(create(number) for number in range(40)))
            assert sorted(statuses) == [200] * 39 + [201]
            servers[0].kill()
            servers[0].start()
            asked = await client.get(f"{servers[0].base}/Patient?identifier=urn:nhs|9990000001")
            assert len(asked.json()["entry"]) == 1
    finally:
        for server in servers:
            server.stop()
