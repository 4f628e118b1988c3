"""Notices to a rest-hook: handshake, order, numbers, content.

https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/workflow.html
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fhir.resources.R4B.bundle import Bundle

from tests.events.receiving import (
    QUICK,
    Receiver,
    has_status,
    patient,
    receiving,
    stay,
    subscribed,
    subscription,
    until,
)
from tests.support import assert_outcome, body, client_of, create, put


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as found:
        yield found


@pytest.fixture
async def client(tmp_path: Path, receiver: Receiver) -> AsyncIterator[httpx.AsyncClient]:
    settings: dict[str, Any] = {**QUICK, "notices_to": (receiver.origin,)}
    async with client_of(tmp_path, keyworking_profiles=False, **settings) as found:
        await put(found, patient())
        yield found


async def test_a_subscription_becomes_active_by_a_handshake(
    client: httpx.AsyncClient, receiver: Receiver
) -> None:
    made = await create(client, subscription("admitted", f"{receiver.origin}/hook"))
    assert made["status"] == "requested"
    await until(lambda: has_status(client, made["id"], "active"))
    [handshake] = receiver.got
    assert (handshake.method, handshake.path, handshake.kind) == ("POST", "/hook", "handshake")
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
