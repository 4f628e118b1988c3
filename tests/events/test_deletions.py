"""Deletions as events of their topics, and notices in XML, at a real receiver."""

from typing import Any

import httpx
import pytest

from fhir_server.events.topics import topics_of_deleted
from fhir_server.fhir import canonicals, json, xml
from tests.events.receiving import Receiver, rating, stay, subscribed, subscription, until
from tests.support import put

_KIND = {"system": canonicals.CARE_PLAN_CATEGORY, "code": "keyworking-plan"}
_CONSENT = {"system": canonicals.CONSENT_CATEGORY, "code": "register"}


@pytest.mark.parametrize(
    ("before", "topic"),
    [
        (rating("red"), "rating-changed"),
        (rating("red", status="inactive"), ""),
        ({"resourceType": "CarePlan", "category": [{"coding": [_KIND]}]}, "plan-changed"),
        ({"resourceType": "CarePlan"}, ""),
        ({"resourceType": "Goal"}, "plan-changed"),
        ({"resourceType": "Consent", "category": [{"coding": [_CONSENT]}]}, "consent-changed"),
        (stay("in-progress"), ""),
    ],
)
def test_which_deletion_is_an_event(before: Any, topic: str) -> None:
    assert topics_of_deleted(before) == ({topic} if topic else set())


async def _delete_flag(client: httpx.AsyncClient) -> None:
    answer = await client.delete("Flag/flag", headers={"if-match": 'W/"1"'})
    assert answer.is_success, answer.text


async def test_a_deletion_is_told_without_what_was_deleted(
    client: httpx.AsyncClient, receiver: Receiver
) -> None:
    await subscribed(client, subscription("rating-changed", receiver.origin, "full-resource"))
    await put(client, rating("red"))
    await until(lambda: receiver.numbers == [1])
    await _delete_flag(client)
    await until(lambda: receiver.numbers == [1, 2])
    gone = receiver.events[-1]
    assert gone.focuses == ["Flag/flag"]
    assert gone.resources == []
    entry = gone.bundle["entry"][1]
    assert entry["request"] == {"method": "DELETE", "url": "Flag/flag"}
    assert entry["response"] == {"status": "204"}
    told = (await client.get(f"Subscription/{_id(gone)}/$events?content=id-only")).json()
    focuses = [
        part["valueReference"]["reference"]
        for event in told["entry"][0]["resource"]["parameter"]
        if event["name"] == "notification-event"
        for part in event["part"]
        if part["name"] == "focus"
    ]
    assert focuses == ["Flag/flag", "Flag/flag"]


def _id(got: Any) -> str:
    return str(got.status["subscription"]["reference"]).partition("/")[2]


async def test_a_deletion_is_no_event_of_criteria(
    client: httpx.AsyncClient, receiver: Receiver
) -> None:
    await subscribed(client, subscription("Flag?status=active", receiver.origin))
    await put(client, rating("red"))
    await _delete_flag(client)
    await put(client, rating("red", "other"))
    await until(lambda: receiver.focuses[-1:] == ["Flag/other"])
    assert receiver.numbers == [1, 2]


async def test_notices_are_xml_for_who_asks_for_it(
    client: httpx.AsyncClient, receiver: Receiver
) -> None:
    """It says the same as JSON would; so does the resource of a plain notice."""
    kind = "application/fhir+xml"
    wanted = subscription("rating-changed", receiver.origin, "full-resource", payload=kind)
    made = await subscribed(client, wanted)
    plain = subscription("Flag?status=active", receiver.origin, content="", payload=kind)
    await subscribed(client, plain)
    flag = await put(client, rating("red"))
    await until(lambda: sum(bool(one.content) for one in receiver.got) == 3)
    full = [one for one in receiver.got if one.content]
    assert {one.headers["content-type"] for one in full} == {kind}
    (update,) = [one for one in full if one.method == "PUT"]
    assert (update.path, xml.decode_resource(update.content)) == ("/Flag/flag", flag)
    notices = [xml.decode_resource(one.content) for one in full if one.method == "POST"]
    assert [len(one["entry"]) for one in notices] == [1, 2]
    assert json.encode(notices[1]["entry"][1]["resource"]) == json.encode(flag)
    shown = (await client.get(f"Subscription/{made}")).json()
    assert shown["channel"]["payload"] == kind
