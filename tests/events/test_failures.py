"""Receivers that fail, are slow, or are gone: nothing is lost, and nobody else waits."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.events.receiving import (
    QUICK,
    Receiver,
    has_status,
    patient,
    rating,
    receiving,
    subscribed,
    subscription,
    until,
)
from tests.support import assert_outcome, client_of, free_port, put


async def _rated(client: httpx.AsyncClient, *flags: str) -> None:
    for flag in flags:
        await put(client, rating("red", flag))


async def test_what_was_not_taken_comes_again_in_its_order(
    client: httpx.AsyncClient, receiver: Receiver
) -> None:
    made = await subscribed(client, subscription("rating-changed", receiver.origin))
    receiver.status = 503
    await _rated(client, "one", "two")
    await until(lambda: len(receiver.refused) >= 3)
    status = (await client.get(f"Subscription/{made}/$status")).json()
    parameters = {one["name"]: one for one in status["entry"][0]["resource"]["parameter"]}
    assert parameters["error"]["valueCodeableConcept"]["text"] == "The endpoint answered 503"
    assert parameters["status"]["valueCode"] == "active"
    receiver.status = 200
    await until(lambda: len(receiver.numbers) >= 2)
    await _rated(client, "three")
    await until(lambda: len(receiver.numbers) >= 3)
    assert receiver.numbers == [1, 2, 3]
    assert receiver.focuses == ["Flag/one", "Flag/two", "Flag/three"]
    assert {*receiver.refused[0].numbers} <= {1, 2}, "a number stays with its event"


class TestSuspended:
    @pytest.fixture
    def changed(self) -> dict[str, Any]:
        return {"notice_retry_hours": 0.3 / 3600}

    async def test_a_receiver_that_fails_for_too_long_is_suspended_until_resumed(
        self, client: httpx.AsyncClient, receiver: Receiver
    ) -> None:
        made = await subscribed(client, subscription("rating-changed", receiver.origin))
        address = f"Subscription/{made}"
        answer = await client.post(f"{address}/$resume")
        assert_outcome(answer, 422, "business-rule", "only one that is suspended")
        receiver.status = 500
        await _rated(client, "one")
        await until(lambda: has_status(client, made, "error"))
        told = (await client.get(address)).json()
        assert told["error"].startswith("The endpoint answered 500; ")
        assert "$resume goes on" in told["error"]
        await _rated(client, "two")
        tries = len(receiver.refused)
        await asyncio.sleep(0.3)
        assert len(receiver.refused) == tries, "suspended, it is left alone"

        receiver.status = 200
        resumed = await client.post(f"{address}/$resume")
        assert resumed.status_code == 200
        assert (resumed.json()["status"], "error" in resumed.json()) == ("requested", False)
        await until(lambda: len(receiver.numbers) >= 2)
        assert receiver.numbers == [1, 2]
        assert receiver.focuses == ["Flag/one", "Flag/two"]
        assert [one.kind for one in receiver.got][:2] == ["handshake", "handshake"]

    async def test_a_receiver_that_is_not_there_never_becomes_active(
        self, client: httpx.AsyncClient, receiver: Receiver
    ) -> None:
        receiver.status = 404
        made = await client.post("Subscription", json=subscription("admitted", receiver.origin))
        await until(lambda: has_status(client, made.json()["id"], "error"))
        assert not receiver.got

    async def test_a_receiver_that_is_gone_for_good_is_suspended_at_once(
        self, client: httpx.AsyncClient, receiver: Receiver
    ) -> None:
        made = await subscribed(client, subscription("rating-changed", receiver.origin))
        receiver.status = 410
        await _rated(client, "one")
        await until(lambda: has_status(client, made, "error"))
        assert len(receiver.refused) == 1


async def test_slow_and_dead_receivers_hold_nobody_up(tmp_path: Path) -> None:
    async with receiving() as slow, receiving() as quick:
        dead = f"http://127.0.0.1:{free_port()}"
        settings: dict[str, Any] = {
            **QUICK,
            "notice_patience": 30.0,
            "notices_to": (slow.origin, quick.origin, dead),
        }
        async with client_of(tmp_path, keyworking_profiles=False, **settings) as client:
            await put(client, patient())
            for origin in (slow.origin, quick.origin):
                await subscribed(client, subscription("rating-changed", origin))
            await client.post("Subscription", json=subscription("rating-changed", dead))
            slow.opened.clear()
            await _rated(client, *(f"f{number}" for number in range(10)))
            await until(lambda: len(quick.numbers) == 10, what="all, while the slow one has none")
            assert not slow.numbers
            slow.opened.set()
            await until(lambda: len(slow.numbers) == 10)
            assert slow.numbers == quick.numbers == [*range(1, 11)]


async def test_one_that_takes_too_long_has_not_taken_it(tmp_path: Path) -> None:
    async with receiving() as slow:
        settings: dict[str, Any] = {
            **QUICK,
            "notice_patience": 0.2,
            "notices_to": (slow.origin,),
        }
        async with client_of(tmp_path, keyworking_profiles=False, **settings) as client:
            await put(client, patient())
            made = await subscribed(client, subscription("rating-changed", slow.origin))
            slow.pause = 0.5
            await _rated(client, "one")

            async def error() -> bool:
                text = (await client.get(f"Subscription/{made}/$status")).text
                return "could not be reached: TimeoutError" in text

            await until(error)
            slow.pause = 0.0
            await until(lambda: slow.numbers[-1:] == [1])
