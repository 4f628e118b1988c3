"""A POST that is sent again under its X-Request-ID is carried out once."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import httpx
import pytest

from fhir_server.access.policy import Caller, OpenPolicy
from fhir_server.access.session import Memo, Session, SessionUnit
from fhir_server.errors import FhirError, Kind
from fhir_server.fhir import nhs_number
from fhir_server.storage.clock import MovableClock
from fhir_server.storage.interface import Store
from tests.conftest import Restrict
from tests.http.test_includes import OneOf, flag
from tests.operations.messages import Spell
from tests.support import (
    ServerProcess,
    assert_outcome,
    body,
    client_of,
    found_ids,
    put,
    stored_versions,
)

SPELL: Final = Spell(nhs_number.synthetic(701), datetime(2026, 6, 1, tzinfo=UTC))
PATIENT: Final = {"resourceType": "Patient", "active": True}
OTHER: Final = {"resourceType": "Patient", "active": False}
TASK: Final = {"resourceType": "Task", "status": "requested", "intent": "order"}


def named(resource: Any, request_id: str, **headers: str) -> dict[str, Any]:
    """Arguments of a request with that id."""
    request = body(resource)
    request["headers"] |= {"X-Request-ID": request_id, **headers}
    return request


def bundle(kind: str, *entries: tuple[str, str, Any]) -> dict[str, Any]:
    made = [
        {"request": {"method": method, "url": url}} | ({"resource": resource} if resource else {})
        for method, url, resource in entries
    ]
    return {"resourceType": "Bundle", "type": kind, "entry": made}


def same(one: httpx.Response, other: httpx.Response) -> bool:
    told = ("etag", "location", "last-modified", "content-type")
    return (one.status_code, one.content) == (other.status_code, other.content) and all(
        one.headers.get(name) == other.headers.get(name) for name in told
    )


async def test_a_create_that_is_sent_again_answers_as_the_first(
    client: httpx.AsyncClient, store: Store
) -> None:
    first = await client.post("Patient", **named(PATIENT, "r1"))
    assert first.status_code == 201
    for _ in range(3):
        assert same(await client.post("Patient", **named(PATIENT, "r1")), first)
    assert len(await stored_versions(store)) == 1


async def test_it_answers_so_though_the_resource_has_gone_on(
    client: httpx.AsyncClient, store: Store
) -> None:
    first = await client.post("Patient", **named(PATIENT, "r1"))
    await put(client, {**first.json(), "active": False})
    assert same(await client.post("Patient", **named(PATIENT, "r1")), first)
    assert len(await stored_versions(store)) == 2


@pytest.mark.parametrize("returns", ["minimal", "OperationOutcome", "representation"])
async def test_the_answer_is_in_the_form_that_was_preferred(
    client: httpx.AsyncClient, returns: str
) -> None:
    request = named(PATIENT, "r1", Prefer=f"return={returns}")
    first = await client.post("Patient", **request)
    assert same(await client.post("Patient", **request), first)


async def test_without_an_id_or_with_another_it_is_another_request(
    client: httpx.AsyncClient, store: Store
) -> None:
    for request in (body(PATIENT), body(PATIENT), named(PATIENT, "r1"), named(PATIENT, "r2")):
        assert (await client.post("Patient", **request)).status_code == 201
    assert len(await stored_versions(store)) == 4


@pytest.mark.parametrize(
    ("address", "resource"),
    [
        ("Patient", OTHER),
        ("Task", TASK),
        ("", bundle("transaction", ("POST", "Patient", PATIENT))),
        ("", bundle("batch", ("POST", "Patient", PATIENT))),
        ("$process-message", SPELL.admit()),
    ],
    ids=["body", "address", "transaction", "batch", "operation"],
)
async def test_the_id_of_another_request_is_a_conflict(
    client: httpx.AsyncClient, store: Store, address: str, resource: Any
) -> None:
    await client.post("Patient", **named(PATIENT, "r1"))
    answer = await client.post(address, **named(resource, "r1"))
    assert_outcome(answer, 409, "conflict", "was that of another request", "http.X-Request-ID")
    assert len(await stored_versions(store)) == 1


async def test_a_refused_request_may_be_mended_under_its_id(
    client: httpx.AsyncClient, store: Store
) -> None:
    wrong = {"resourceType": "Patient", "gender": 7}
    for _ in range(2):
        assert (await client.post("Patient", **named(wrong, "r1"))).status_code == 400
    assert (await client.post("Patient", **named(PATIENT, "r1"))).status_code == 201
    assert len(await stored_versions(store)) == 1


async def test_a_transaction_that_is_sent_again_writes_nothing(
    client: httpx.AsyncClient, store: Store
) -> None:
    sent = bundle("transaction", ("POST", "Patient", PATIENT), ("POST", "Task", TASK))
    first = await client.post("", **named(sent, "r1"))
    assert first.status_code == 200
    assert same(await client.post("", **named(sent, "r1")), first)
    assert len(await stored_versions(store)) == 2


async def test_a_transaction_that_was_taken_back_leaves_its_id(
    client: httpx.AsyncClient, store: Store
) -> None:
    needs = {"method": "PUT", "url": "Patient/p", "ifMatch": 'W/"1"'}
    entry = {"request": needs, "resource": {**PATIENT, "id": "p"}}
    sent = bundle("transaction", ("POST", "Task", TASK))
    sent["entry"].append(entry)
    assert (await client.post("", **named(sent, "r1"))).status_code == 412
    await put(client, {**OTHER, "id": "p"})
    assert (await client.post("", **named(sent, "r1"))).status_code == 200
    assert len(await stored_versions(store)) == 3


async def test_a_batch_that_is_sent_again_answers_as_the_first(
    client: httpx.AsyncClient, store: Store
) -> None:
    sent = bundle(
        "batch",
        ("POST", "Patient", PATIENT),
        ("PUT", "Task/t", {**TASK, "id": "t"}),
        ("GET", "Patient/p", None),
    )
    first = await client.post("", **named(sent, "r1"))
    # What was refused then would be well now, and is not looked at.
    await put(client, {**PATIENT, "id": "p"})
    assert same(await client.post("", **named(sent, "r1")), first)
    assert len(await stored_versions(store)) == 3


async def test_a_batch_that_only_reads_is_answered_anew(client: httpx.AsyncClient) -> None:
    sent = bundle("batch", ("GET", "Patient/p", None))
    await client.post("", **named(sent, "r1"))
    await put(client, {**PATIENT, "id": "p"})
    again = (await client.post("", **named(sent, "r1"))).json()
    assert again["entry"][0]["response"]["status"].startswith("200")


async def test_a_batch_that_was_broken_off_goes_on_where_it_was(
    client: httpx.AsyncClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after the end of the process between its entries and its answer."""
    sent = bundle("batch", ("POST", "Patient", PATIENT), ("POST", "Task", TASK))

    async def broken_off(*_: object) -> None:
        raise ConnectionResetError

    with monkeypatch.context() as patched:
        patched.setattr("fhir_server.interactions.batch.remember", broken_off)
        assert (await client.post("", **named(sent, "r1"))).status_code == 500
    assert len(await stored_versions(store)) == 2
    answer = (await client.post("", **named(sent, "r1"))).json()
    assert [e["response"]["status"] for e in answer["entry"]] == ["201 Created", "201 Created"]
    assert len(await stored_versions(store)) == 2


