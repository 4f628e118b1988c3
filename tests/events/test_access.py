"""ATTACKS 30: a notice holds what its receiver may see when it goes, and no more by any way.

Under tokens, with the decision table over what is stored.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from fhir_server.access.caller import ANONYMOUS
from fhir_server.access.facts import remaking
from fhir_server.access.policy import OpenPolicy
from fhir_server.access.session import Session, SessionUnit, current
from fhir_server.app import Application, create_app
from fhir_server.events.asked import INBOX_SYSTEM, read_asked
from fhir_server.events.feed import Change
from fhir_server.events.terms import Terms
from fhir_server.events.watching import Watch
from fhir_server.fhir import canonicals, json
from fhir_server.fhir.json import Resource
from fhir_server.settings import Settings
from fhir_server.storage.interface import Store
from fhir_server.validation.checker import standard_checker
from tests.access.conftest import stored
from tests.access.deciding import COLOUR, KEYWORKER, Decided, about, session
from tests.access.deciding import rating as flag
from tests.access.issuing import ISSUER, key_document, rsa_signer
from tests.access.people import YOUNG, agreed, child, episode, member, team
from tests.access.tokened import bearing
from tests.events.receiving import (
    BACKPORT,
    QUICK,
    Receiver,
    has_status,
    subscribed,
    subscription,
    until,
)
from tests.storage.conftest import backend, store
from tests.stores import store_at
from tests.support import assert_outcome, body, create, stored_versions

__all__ = ["backend", "store"]

CLINIC: Final = "ZZK06"
"""ODS code of who has signed the register, and is in no care team."""
OWN: Final = agreed()
CATEGORY: Final = [
    {"coding": [{"system": canonicals.CARE_PLAN_CATEGORY, "code": "keyworking-plan"}]}
]
INBOX: Final = {
    "url": f"{BACKPORT}/backport-channel-type",
    "valueCoding": {"system": INBOX_SYSTEM, "code": "inbox"},
}


def plan(plan_id: str, patient: str = "1", **rest: Any) -> Resource:
    told = {"status": "active", "intent": "plan", "category": CATEGORY, **rest}
    return about("CarePlan", plan_id, patient, **told)


@pytest.fixture
async def app(tmp_path: Path, receiver: Receiver) -> AsyncIterator[Application]:
    keys = tmp_path / "keys.json"
    keys.write_bytes(key_document(rsa_signer().jwk()))
    settings = Settings(
        auth="token",
        issuer=ISSUER,
        jwks=str(keys),
        store=store_at(tmp_path / "test.db"),
        notices_to=(receiver.origin,),
        register_signatories=(f"{CLINIC}=health",),
        **QUICK,
    )
    application = create_app(settings)
    async with application.router.lifespan_context(application):
        await remaking.ensure(application.state.store)
        everybody = (child("1", born=YOUNG), child("2", born=YOUNG))
        involved = (episode("Practitioner/keyworker"), team(member("Practitioner/member")))
        await stored(application, *everybody, *involved, OWN)
        yield application


def _as(
    app: Application, user: str, scopes: str = "system/*.cruds", code: str = "X99"
) -> httpx.AsyncClient:
    headers = bearing(scopes, ods_code=code, **({"fhirUser": user} if user else {}))
    transport = httpx.ASGITransport(app=app)
    return httpx.AsyncClient(
        transport=transport, base_url="http://127.0.0.1:8080/fhir/", headers=headers
    )


@pytest.fixture
async def keyworker(app: Application) -> AsyncIterator[httpx.AsyncClient]:
    async with _as(app, "Practitioner/keyworker") as client:
        yield client


@pytest.fixture
async def stranger(app: Application) -> AsyncIterator[httpx.AsyncClient]:
    async with _as(app, "Practitioner/stranger") as client:
        yield client


async def test_everybody_is_told_of_what_they_may_read(
    app: Application,
    keyworker: httpx.AsyncClient,
    stranger: httpx.AsyncClient,
    receiver: Receiver,
) -> None:
    for client, path in ((keyworker, "/kw"), (stranger, "/no")):
        wanted = subscription("plan-changed", receiver.origin + path, "full-resource")
        await subscribed(client, wanted)
        criteria = "CarePlan?status=active"
        await subscribed(client, subscription(criteria, f"{receiver.origin}{path}-plain", ""))
    await stored(app, plan("mine"), plan("other", "2"), plan("last"))
    await until(lambda: len(receiver.got) == 4 + 1 + 2)
    await asyncio.sleep(0.2)
    assert {one.path for one in receiver.got[4:]} == {
        *("/kw", "/kw-plain/CarePlan/mine", "/kw-plain/CarePlan/last"),
    }
    [together] = [one for one in receiver.got[4:] if one.path == "/kw"]
    assert (together.numbers, together.focuses) == ([1, 2], ["CarePlan/mine", "CarePlan/last"])


async def test_of_a_deletion_those_learn_who_might_read_what_was_there(
    app: Application,
    keyworker: httpx.AsyncClient,
    stranger: httpx.AsyncClient,
    receiver: Receiver,
) -> None:
    await stored(app, plan("mine"), plan("other", "2"))
    for client, path in ((keyworker, "/kw"), (stranger, "/no")):
        await subscribed(client, subscription("plan-changed", receiver.origin + path))

    async def work(unit: SessionUnit) -> None:
        for plan_id in ("other", "mine"):
            await unit.delete(await current(unit, "CarePlan", plan_id))

    await Session(app.state.store, ANONYMOUS, OpenPolicy()).commit("delete", work)
    await until(lambda: receiver.events)
    await asyncio.sleep(0.2)
    assert [(one.path, one.focuses) for one in receiver.events] == [("/kw", ["CarePlan/mine"])]


async def test_withdrawal_between_event_and_notice_stops_it(
    app: Application, receiver: Receiver
) -> None:
    """Row 3 of the decision table: somebody of the care team, as long as consent stands."""
    client = _as(app, "Practitioner/member")
    made = await subscribed(client, subscription("plan-changed", receiver.origin))
    receiver.status = 503
    await stored(app, plan("mine"))
    await until(lambda: receiver.refused)
    assert receiver.refused[0].focuses == ["CarePlan/mine"]
    now = datetime.now(UTC).isoformat(timespec="seconds")
    await stored(app, {**OWN, "status": "inactive", "dateTime": now})
    receiver.status = 200
    await asyncio.sleep(0.5)
    assert not receiver.events, "what may not be seen any more is not sent again"
    answer = await client.get(f"Subscription/{made}/$events?content=full-resource")
    assert '"valueString":"1"' in answer.text, "the number was spent"
    assert "CarePlan" not in answer.text
    await stored(app, plan("later"))
    await asyncio.sleep(0.3)
    assert not receiver.events, "nor is what comes after"
    status = await client.get(f"Subscription/{made}/$status")
    assert '"events-since-subscription-start","valueString":"1"' in status.text
    await client.aclose()


async def test_anothers_subscription_is_not_there(
    keyworker: httpx.AsyncClient, stranger: httpx.AsyncClient, receiver: Receiver
) -> None:
    wanted = subscription("plan-changed", receiver.origin)
    mine = (await create(keyworker, wanted))["id"]
    address = f"Subscription/{mine}"
    asks = [
        await stranger.get(address),
        await stranger.get(f"{address}/_history/1"),
        await stranger.get(f"{address}/$status"),
        await stranger.get(f"{address}/$events"),
        await stranger.post(f"{address}/$resume"),
        await stranger.post(f"{address}/$get-ws-binding-token"),
        await stranger.put(address, **body({**wanted, "id": mine})),
        await stranger.delete(address),
    ]
    for answer in asks[:-1]:
        assert answer.status_code == 404, (answer.request.url, answer.text)
        assert receiver.origin not in answer.text
    assert asks[-1].status_code in (204, 200, 404)
    assert (await stranger.get("Subscription?_summary=count")).json()["total"] == 0
    assert (await keyworker.get("Subscription?_summary=count")).json()["total"] == 1
    assert (await keyworker.get(address)).status_code == 200, "it was not deleted"


async def test_nobody_marks_a_subscription_as_anothers(
    keyworker: httpx.AsyncClient, stranger: httpx.AsyncClient, receiver: Receiver
) -> None:
    mine = await create(keyworker, subscription("plan-changed", receiver.origin))
    theirs = {**subscription("plan-changed", receiver.origin), "meta": {"tag": mine["meta"]["tag"]}}
    made = await create(stranger, theirs)
    assert made["meta"]["tag"] != mine["meta"]["tag"]
    assert (await keyworker.get(f"Subscription/{made['id']}")).status_code == 404


async def test_to_subscribe_takes_the_scope(app: Application, receiver: Receiver) -> None:
    wanted = subscription("plan-changed", receiver.origin)
    async with _as(app, "Practitioner/keyworker", "system/*.rs") as reader:
        answer = await reader.post("Subscription", **body(wanted))
        assert_outcome(answer, 403, "forbidden", "Subscription.c")


async def test_scopes_narrow_what_is_told(app: Application, receiver: Receiver) -> None:
    scopes = "system/Subscription.cruds system/Goal.rs"
    async with _as(app, "Practitioner/keyworker", scopes) as client:
        await subscribed(client, subscription("plan-changed", receiver.origin))
        goal = {"lifecycleStatus": "active", "description": {"text": "Swim"}}
        await stored(app, plan("hidden"), about("Goal", "g", "1", **goal))
        await until(lambda: receiver.focuses)
        await asyncio.sleep(0.2)
        assert receiver.focuses == ["Goal/g"]


async def test_a_load_test_subscribes_to_nothing(app: Application, receiver: Receiver) -> None:
    headers = bearing("system/*.cruds", role="load-test")
    async with _as(app, "") as client:
        wanted = body(subscription("plan-changed", receiver.origin))
        answer = await client.post(
            "Subscription", **{**wanted, "headers": {**wanted["headers"], **headers}}
        )
        assert answer.status_code == 403


async def test_who_was_told_of_whom_is_in_the_audit(
    app: Application, keyworker: httpx.AsyncClient, receiver: Receiver
) -> None:
    await subscribed(keyworker, subscription("plan-changed", receiver.origin))
    await stored(app, plan("mine"))
    await until(lambda: receiver.events)
    async with _as(app, "", "system/*.rs") as client:
        client.headers.update(bearing("system/*.rs", role="auditor"))

        async def told() -> list[Any]:
            answer = (await client.get("AuditEvent?patient=Patient/1")).json()
            return [one for one in answer.get("entry", ()) if "notify" in json.encode(one).decode()]

        [event] = await until(told)
        assert b"CarePlan/mine" in json.encode(event)
        assert b"Practitioner/keyworker" in json.encode(event)


async def test_an_inbox_is_communications_to_its_owner(
    app: Application, keyworker: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    wanted = subscription("plan-changed", content="", type="message", _type={"extension": [INBOX]})
    for client in (keyworker, stranger):
        made = await create(client, wanted)
        assert await has_status(client, made["id"], "active")
    confidential = {"security": [{"system": canonicals.ACT_CODE, "code": "TBOO"}]}
    await stored(app, plan("mine", meta=confidential), plan("other", "2"))

    async def messages() -> list[Any]:
        answer = await keyworker.get("Communication?recipient=Practitioner/keyworker")
        return [one["resource"] for one in answer.json().get("entry", ())]

    [message] = await until(messages)
    assert message["topic"]["coding"][0]["code"] == "plan-changed"
    assert message["about"] == [{"reference": "CarePlan/mine"}]
    assert message["subject"] == {"reference": "Patient/1"}
    assert message["recipient"] == [{"reference": "Practitioner/keyworker"}]
    assert message["sent"]
    assert message["meta"]["security"] == confidential["security"], "hidden from whom that is"
    assert not standard_checker().check(message, expected_type="Communication").errors
    await asyncio.sleep(0.2)
    assert len(await messages()) == 1
    hidden = await stranger.get("Communication?_summary=count")
    assert hidden.json()["total"] == 0, "nobody is told of what they may not see"


async def test_who_sees_the_colour_alone_is_told_by_a_hook_and_not_by_an_inbox(
    app: Application, receiver: Receiver
) -> None:
    """A message to them would be in the record, and they could not read it."""
    given = agreed("register")
    await stored(app, {**given, "id": "r"})
    inbox: dict[str, Any] = {"type": "message", "_type": {"extension": [INBOX]}}
    async with _as(app, "Practitioner/doctor", code=CLINIC) as doctor:
        made = await create(doctor, subscription("rating-changed", content="", **inbox))
        assert await has_status(doctor, made["id"], "active")
        hook = subscription("rating-changed", receiver.origin, "full-resource")
        await subscribed(doctor, hook)
        await stored(app, flag("f", "1", author={"reference": "Practitioner/secret"}))
        [notice] = await until(lambda: receiver.events)
        [shown] = notice.resources
        assert shown["code"]["coding"][0]["code"] == "red"
        assert "author" not in shown

        async def told() -> bool:
            status = (await doctor.get(f"Subscription/{made['id']}/$events")).text
            return "Flag/f" in status

        await until(told)
        types = {version.type for version in await stored_versions(app.state.store)}
        assert "Communication" not in types


@pytest.mark.parametrize(
    ("criteria", "whole", "masked"),
    [
        ("Flag?code=red", True, True),
        ("Flag?author=Practitioner/secret", True, False),
        ("Flag?author=Practitioner/other", False, False),
        # Else it would tell whether there is an author: so whoever does not see is always told.
        ("Flag?author:missing=true", False, True),
        ("Flag?author:missing=false", True, False),
    ],
)
async def test_criteria_do_not_tell_what_is_masked(
    store: Store, criteria: str, whole: bool, masked: bool
) -> None:
    """Whoever sees the colour alone could otherwise ask by criteria for all the rest."""

    async def work(unit: Any) -> None:
        from fhir_server.storage.interface import Draft

        await unit.put(Draft({"resourceType": "Patient", "id": "p"}), "PUT")
        author = {"reference": "Practitioner/secret"}
        await unit.put(Draft(flag("f", "p", author=author)), "PUT")

    await store.commit(work)
    change = Change(*(await store.changes(0, 10))[1])
    asked = read_asked(subscription(criteria, "http://127.0.0.1:9/"))
    watch = Watch(asked, Terms("http://localhost/fhir", lambda: 0), store)
    for decision, expected in ((KEYWORKER, whole), (COLOUR, masked)):
        reader = session(store, Decided({"p": decision}))
        assert await watch.concerns(reader, change) == expected
    nobody = session(store, Decided())
    assert not await watch.concerns(nobody, change)
