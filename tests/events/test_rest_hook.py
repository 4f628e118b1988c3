"""Notices to a rest-hook: handshake, order, numbers, content.

https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/workflow.html and, for those without the
elements of the backport, https://hl7.org/fhir/R4/subscription.html
"""

import asyncio
from typing import Any

import httpx
import pytest
from fhir.resources.R4B.bundle import Bundle

from fhir_server.validation.checker import standard_checker
from tests.clock import go_ahead
from tests.events.receiving import (
    BACKPORT,
    Receiver,
    has_status,
    narrowed,
    patient,
    rating,
    stay,
    subscribed,
    subscription,
    until,
)
from tests.support import assert_outcome, body, create, put

SECRET = "Bearer 8f1c-not-to-be-shown"


async def test_a_subscription_becomes_active_by_a_handshake(
    client: httpx.AsyncClient, receiver: Receiver
) -> None:
    made = await create(client, subscription("admitted", f"{receiver.origin}/hook"))
    assert made["status"] == "requested"
    await until(lambda: has_status(client, made["id"], "active"))
    [handshake] = receiver.got
    assert (handshake.method, handshake.path, handshake.kind) == ("POST", "/hook", "handshake")
    assert handshake.headers["content-type"] == "application/fhir+json"
    assert handshake.status["subscription"] == {"reference": f"Subscription/{made['id']}"}
    assert handshake.status["events-since-subscription-start"] == "0"
    Bundle.model_validate_json(handshake.content)


async def test_events_come_in_order_with_numbers(
    client: httpx.AsyncClient, receiver: Receiver
) -> None:
    await subscribed(client, subscription("admitted", receiver.origin, "full-resource"))
    for number in range(1, 6):
        await put(client, patient(number))
        await put(client, stay("in-progress", number))
        await put(client, stay("onleave", number))  # is there already
    await until(lambda: len(receiver.numbers) >= 5)
    assert receiver.numbers == [1, 2, 3, 4, 5]
    assert receiver.focuses == [f"Encounter/stay{number}" for number in range(1, 6)]
    told = [resource for one in receiver.events for resource in one.resources]
    assert [one["status"] for one in told] == ["in-progress"] * 5, "as it was at the event"
    for one in receiver.events:
        Bundle.model_validate_json(one.content)
        found = standard_checker().check(one.bundle, expected_type="Bundle")
        assert not [issue for issue in found.issues if issue.severity == "error"]


@pytest.mark.parametrize("content", ["empty", "id-only", "full-resource"])
async def test_a_notice_holds_what_was_asked_for(
    client: httpx.AsyncClient, receiver: Receiver, content: str
) -> None:
    await subscribed(client, subscription("rating-changed", receiver.origin, content))
    await put(client, rating("amber"))
    [one] = await until(lambda: receiver.events)
    assert one.focuses == ([] if content == "empty" else ["Flag/flag"])
    assert [told["id"] for told in one.resources] == (
        ["flag"] if content == "full-resource" else []
    )
    assert (b"Patient/p1" in one.content) == (content == "full-resource")
    assert one.status["topic"].endswith("/SubscriptionTopic/rating-changed")


async def test_what_was_before_the_subscription_is_not_told(
    client: httpx.AsyncClient, receiver: Receiver
) -> None:
    await put(client, rating("amber", "old"))
    await subscribed(client, subscription("rating-changed", receiver.origin))
    await put(client, rating("red", "new"))
    await until(lambda: receiver.events)
    assert receiver.focuses == ["Flag/new"]


async def test_as_many_events_as_are_asked_for_are_in_one_notice(
    client: httpx.AsyncClient, receiver: Receiver
) -> None:
    count = {"url": f"{BACKPORT}/backport-max-count", "valuePositiveInt": 2}
    wanted = subscription("rating-changed", receiver.origin, extension=[count])
    await subscribed(client, wanted)
    flags = [rating("red", f"f{number}") for number in range(5)]
    entries = [
        {"resource": one, "request": {"method": "PUT", "url": f"Flag/{one['id']}"}} for one in flags
    ]
    together = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    assert (await client.post("", json=together)).status_code == 200
    await until(lambda: len(receiver.numbers) == 5)
    assert [one.numbers for one in receiver.events] == [[1, 2], [3, 4], [5]]


