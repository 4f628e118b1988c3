"""$status, $events and $get-ws-binding-token of a subscription; another's is not there.

https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/artifacts.html
"""

from typing import Any

import httpx
import pytest
from fhir.resources.R4B.bundle import Bundle

from tests.events.receiving import (
    Got,
    Receiver,
    rating,
    subscribed,
    subscription,
    until,
)
from tests.support import assert_outcome, create, put


def _read(response: httpx.Response) -> Got:
    assert response.status_code == 200, response.text
    Bundle.model_validate_json(response.content)
    return Got("GET", "", {}, response.content)


@pytest.fixture
async def told(client: httpx.AsyncClient, receiver: Receiver) -> str:
    """The id of a subscription that was told of three events."""
    made = await subscribed(client, subscription("rating-changed", receiver.origin))
    for number in (1, 2, 3):
        await put(client, rating("red", f"f{number}"))
    await until(lambda: len(receiver.numbers) == 3)
    return made


async def test_events_tells_by_number_what_was_sent(
    client: httpx.AsyncClient, told: str, receiver: Receiver
) -> None:
    asked = f"Subscription/{told}/$events"
    every = _read(await client.get(asked))
    assert (every.kind, every.numbers) == ("query-event", [1, 2, 3])
    assert every.focuses == receiver.focuses
    assert every.status["events-since-subscription-start"] == "3"
    some = _read(await client.get(f"{asked}?eventsSinceNumber=2&eventsUntilNumber=2&content=empty"))
    assert (some.numbers, some.focuses) == ([2], [])
    full = _read(await client.get(f"{asked}?eventsSinceNumber=3&content=full-resource"))
    assert [one["id"] for one in full.resources] == ["f3"]
    assert _read(await client.get(f"{asked}?eventsSinceNumber=4")).numbers == []
    for query, text in (("eventsSinceNumber=x", "number"), ("content=all", "full-resource")):
        place = f"http.{query.partition('=')[0]}"
        assert_outcome(await client.get(f"{asked}?{query}"), 400, "invalid", text, place)


async def test_status_tells_how_subscriptions_are(
    client: httpx.AsyncClient, told: str, receiver: Receiver
) -> None:
    one = _read(await client.get(f"Subscription/{told}/$status"))
    assert one.kind == "query-status"
    assert one.status["status"] == "active"
    assert one.status["events-since-subscription-start"] == "3"
    other = await subscribed(client, subscription("admitted", receiver.origin))
    assert await _told_of(client, "") == {told, other}
    assert await _told_of(client, f"?id={other}") == {other}
    assert await _told_of(client, "?status=error") == set()
    missing = await client.get("Subscription/$status?id=nobodys")
    assert_outcome(missing, 404, "not-found", "nobodys")


async def _told_of(client: httpx.AsyncClient, query: str) -> set[str]:
    answer = (await client.get(f"Subscription/$status{query}")).json()
    return {
        one["resource"]["parameter"][0]["valueReference"]["reference"].partition("/")[2]
        for one in answer.get("entry", ())
    }


async def test_a_token_is_for_websockets_that_are_active(
    client: httpx.AsyncClient, told: str
) -> None:
    refused = await client.post(f"Subscription/{told}/$get-ws-binding-token")
    assert_outcome(refused, 422, "business-rule", "channel websocket can be bound")
    none = await client.post("Subscription/$get-ws-binding-token")
    assert_outcome(none, 400, "invalid", "Name the subscriptions", "ids")
    made = await create(client, subscription("admitted", type="websocket"))
    assert made["status"] == "active"
    answer = await client.post(f"Subscription/{made['id']}/$get-ws-binding-token")
    parameters: dict[str, Any] = {one["name"]: one for one in answer.json()["parameter"]}
    assert parameters["subscription"]["valueString"] == made["id"]
    assert parameters["websocket-url"]["valueUrl"].startswith("ws://")


async def test_the_capability_statement_names_the_topics(client: httpx.AsyncClient) -> None:
    [rest] = (await client.get("metadata")).json()["rest"]
    [found] = [one for one in rest["resource"] if one["type"] == "Subscription"]
    assert {one["valueCanonical"].rpartition("/")[2] for one in found["extension"]} == {
        *("rating-changed", "admitted", "discharged", "plan-changed", "consent-changed"),
        *("task-overdue", "transition"),
    }
    names = {one["name"] for one in found["operation"]}
    assert {"status", "events", "get-ws-binding-token", "resume"} <= names
    websocket = "http://hl7.org/fhir/StructureDefinition/capabilitystatement-websocket"
    assert any(one["url"] == websocket for one in rest["extension"])
