"""Subscriptions that are refused say why, where, and what is allowed."""

from typing import Any

import httpx
import pytest

from fhir_server.events.asked import INBOX_SYSTEM
from tests.events.receiving import BACKPORT, Receiver, has_status, narrowed, subscription, until
from tests.support import assert_outcome, body, create


def _of(**changed: Any) -> dict[str, Any]:
    return {**subscription("admitted", "http://127.0.0.1:9/"), **changed}


def _by(**channel: Any) -> dict[str, Any]:
    made = subscription("admitted", "http://127.0.0.1:9/")
    return {**made, "channel": {**made["channel"], **channel}}


def _without_endpoint() -> dict[str, Any]:
    return subscription("admitted")


def _extension(name: str, **value: Any) -> dict[str, Any]:
    return {"url": f"{BACKPORT}/backport-{name}", **value}


_COUNT = _extension("heartbeat-period", valueUnsignedInt=1)
_FAX = _extension("channel-type", valueCoding={"system": "urn:x", "code": "fax"})
_INBOX = _extension("channel-type", valueCoding={"system": INBOX_SYSTEM, "code": "inbox"})
_CHANNEL = "Subscription.channel"

REFUSED: list[tuple[Any, int, str, str, str]] = [
    (_of(status="active"), 422, "business-rule", "server alone", "Subscription.status"),
    (_of(status="error"), 422, "business-rule", "server alone", "Subscription.status"),
    (
        _by(endpoint="http://10.0.0.1:9/"),
        403,
        "forbidden",
        "they may go to",
        f"{_CHANNEL}.endpoint",
    ),
    (_by(endpoint="ftp://x/"), 400, "invalid", "may go to", f"{_CHANNEL}.endpoint"),
    (_by(endpoint="https://u@x/"), 400, "invalid", "may go to", f"{_CHANNEL}.endpoint"),
    (_without_endpoint(), 400, "invalid", "needs the address", f"{_CHANNEL}.endpoint"),
    (_by(type="email"), 400, "not-supported", "rest-hook", f"{_CHANNEL}.type"),
    (_by(type="sms"), 400, "not-supported", "websocket", f"{_CHANNEL}.type"),
    (_by(type="message"), 400, "not-supported", "inbox", f"{_CHANNEL}.type"),
    (_by(_type={"extension": [_FAX]}), 400, "not-supported", "inbox", f"{_CHANNEL}.type"),
    (_by(payload="text/turtle"), 400, "not-supported", "fhir+xml", f"{_CHANNEL}.payload"),
    (_by(header=["no colon"]), 400, "invalid", "header", f"{_CHANNEL}.header[0]"),
    (_by(header=["Host: other"]), 400, "invalid", "host", f"{_CHANNEL}.header[0]"),
    (_by(header=["A: b\nC: d"]), 400, "invalid", "header", f"{_CHANNEL}.header[0]"),
    (_by(header=["A: (kept secret)"]), 400, "invalid", "give it once", f"{_CHANNEL}.header[0]"),
    (_by(header=["A: b"] * 21), 400, "invalid", "20", f"{_CHANNEL}.header"),
    (_by(type="websocket"), 400, "invalid", "no endpoint", f"{_CHANNEL}.endpoint"),
    (_by(extension=[_COUNT]), 400, "invalid", "at least 5", f"{_CHANNEL}.extension"),
    (_of(criteria="urn:topic"), 400, "not-supported", "rating-changed", "Subscription.criteria"),
    (_of(criteria="Flag"), 400, "not-supported", "neither", "Subscription.criteria"),
    (_of(criteria="Flagg?code=red"), 400, "not-supported", "neither", "Subscription.criteria"),
    (
        narrowed(_of(), "colour=red"),
        *(400, "invalid", "patient", "Subscription.criteria.extension"),
    ),
    *(
        (narrowed(_of(), never), 400, "invalid", "patient", "Subscription.criteria.extension")
        for never in ("patient=Group/1", "area=Patient/1", "team=CareTeam/a b", "patient=p1,")
    ),
    (
        narrowed(_of(), "Flag?patient=p1"),
        *(400, "invalid", "Encounter", "Subscription.criteria.extension"),
    ),
    (
        narrowed(_of(criteria="Flag?code=red"), "patient=p1"),
        *(400, "invalid", "those of a topic", "Subscription.criteria.extension"),
    ),
]
ALLOWED_REFUSED: list[tuple[dict[str, str], int, str, str, str]] = [
    ({"criteria": "Flag?nothing=red"}, 400, "invalid", "nothing", "Subscription.criteria"),
    ({"criteria": "Flag?_sort=code"}, 400, "invalid", "_sort", "Subscription.criteria"),
    ({"criteria": "Flag?patient.name=x"}, 400, "not-supported", "Chain", "Subscription.criteria"),
    ({"criteria": "Flag?code:in=urn:x"}, 400, "not-supported", "Chain", "Subscription.criteria"),
    ({"end": "2020-01-01T00:00:00Z"}, 422, "business-rule", "to come", "Subscription.end"),
    ({"end": "2099-01-01T00:00:00Z"}, 422, "business-rule", "90 days", "Subscription.end"),
]


