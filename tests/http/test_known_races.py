"""Races that made duplicates or lost updates in other servers.

https://hl7.org/fhir/R4/http.html#concurrency. Two server processes on one store, and many clients
at once. Duplicates by conditional creates are told of HAPI, Microsoft and LinuxForHealth; the rest
is what else goes wrong there: lost updates, patches on a stale version, deadlocks by the order of
writes.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.stores import KINDS, MONGODB, NIGHTLY, SQLITE, store_at
from tests.support import FHIR_JSON, ServerProcess, assert_outcome, body, put

AT_ONCE: Final = {SQLITE: 64, MONGODB: 64 if NIGHTLY else 16}
"""Questions under way together: each waits for all others, and the MongoDB of tests is slow."""
SIZES: Final = {
    SQLITE: (1, 10, 100, 500),
    MONGODB: (1, 10, 100, 500) if NIGHTLY else (1, 4, 10, 30),
}
"""Entries of a transaction."""
SYSTEM: Final = "https://keyworking.example/race"
Clients = Sequence[httpx.AsyncClient]
Ask = Callable[[httpx.AsyncClient, int], Awaitable[httpx.Response]]


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Of the store."""
    found: str = request.param
    return found


@pytest.fixture
def many(kind: str) -> int:
    """How many questions `at_once` asks."""
    return AT_ONCE[kind]


@pytest.fixture(scope="module")
def servers(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[ServerProcess]]:
    """Two processes that serve one store."""
    folder: Path = tmp_path_factory.mktemp("races")
    store = store_at(folder / "races.db", kind)
    patience = {"KEYWORKING_WRITE_PATIENCE": "120"}  # a busy machine refuses nobody
    both = [ServerProcess(store, folder / f"{n}.log", **patience) for n in range(2)]
    try:
        for process in both:
            process.start()
        yield both
    finally:
        for process in both:
            process.stop()


@pytest.fixture
async def clients(servers: list[ServerProcess], many: int) -> AsyncIterator[Clients]:
    limits = httpx.Limits(max_connections=many, max_keepalive_connections=many)
    found = [
        httpx.AsyncClient(base_url=process.base + "/", limits=limits, timeout=150)
        for process in servers
    ]
    yield found
    for client in found:
        await client.aclose()


async def at_once(clients: Clients, many: int, ask: Ask) -> list[httpx.Response]:
    """Each of many questions, half of them to each server, all under way together."""
    return await asyncio.gather(*(ask(clients[n % 2], n) for n in range(many)))


def statuses(answers: Sequence[httpx.Response]) -> Counter[int]:
    return Counter(answer.status_code for answer in answers)


def patient(value: str, **more: Any) -> dict[str, Any]:
    identifier = [{"system": SYSTEM, "value": value}]
    return {"resourceType": "Patient", "identifier": identifier, **more}


async def total(client: httpx.AsyncClient, search: str) -> int:
    found: int = (await client.get(f"{search}&_summary=count")).json()["total"]
    return found


async def test_conditional_creates_at_once_make_one_resource(clients: Clients, many: int) -> None:
    criteria = f"identifier={SYSTEM}|create"

    async def create(client: httpx.AsyncClient, _: int) -> httpx.Response:
        headers = {**FHIR_JSON, "if-none-exist": criteria}
        return await client.post("Patient", content=json.dumps(patient("create")), headers=headers)

    answers = await at_once(clients, many, create)
    assert statuses(answers) == {201: 1, 200: many - 1}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert await total(clients[0], f"Patient?{criteria}") == 1


async def test_conditional_updates_at_once_make_one_resource(clients: Clients, many: int) -> None:
    criteria = f"identifier={SYSTEM}|update"

    async def update(client: httpx.AsyncClient, n: int) -> httpx.Response:
        changed = patient("update", birthDate=f"2012-01-{n % 28 + 1:02}", active=n % 3 == 0)
        return await client.put(f"Patient?{criteria}", **body(changed))

    answers = await at_once(clients, many, update)
    assert statuses(answers) == {201: 1, 200: many - 1}
    assert await total(clients[1], f"Patient?{criteria}") == 1


