"""AuditEvents of clients and `X-Provenance`, with tokens: who may add, who may see, what leaks.

ATTACKS.md classes 8, 9 and 29.
"""

import json
from dataclasses import replace
from typing import Any, Final

import pytest

from fhir_server.access.audit.chain import verify
from tests.attacks.conftest import (
    AUDITOR,
    HIDDEN,
    KEYWORKER,
    KIND,
    MEMBER,
    MINE,
    World,
    hidden,
    plan,
)

A: Final = f"Patient/{MINE.key}"
FULL: Final = "system/*.cruds"
ADDS: Final = "system/AuditEvent.c"


def event(patient: str, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "AuditEvent",
        "type": {"system": "urn:x", "code": "opened"},
        "recorded": "2026-03-01T10:00:00Z",
        "agent": [{"who": {"display": "x"}, "requestor": True}],
        "source": {"observer": {"display": "Keyworking FHIR server"}},
        "entity": [{"what": {"reference": patient}}],
        **more,
    }


def said(**more: Any) -> dict[str, str]:
    told = {
        "resourceType": "Provenance",
        "recorded": "2026-03-01T10:00:00Z",
        "agent": [{"who": {"display": "x"}}],
        **more,
    }
    return {"x-provenance": json.dumps(told)}


async def test_29_whoever_adds_an_audit_event_cannot_read_change_or_remove_it(
    world: World,
) -> None:
    sender = replace(MEMBER, scopes=FULL)
    made = await world.ask(sender, "POST", "AuditEvent", event(A))
    assert made.status_code == 201, made.text
    address = f"AuditEvent/{made.json()['id']}"
    for who in (sender, KEYWORKER, KIND["administrator"]):
        for path in (address, f"{address}/_history", f"{address}/_history/1", "AuditEvent"):
            assert (await world.get(who, path)).status_code == 403, path
    for who in (sender, replace(AUDITOR, scopes=FULL)):
        for method in ("PUT", "PATCH", "DELETE"):
            sent = None if method == "DELETE" else {**made.json(), "outcome": "8"}
            refused = await world.ask(who, method, address, sent)
            assert refused.status_code in (403, 405), (method, refused.text)
        fresh = await world.ask(who, "PUT", "AuditEvent/fresh", event(A, id="fresh"))
        assert fresh.status_code == 405, fresh.text
    assert (await world.get(AUDITOR, address)).json() == made.json()
    assert (await verify(world.app.state.store)).fault == ""


async def test_29_only_with_the_scope_and_never_by_test_systems(world: World) -> None:
    reader = replace(MEMBER, scopes="system/*.rs")
    refused = await world.ask(reader, "POST", "AuditEvent", event(A))
    assert refused.status_code == 403
    assert "insufficient_scope" in refused.headers["www-authenticate"]
    made = await world.ask(replace(MEMBER, scopes=ADDS), "POST", "AuditEvent", event(A))
    assert made.status_code == 201
    mark = {"tag": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason"}]}
    for sent in (event(A), event(A, meta=mark)):
        tester = replace(KIND["load test"], scopes=FULL)
        assert (await world.ask(tester, "POST", "AuditEvent", sent)).status_code == 403


async def test_29_what_is_received_never_passes_for_the_server_s_own(world: World) -> None:
    sender = replace(MEMBER, scopes=ADDS)
    await world.get(MEMBER, A)
    first = (await world.get(AUDITOR, "AuditEvent/1")).json()
    assert (await world.ask(sender, "POST", "AuditEvent", first)).status_code == 422
    posed = {**first, "meta": {"source": "urn:server"}, "id": "2"}
    made = await world.ask(sender, "POST", "AuditEvent", posed)
    assert made.status_code == 201, made.text
    assert not made.json()["id"].isdigit()
    tags = {one["code"] for one in made.json()["meta"]["tag"]}
    assert tags == {"received"}
    assert sender.headers()  # whose it is stands in its source
    assert "/NamingSystem/client/" in made.json()["meta"]["source"]


@pytest.mark.parametrize(
    "address",
    [
        f"{A}/$everything",
        f"{A}/AuditEvent",
        f"Patient?_id={MINE.key}&_revinclude=AuditEvent:patient",
        f"Patient?_id={MINE.key}&_revinclude=*",
        "?_type=AuditEvent",
        "_history",
    ],
)
async def test_08_what_is_received_comes_along_with_nothing(world: World, address: str) -> None:
    sender = replace(MEMBER, scopes=FULL)
    assert (await world.ask(sender, "POST", "AuditEvent", event(A))).status_code == 201
    for who in (KEYWORKER, sender):
        assert '"resourceType":"AuditEvent"' not in (await world.get(who, address)).text


async def test_09_what_is_received_finds_nobody(world: World) -> None:
    """Whether there is one about a child, or a chain through it, tells nothing."""
    sender = replace(MEMBER, scopes=FULL)
    for patient in (A, hidden(A)):
        assert (await world.ask(sender, "POST", "AuditEvent", event(patient))).status_code == 201
    found = await world.get(sender, "Patient?_has:AuditEvent:patient:type=opened")
    assert "entry" not in found.json()
    chained = {"if-none-exist": f"patient.family={HIDDEN.surname}"}
    refused = await world.ask(sender, "POST", "AuditEvent", event(A), headers=chained)
    assert refused.status_code == 400, refused.text


async def test_08_a_provenance_in_a_header_is_checked_as_any_write(world: World) -> None:
    writer = replace(KEYWORKER, scopes=FULL)
    made = await world.ask(writer, "POST", "CarePlan", plan(MINE), headers=said())
    assert made.status_code == 201, made.text
    address = f"CarePlan/{made.json()['id']}"
    found = (await world.get(writer, f"Provenance?target={address}")).json()["entry"]
    assert any(one["resource"]["agent"][0]["who"].get("display") == "x" for one in found)
    before = await world.ids(writer, "CarePlan?_count=500")
    scoped = replace(KEYWORKER, scopes="user/CarePlan.cruds user/Provenance.rs")
    refused = await world.ask(scoped, "POST", "CarePlan", plan(MINE), headers=said())
    assert refused.status_code == 403
    assert "Provenance" in refused.text
    foreign = said(entity=[{"role": "source", "what": {"reference": hidden(A)}}])
    await world.ask(writer, "POST", "CarePlan", plan(HIDDEN), headers=foreign)
    assert await world.ids(writer, "CarePlan?_count=500") == before
    stranger = await world.get(KIND["stranger"], f"Provenance?target={address}")
    assert "entry" not in stranger.json()