async def test_plain_criteria_without_payload_bring_an_empty_post(
    client: httpx.AsyncClient, receiver: Receiver
) -> None:
    wanted = subscription("Flag?status=active&code=red", f"{receiver.origin}/plain", "")
    del wanted["channel"]["payload"]
    await subscribed(client, wanted)
    await put(client, rating("green"))
    await put(client, rating("red"))
    await until(lambda: len(receiver.got) == 2, what="the greeting and one notice")
    assert {(one.method, one.path, one.content) for one in receiver.got} == {
        ("POST", "/plain", b"")
    }


async def test_plain_criteria_with_payload_bring_an_update(
    client: httpx.AsyncClient, receiver: Receiver
) -> None:
    await subscribed(client, subscription("Flag?code=red", f"{receiver.origin}/plain", ""))
    stored = await put(client, rating("red"))
    one = await until(lambda: receiver.got[1:] and receiver.got[1])
    assert (one.method, one.path) == ("PUT", "/plain/Flag/flag")
    assert one.json == stored


async def test_criteria_of_a_search_may_have_notices_with_numbers(
    client: httpx.AsyncClient, receiver: Receiver
) -> None:
    await subscribed(client, subscription("Flag?code=red", receiver.origin))
    await put(client, rating("green"))
    await put(client, rating("red"))
    [one] = await until(lambda: receiver.events)
    assert (one.numbers, one.focuses, "topic" in one.status) == ([1], ["Flag/flag"], False)


