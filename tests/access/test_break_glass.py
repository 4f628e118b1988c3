"""Broken glass: a reason, one record, a short time, and a Task for the keyworker."""

from dataclasses import replace
from typing import Any, Final

import httpx
import pytest

from fhir_server.access.caller import Caller, Role
from fhir_server.access.glass import MOST, memo
from fhir_server.access.session import Session
from fhir_server.app import Application
from fhir_server.fhir import canonicals, json
from fhir_server.fhir.json import Resource
from fhir_server.storage.audited import AuditQuery
from fhir_server.storage.clock import system_clock
from fhir_server.storage.interface import HistoryOf, Unit
from tests.access.conftest import ByTable, stored
from tests.access.deciding import about, rating
from tests.access.people import (
    NOW,
    SEVENTEEN,
    carer,
    child,
    consent,
    episode,
    organisation,
    rule,
)
from tests.support import FHIR_JSON, assert_outcome, found_ids

DOCTOR: Final = Caller("doctor", user="Practitioner/doctor", organisation="A11")
KEYWORKER: Final = Caller("keyworker", user="Practitioner/keyworker", organisation="X99")
NUMBER: Final = "9990000018"
REASON: Final = "Police found her on a bridge, where is she at home"
MINUTE: Final = 60_000_000


@pytest.fixture
async def region(app: Application, by_table: ByTable) -> None:
    number = {"system": canonicals.NHS_NUMBER, "value": NUMBER}
    await stored(
        app,
        child("1", identifier=[number]),
        child("2"),
        episode("Practitioner/keyworker"),
        rating("f1", "1"),
        rating("f2", "2"),
        about("CarePlan", "c1", "1", status="active", intent="plan"),
        organisation("a", "A11"),
    )
    by_table(DOCTOR)


def asked(reason: str = REASON, number: str | None = NUMBER) -> dict[str, Any]:
    parameters: list[Resource] = [{"name": "reason", "valueString": reason}]
    if number is not None:
        identifier = {"system": canonicals.NHS_NUMBER, "value": number}
        parameters.append({"name": "patient", "valueIdentifier": identifier})
    told = {"resourceType": "Parameters", "parameter": parameters}
    return {"content": json.encode(told), "headers": FHIR_JSON}


def part(answer: httpx.Response, name: str) -> Any:
    assert answer.status_code == 200, answer.text
    (found,) = [one for one in answer.json()["parameter"] if one["name"] == name]
    return next(found[key] for key in found if key.startswith("value"))


async def broken(client: httpx.AsyncClient, address: str = "Patient/$break-glass") -> Any:
    number = NUMBER if address.startswith("Patient/$") else None
    return await client.post(address, **asked(number=number))


@pytest.mark.usefixtures("region")
@pytest.mark.parametrize("address", ["Patient/$break-glass", "Patient/1/$break-glass"])
async def test_one_record_opens_and_no_other(
    client: httpx.AsyncClient, by_table: ByTable, address: str
) -> None:
    assert (await client.get("CarePlan/c1")).status_code == 404
    answer = await broken(client, address)
    assert part(answer, "patient") == {"reference": "Patient/1"}
    assert (await client.get("CarePlan/c1")).status_code == 200
    assert await found_ids(client, "Flag") == ["f1"]
    assert await found_ids(client, "Patient?_has:Flag:patient:author:missing=true") == ["1"]
    assert (await client.get("Flag/f2")).status_code == 404
    # It reads, and writes nothing.
    changed = about("CarePlan", "c1", "1", status="completed", intent="plan")
    refused = await client.put(
        "CarePlan/c1", content=json.encode(changed), headers={**FHIR_JSON, "if-match": 'W/"1"'}
    )
    assert_outcome(refused, 403, "forbidden", "may not write")
    # It is for whoever broke it, where they broke it.
    by_table(replace(DOCTOR, name="another", user="Practitioner/another"))
    assert (await client.get("CarePlan/c1")).status_code == 404
    assert await found_ids(client, "Flag") == []
    by_table(replace(DOCTOR, organisation="Y99"))
    assert (await client.get("CarePlan/c1")).status_code == 404
    assert await found_ids(client, "Flag") == []
    by_table(DOCTOR)
    assert (await client.get("CarePlan/c1")).status_code == 200


@pytest.mark.usefixtures("region")
async def test_the_keyworker_is_told_and_the_audit_knows(
    app: Application, client: httpx.AsyncClient
) -> None:
    reference = part(await broken(client), "task")["reference"]
    task = json.decode((await app.state.store.read(*reference.split("/"))).body)
    assert task["owner"] == {"reference": "Practitioner/keyworker"}
    assert task["requester"] == {"reference": DOCTOR.user}
    assert task["for"] == {"reference": "Patient/1"}
    assert task["description"] == REASON
    assert task["meta"]["security"] == [{"system": canonicals.ACT_CODE, "code": "TBOO"}]


@pytest.mark.usefixtures("region")
async def test_the_audit_says_why_of_the_opening_and_of_what_is_read_by_it(
    app: Application, client: httpx.AsyncClient
) -> None:
    async def reasons(address: str, status: int = 200) -> set[str]:
        """Of the rows that one request leaves."""
        assert (await client.get(address)).status_code == status, address
        await app.state.trail.flushed()
        entries = await app.state.store.audited(AuditQuery(), 10_000)
        found = {e.row.break_glass for e in entries if e.row.asked.startswith(f"GET /{address}")}
        assert found, address
        return found

    assert await reasons("CarePlan/c1", 404) == {""}
    assert (await broken(client)).status_code == 200
    opening = [entry.row for entry in await app.state.store.audited(AuditQuery(), 10_000)][-1]
    assert (opening.action, opening.break_glass) == ("break-glass", REASON)
    assert opening.patients == ("1",)
    for address in (
        "CarePlan/c1/_history/1",
        "CarePlan/c1/_history",
        "Patient/1",
        "Flag?patient=1",
        "Flag?_summary=count",
        "Patient/1/CarePlan",
        "Patient/1/$everything",
    ):
        assert await reasons(address) == {REASON}, address
    assert await reasons("Flag/f2", 404) == {""}, "nothing was read"
    assert await reasons("Organization/a") == {""}, "that is open without"