async def test_conditional_creates_in_transactions_at_once_link_to_one_resource(
    clients: Clients, many: int
) -> None:
    criteria = f"identifier={SYSTEM}|linked"

    async def post(client: httpx.AsyncClient, n: int) -> httpx.Response:
        flag = {"resourceType": "Flag", "status": "active", "code": {"text": f"{n}"}}
        subject = {"subject": {"reference": "urn:uuid:8d1f4b1c-0000-4000-8000-000000000001"}}
        entries = [
            {
                "fullUrl": subject["subject"]["reference"],
                "resource": patient("linked"),
                "request": {"method": "POST", "url": "Patient", "ifNoneExist": criteria},
            },
            {"resource": {**flag, **subject}, "request": {"method": "POST", "url": "Flag"}},
        ]
        bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
        return await client.post("", **body(bundle))

    assert statuses(await at_once(clients, many, post)) == {200: many}
    assert await total(clients[0], f"Patient?{criteria}") == 1
    assert await total(clients[1], f"Flag?subject:Patient.{criteria}") == many


async def test_of_updates_of_the_same_version_one_is_made(clients: Clients, many: int) -> None:
    await put(clients[0], {**patient("versions"), "id": "versions"})

    async def update(client: httpx.AsyncClient, n: int) -> httpx.Response:
        changed = {**patient("versions", name=[{"text": f"Synthetic {n}"}]), "id": "versions"}
        request = body(changed)
        request["headers"]["if-match"] = 'W/"1"'
        return await client.put("Patient/versions", **request)

    answers = await at_once(clients, many, update)
    assert statuses(answers) == {200: 1, 412: many - 1}
    for answer in answers:
        if answer.status_code == 412:
            assert_outcome(answer, 412, "conflict", "")
    (made,) = (answer.json() for answer in answers if answer.status_code == 200)
    assert (await clients[1].get("Patient/versions")).json() == made


async def test_no_update_is_lost_from_the_history(clients: Clients, many: int) -> None:
    await put(clients[0], {**patient("history"), "id": "history"})

    async def update(client: httpx.AsyncClient, n: int) -> httpx.Response:
        changed = {**patient("history", name=[{"text": f"Synthetic {n}"}]), "id": "history"}
        return await client.put("Patient/history", **body(changed))

    assert statuses(await at_once(clients, many, update)) == {200: many}
    bundle = (await clients[1].get("Patient/history/_history?_count=100")).json()
    told = [entry["resource"].get("name", [{}])[0].get("text") for entry in bundle["entry"]]
    assert sorted(filter(None, told)) == sorted(f"Synthetic {n}" for n in range(many))


async def test_a_counter_loses_nothing_where_whoever_is_refused_tries_again(
    clients: Clients, many: int
) -> None:
    await put(clients[0], {**patient("counter", multipleBirthInteger=0), "id": "counter"})

    async def count(client: httpx.AsyncClient, _: int) -> httpx.Response:
        while True:
            there = await client.get("Patient/counter")
            counted = there.json()["multipleBirthInteger"] + 1
            changed = {**patient("counter", multipleBirthInteger=counted), "id": "counter"}
            request = body(changed)
            request["headers"]["if-match"] = there.headers["etag"]
            made = await client.put("Patient/counter", **request)
            if made.status_code != 412:
                return made

    assert statuses(await at_once(clients, many, count)) == {200: many}
    counter = (await clients[1].get("Patient/counter")).json()
    assert counter["multipleBirthInteger"] == many
    assert counter["meta"]["versionId"] == f"{many + 1}"


def of_size(size: int, name: str) -> list[dict[str, Any]]:
    """Entries of a transaction that creates so many with that identifier."""
    return [
        {"resource": patient(name), "request": {"method": "POST", "url": "Patient"}}
        for _ in range(size)
    ]