async def test_headers_are_sent_and_shown_to_nobody(
    client: httpx.AsyncClient, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = subscription("admitted", receiver.origin, header=[f"Authorization: {SECRET}"])
    made = await create(client, wanted)
    await until(lambda: has_status(client, made["id"], "active"))
    assert receiver.got[0].headers["authorization"] == SECRET
    mine = f"Subscription/{made['id']}"
    for address in (mine, f"{mine}/_history", "_history"):
        answer = await client.get(address)
        assert "Authorization: (kept secret)" in answer.text
        assert SECRET not in answer.text
    assert SECRET not in caplog.text

    read = (await client.get(f"Subscription/{made['id']}")).json()
    again = await put(client, {**read, "status": "requested"})
    await until(lambda: has_status(client, made["id"], "active"))
    assert receiver.got[1].headers["authorization"] == SECRET, "what is not told again stays"
    assert again["channel"]["header"] == ["Authorization: (kept secret)"]

    elsewhere = {**read["channel"], "endpoint": f"{receiver.origin}/elsewhere"}
    refused = await client.put(mine, **body({**read, "status": "requested", "channel": elsewhere}))
    assert_outcome(refused, 400, "invalid", "give it once", "Subscription.channel.header[0]")


async def test_a_heartbeat_comes_while_nothing_happens(
    client: httpx.AsyncClient, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    period = {"url": f"{BACKPORT}/backport-heartbeat-period", "valueUnsignedInt": 5}
    await subscribed(client, subscription("admitted", receiver.origin, extension=[period]))
    await put(client, stay("in-progress"))
    await until(lambda: receiver.events)
    go_ahead(monkeypatch, 5_000_000)
    await until(lambda: len(receiver.got) >= 3, what="a heartbeat")
    kinds = [one.kind for one in receiver.got[:3]]
    assert kinds == ["handshake", "event-notification", "heartbeat"]
    assert receiver.got[2].status["events-since-subscription-start"] == "1"


async def test_off_ends_it_and_requested_begins_anew(
    client: httpx.AsyncClient, receiver: Receiver
) -> None:
    wanted = subscription("rating-changed", receiver.origin)
    made = await subscribed(client, wanted)
    await put(client, rating("amber", "one"))
    await until(lambda: receiver.numbers == [1])
    await put(client, {**wanted, "id": made, "status": "off"})
    await put(client, rating("amber", "two"))
    await asyncio.sleep(0.2)
    assert receiver.numbers == [1]
    await put(client, {**wanted, "id": made})
    await until(lambda: has_status(client, made, "active"))
    await put(client, rating("amber", "three"))
    await until(lambda: receiver.numbers == [1, 1], what="numbers begin again")
    assert receiver.focuses == ["Flag/one", "Flag/three"]


async def test_a_deleted_subscription_is_told_nothing(
    client: httpx.AsyncClient, receiver: Receiver
) -> None:
    made = await subscribed(client, subscription("rating-changed", receiver.origin))
    assert (await client.delete(f"Subscription/{made}")).status_code in (200, 204)
    await put(client, rating("amber"))
    await asyncio.sleep(0.2)
    assert not receiver.events
    assert (await client.get(f"Subscription/{made}/$status")).status_code == 404


def _organisation(number: int, code: str) -> dict[str, Any]:
    system = "https://fhir.nhs.uk/Id/ods-organization-code"
    identifier = [{"system": system, "value": code}]
    return {"resourceType": "Organization", "id": f"o{number}", "identifier": identifier}


def _about(number: int) -> list[dict[str, Any]]:
    """A young person in an area of their own, with a team."""
    whom = {"reference": f"Patient/p{number}"}
    manager = {"reference": f"Organization/o{number}"}
    return [
        _organisation(number, f"Q{number}"),
        patient(number),
        {
            "resourceType": "EpisodeOfCare",
            "id": f"e{number}",
            "status": "active",
            "patient": whom,
            "managingOrganization": manager,
        },
        {
            "resourceType": "CareTeam",
            "id": f"t{number}",
            "subject": whom,
            "managingOrganization": [manager],
        },
    ]


async def test_a_topic_is_narrowed_by_patient_area_and_team(
    client: httpx.AsyncClient, receiver: Receiver
) -> None:
    asked = {
        "/1": ("Flag?patient=Patient/p2", ["Flag/f2"]),
        "/2": ("patient=p1,Patient/p3", ["Flag/f1", "Flag/f3"]),
        "/3": ("area=Q2", ["Flag/f2"]),
        "/4": ("area=q2,Organization/o3", ["Flag/f2", "Flag/f3"]),
        "/5": ("team=CareTeam/t1", ["Flag/f1"]),
        "/6": ("team=Organization/o3", ["Flag/f3"]),
        "/7": ("area=Q1&patient=Patient/p1", ["Flag/f1"]),
        "/8": ("area=Q1&patient=Patient/p2", []),
        "/9": ("patient=p1,p2,p3", ["Flag/f1", "Flag/f2", "Flag/f3"]),
        "/10": ("area=Q9", ["Flag/f3"]),
        "/11": ("area=Organization/o9", ["Flag/f3"]),
    }
    await put(client, _organisation(9, "Q9"))
    for number in (1, 2, 3):
        for one in _about(number):
            await put(client, one)
    below = {**_organisation(3, "Q3"), "partOf": {"reference": "Organization/o9"}}
    await put(client, below)
    for path, (text, _) in asked.items():
        wanted = subscription("rating-changed", f"{receiver.origin}{path}")
        await subscribed(client, narrowed(wanted, text))
    for number in (1, 2, 3):
        await put(client, rating("red", f"f{number}", number))
    expected = {path: focuses for path, (_, focuses) in asked.items()}
    await until(lambda: len(receiver.focuses) == sum(map(len, expected.values())))
    for path, focuses in expected.items():
        told = [one for got in receiver.events if got.path == path for one in got.focuses]
        assert told == focuses, asked[path]