async def test_an_entry_that_the_server_failed_at_is_tried_again(
    client: httpx.AsyncClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As while another process holds the store: what was written is not written twice."""
    sent = bundle("batch", ("POST", "Patient", PATIENT), ("POST", "Task", TASK))
    put_of_unit = SessionUnit.put

    async def busy(unit: SessionUnit, resource: Any, *rest: Any) -> Any:
        if resource["resourceType"] == "Task":
            raise FhirError(Kind.UNAVAILABLE, "busy")
        return await put_of_unit(unit, resource, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(SessionUnit, "put", busy)
        first = (await client.post("", **named(sent, "r1"))).json()
    again = (await client.post("", **named(sent, "r1"))).json()
    statuses = [[e["response"]["status"][:3] for e in one["entry"]] for one in (first, again)]
    assert statuses == [["201", "503"], ["201", "201"]]
    assert first["entry"][0] == again["entry"][0]
    assert len(await stored_versions(store)) == 2
    assert (await client.post("", **named(sent, "r1"))).json() == again


async def test_a_message_that_is_sent_again_is_answered_from_the_first(
    client: httpx.AsyncClient, store: Store
) -> None:
    sent = SPELL.admit()
    first = await client.post("$process-message", **named(sent, "r1"))
    assert first.status_code == 200, first.text
    there = len(await stored_versions(store))
    assert same(await client.post("$process-message", **named(sent, "r1")), first)
    assert len(await stored_versions(store)) == there


async def test_an_operation_that_reads_is_answered_anew(client: httpx.AsyncClient) -> None:
    await put(client, {**PATIENT, "id": "p"})
    parameters = {"resourceType": "Parameters"}
    first = await client.post("Patient/p/$everything", **named(parameters, "r1"))
    await put(client, {**OTHER, "id": "p"})
    again = await client.post("Patient/p/$everything", **named(parameters, "r1"))
    assert first.json() != again.json()


@pytest.mark.parametrize("kind", ["transaction", "batch"])
async def test_what_may_not_be_read_any_more_is_not_repeated(
    client: httpx.AsyncClient, restrict: Restrict, kind: str
) -> None:
    """A consent that was withdrawn meanwhile closes this way too."""
    written = flag("x", "a")
    sent = bundle(kind, ("PUT", "Flag/x", written), ("GET", "Flag?_id=x", None))
    request = named(sent, "r1", Prefer="return=representation")
    first = await client.post("", **request)
    assert first.json()["entry"][0]["resource"]["resourceType"] == "Flag"
    restrict(OneOf("a"))
    assert same(await client.post("", **request), first)
    restrict(OneOf("b"))
    hidden = (await client.post("", **request)).json()
    assert hidden["entry"] == [{"response": e["response"]} for e in first.json()["entry"]]


async def test_another_condition_is_another_request(
    client: httpx.AsyncClient, store: Store
) -> None:
    await client.post("Patient", **named(PATIENT, "r1", **{"If-None-Exist": "identifier=a"}))
    other = await client.post("Patient", **named(PATIENT, "r1", **{"If-None-Exist": "active=true"}))
    assert_outcome(other, 409, "conflict", "was that of another", "http.X-Request-ID")
    assert len(await stored_versions(store)) == 1


async def test_an_id_does_not_meet_the_entries_of_a_batch(client: httpx.AsyncClient) -> None:
    sent = bundle("batch", ("POST", "Patient", PATIENT))
    first = await client.post("Patient", **named(PATIENT, "r1#0"))
    assert (await client.post("", **named(sent, "r1"))).json()["entry"][0]["response"]["location"]
    assert same(await client.post("Patient", **named(PATIENT, "r1#0")), first)


async def test_many_at_once_are_one(client: httpx.AsyncClient, store: Store) -> None:
    posts = (client.post("Patient", **named(PATIENT, "r1")) for _ in range(32))
    answers = await asyncio.gather(*posts)
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.headers["location"] for answer in answers}) == 1
    assert len(await stored_versions(store)) == 1


async def test_at_two_servers_on_one_store_they_are_one(tmp_path: Path) -> None:
    async with client_of(tmp_path) as one, client_of(tmp_path) as two:
        posts = [c.post("Patient", **named(PATIENT, "r1")) for c in (one, two) for _ in range(10)]
        answers = await asyncio.gather(*posts)
        assert len({answer.headers["location"] for answer in answers}) == 1
        assert len(await found_ids(two, "Patient")) == 1


def test_a_server_that_was_killed_still_knows_it(server: ServerProcess) -> None:
    request_id = str(uuid4())
    first = httpx.post(f"{server.base}/Patient", **named(PATIENT, request_id))
    server.kill()
    server.start()
    assert same(httpx.post(f"{server.base}/Patient", **named(PATIENT, request_id)), first)


async def test_after_its_time_the_id_is_as_new(tmp_path: Path) -> None:
    clock = tmp_path / "clock"
    async with client_of(tmp_path, repeat_lifetime=600, movable_clock=clock) as client:
        first = await client.post("Patient", **named(PATIENT, "r1"))
        assert same(await client.post("Patient", **named(PATIENT, "r1")), first)
        MovableClock(clock).move_by(601_000_000)
        again = await client.post("Patient", **named(OTHER, "r1"))
        assert again.headers["location"] != first.headers["location"]


@pytest.mark.parametrize("request_id", ["a b", "x" * 129, "", "a\tb"])
async def test_an_id_that_cannot_be_told_again_is_refused(
    client: httpx.AsyncClient, store: Store, request_id: str
) -> None:
    answer = await client.post("Patient", **named(PATIENT, request_id))
    assert_outcome(answer, 400, "invalid", "1 to 128 visible ASCII", "http.X-Request-ID")
    assert not await stored_versions(store)


async def test_callers_do_not_meet_in_each_others_ids(store: Store) -> None:
    memo = Memo("repeat", "r1", b"mine")

    async def keep(unit: SessionUnit) -> None:
        await unit.keep(memo)

    async def recall(unit: SessionUnit) -> Memo | None:
        return await unit.memo("repeat", "r1")

    names = ("a", "a/r1", "b", "a%2F")
    sessions = {name: Session(store, Caller(name), OpenPolicy()) for name in names}
    await sessions["a"].commit("test", keep)
    for name, session in sessions.items():
        assert await session.commit("test", recall) == (memo if name == "a" else None)
        assert list(await session.memos("repeat")) == ([memo] if name == "a" else [])