async def test_what_cannot_be_subscribed_to_is_refused(client: httpx.AsyncClient) -> None:
    """All with one server: each would take as long to start as all take to be refused."""
    for wanted, status, code, text, place in REFUSED:
        answer = await client.post("Subscription", **body(wanted))
        assert_outcome(answer, status, code, text, place)
    assert (await client.get("Subscription?_summary=count")).json()["total"] == 0


async def test_what_is_sound_but_for_one_thing_is_refused(
    client: httpx.AsyncClient, receiver: Receiver
) -> None:
    for besides, status, code, text, place in ALLOWED_REFUSED:
        wanted = {**subscription("admitted", receiver.origin), **besides}
        answer = await client.post("Subscription", **body(wanted))
        assert_outcome(answer, status, code, text, place)
    await create(client, subscription("admitted", receiver.origin))


async def test_a_patch_does_not_make_it_active(
    client: httpx.AsyncClient, receiver: Receiver
) -> None:
    """However it is written: a patch, and an entry of a transaction."""
    receiver.status = 500
    made = await create(client, subscription("admitted", receiver.origin))
    patch = [{"op": "replace", "path": "/status", "value": "active"}]
    headers = {"content-type": "application/json-patch+json"}
    address = f"Subscription/{made['id']}"
    answer = await client.patch(address, json=patch, headers=headers)
    assert_outcome(answer, 422, "business-rule", "server alone", "Subscription.status")
    entry = {
        "resource": {**made, "status": "active"},
        "request": {"method": "PUT", "url": address},
    }
    together = {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}
    assert (await client.post("", json=together)).status_code == 422


async def test_an_inbox_is_for_users(client: httpx.AsyncClient) -> None:
    wanted = subscription("admitted", type="message", _type={"extension": [_INBOX]})
    answer = await client.post("Subscription", **body(wanted))
    assert_outcome(answer, 422, "business-rule", "a user's", f"{_CHANNEL}.type")


class TestFew:
    @pytest.fixture
    def changed(self) -> dict[str, Any]:
        return {"max_subscriptions": 2}

    async def test_there_are_only_so_many_of_one_caller(
        self, client: httpx.AsyncClient, receiver: Receiver
    ) -> None:
        made = [await create(client, subscription("admitted", receiver.origin)) for _ in range(2)]
        more = subscription("admitted", receiver.origin)
        answer = await client.post("Subscription", **body(more))
        assert_outcome(answer, 403, "too-costly", "2 subscriptions")
        await until(lambda: has_status(client, made[0]["id"], "active"))
        assert (await client.delete(f"Subscription/{made[0]['id']}")).status_code in (200, 204)
        await create(client, more)