@pytest.mark.usefixtures("region")
async def test_without_the_task_nothing_opens(
    app: Application, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    from operations import break_glass

    async def not_sound(*given: Any) -> Resource:
        del given
        return {"resourceType": "Task", "id": "x", "status": "requested"}

    monkeypatch.setattr(break_glass, "_task", not_sound)
    assert (await broken(client)).status_code == 400
    assert (await client.get("CarePlan/c1")).status_code == 404
    assert list(await app.state.store.history(HistoryOf("Task"), 10)) == []


@pytest.mark.usefixtures("region")
async def test_it_closes_by_itself(app: Application, client: httpx.AsyncClient) -> None:
    assert part(await broken(client), "until")
    own = Session(app.state.store, DOCTOR)
    (there,) = await own.memos("access-glass")
    assert 59 * MINUTE < there.expires - system_clock() <= 60 * MINUTE

    async def expire(unit: Unit) -> None:
        over = memo(DOCTOR, "1", REASON, system_clock() - 1)
        await unit.keep(replace(over, key="doctor/A11/1"))

    await app.state.store.commit(expire)
    assert (await client.get("CarePlan/c1")).status_code == 404
    assert await found_ids(client, "Flag") == []


@pytest.mark.usefixtures("region")
@pytest.mark.parametrize(
    "reason",
    [
        "short",
        " " * 40,
        "\u200b" * 40,
        "why" + "\u3164" * 40,
        "x" * 501,
        "a\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n b",
    ],
)
async def test_a_reason_is_needed(client: httpx.AsyncClient, reason: str) -> None:
    answer = await client.post("Patient/$break-glass", **asked(reason))
    assert answer.status_code == 400
    assert (await client.get("CarePlan/c1")).status_code == 404


@pytest.mark.usefixtures("region")
@pytest.mark.parametrize(
    "caller",
    [
        Caller("parent", user="RelatedPerson/mum", organisation="A11"),
        Caller("child", user="Patient/1", organisation="A11"),
        Caller("system", organisation="A11"),
        Caller("freelance", user="Practitioner/doctor"),
        replace(DOCTOR, roles=frozenset({Role.COMMISSIONER})),
        replace(DOCTOR, roles=frozenset({Role.LOAD_TEST})),
    ],
    ids=lambda one: one.name,
)
async def test_only_professionals_break_it(
    client: httpx.AsyncClient, by_table: ByTable, caller: Caller
) -> None:
    by_table(caller)
    assert_outcome(await broken(client), 403, "forbidden", "professional")


@pytest.mark.usefixtures("region")
async def test_nothing_in_a_request_breaks_it(client: httpx.AsyncClient, by_table: ByTable) -> None:
    """ATTACKS 28."""
    by_table(replace(DOCTOR, break_glass=REASON))
    assert (await client.get("CarePlan/c1")).status_code == 404
    assert await found_ids(client, "Flag") == []


@pytest.mark.usefixtures("region")
async def test_whom_nobody_knows_is_not_found(client: httpx.AsyncClient) -> None:
    unknown = await client.post("Patient/$break-glass", **asked(number="9990000026"))
    assert_outcome(unknown, 404, "not-found", "NHS number")
    wrong = await client.post("Patient/$break-glass", **asked(number="123"))
    assert_outcome(wrong, 400, "invalid", "NHS number")


@pytest.mark.usefixtures("region")
async def test_few_records_are_open_at_one_time(
    app: Application, client: httpx.AsyncClient
) -> None:
    async def many(unit: Unit) -> None:
        for number in range(MOST):
            kept = memo(DOCTOR, f"other-{number}", REASON, system_clock() + MINUTE)
            await unit.keep(replace(kept, key=f"doctor/{kept.key}"))

    await app.state.store.commit(many)
    there = await broken(client)
    assert_outcome(there, 403, "too-costly", f"{MOST} records")
    # Nor is it told then who is there: no keyworker would learn that somebody asked.
    for path, number in (("Patient/$break-glass", "9990000026"), ("Patient/z/$break-glass", None)):
        answer = await client.post(path, **asked(number=number))
        assert answer.json() == there.json()


@pytest.mark.usefixtures("region")
async def test_it_is_not_for_the_family_to_read(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    """A reason such as safeguarding may be about them."""
    address = part(await broken(client), "task")["reference"]
    mine = consent(basis="consent", outcome=None, dateTime="2026-11-20", provision=_for_mother())
    await stored(app, child("1", SEVENTEEN), carer(), mine)
    for user in ("RelatedPerson/mum", "Patient/1"):
        by_table(Caller("family", user=user), NOW)
        assert (await client.get("CarePlan/c1")).status_code == 200
        assert (await client.get(address)).status_code == 404
        assert address.removeprefix("Task/") not in await found_ids(client, "Task?patient=1")
    by_table(KEYWORKER, NOW)
    assert (await client.get(address)).status_code == 200


def _for_mother() -> Resource:
    return rule("permit", "RelatedPerson/mum", period={"start": "2026-11-20", "end": "2027-11-01"})