@pytest.mark.parametrize("nth", range(4))
async def test_transactions_of_any_size_at_once_are_whole(
    clients: Clients, kind: str, nth: int
) -> None:
    size = SIZES[kind][nth]
    entries = of_size(size, f"whole-{size}")
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    answers = await asyncio.gather(*(client.post("", **body(bundle)) for client in clients))
    assert statuses(answers) == {200: 2}
    for client in clients:
        assert await total(client, f"Patient?identifier={SYSTEM}|whole-{size}") == 2 * size


@pytest.mark.parametrize("nth", range(4))
async def test_one_bad_entry_of_a_transaction_leaves_nothing(
    clients: Clients, kind: str, nth: int
) -> None:
    """The last one: it is refused by what is stored, when all others were written already."""
    size = SIZES[kind][nth]
    entries = of_size(size - 1, f"bad-{size}")
    stale = {"resource": {**patient(f"bad-{size}"), "id": "stale"}}
    request = {"method": "PUT", "url": "Patient/stale", "ifMatch": 'W/"99"'}
    bundle = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [*entries, {**stale, "request": request}],
    }
    for client in clients:
        answer = await client.post("", **body(bundle))
        assert answer.status_code in (404, 409, 412), answer.text
        assert answer.json()["resourceType"] == "OperationOutcome"
        assert await total(client, f"Patient?identifier={SYSTEM}|bad-{size}") == 0


async def test_no_patch_is_made_on_a_version_that_is_gone(clients: Clients, many: int) -> None:
    await put(clients[0], {**patient("patched", name=[{"given": ["A"]}]), "id": "patched"})

    async def patch(client: httpx.AsyncClient, n: int) -> httpx.Response:
        operation = [{"op": "add", "path": "/name/0/given/-", "value": f"B{n}"}]
        headers = {"content-type": "application/json-patch+json"}
        return await client.patch("Patient/patched", content=json.dumps(operation), headers=headers)

    assert statuses(await at_once(clients, many, patch)) == {200: many}
    given = (await clients[1].get("Patient/patched")).json()["name"][0]["given"]
    assert sorted(given) == sorted(["A", *(f"B{n}" for n in range(many))])


async def test_transactions_in_opposite_orders_do_not_hold_each_other_up(
    clients: Clients, many: int
) -> None:
    names = ("left", "right")

    async def post(client: httpx.AsyncClient, n: int) -> httpx.Response:
        ordered = names if n % 4 < 2 else names[::-1]
        entries = [
            {
                "resource": {**patient(name, name=[{"text": f"Synthetic {n}"}]), "id": name},
                "request": {"method": "PUT", "url": f"Patient/{name}"},
            }
            for name in ordered
        ]
        bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
        return await client.post("", **body(bundle))

    answers = await at_once(clients, many, post)
    assert statuses(answers) == {200: many}
    both = [(await clients[0].get(f"Patient/{name}")).json() for name in names]
    assert both[0]["name"] == both[1]["name"], "each transaction is whole"
    assert both[0]["meta"]["versionId"] == both[1]["meta"]["versionId"] == f"{many}"


async def test_a_deletion_and_updates_at_once_leave_one_order_of_versions(
    clients: Clients, many: int
) -> None:
    await put(clients[0], {**patient("deleted"), "id": "deleted"})

    async def write(client: httpx.AsyncClient, n: int) -> httpx.Response:
        if n % 5 == 0:
            return await client.delete("Patient/deleted")
        changed = {**patient("deleted", name=[{"text": f"Synthetic {n}"}]), "id": "deleted"}
        return await client.put("Patient/deleted", **body(changed))

    assert {*statuses(await at_once(clients, many, write))} <= {200, 201, 204}
    bundle = (await clients[0].get("Patient/deleted/_history?_count=100")).json()
    versions = [int(entry["response"]["etag"][3:-1]) for entry in bundle["entry"]]
    assert versions == list(range(len(versions), 0, -1))
