"""What a process does with subscriptions, with a clock that the test moves."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic import ValidationError

from fhir_server.access.caller import ANONYMOUS, Caller
from fhir_server.access.policy import OpenPolicy
from fhir_server.access.session import Session, SessionUnit
from fhir_server.events import feed as feeds
from fhir_server.events.binding import websocket_url
from fhir_server.events.desk import find_own
from fhir_server.events.dispatcher import Dispatcher
from fhir_server.events.feed import Feed
from fhir_server.events.keeping import Keeping
from fhir_server.events.sockets import Bound, Sockets
from fhir_server.events.terms import DAY, SECOND, Terms
from fhir_server.fhir import json
from fhir_server.fhir.json import Resource
from fhir_server.settings import Settings
from fhir_server.storage.interface import Draft, Store, Unit
from tests.events.receiving import rating, subscription, until
from tests.storage.conftest import backend, store

__all__ = ["backend", "store"]


class Clock:
    """Microseconds since the epoch."""

    now = 1_800_000_000 * SECOND

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def terms(clock: Clock) -> Terms:
    return Terms("http://localhost/fhir", clock, every=0.02)


def _session(store: Store, terms: Terms, caller: Caller = ANONYMOUS) -> Session:
    return Session(store, caller, OpenPolicy(), keeper=Keeping(lambda: terms))


@asynccontextmanager
async def _dispatching(store: Store, terms: Terms, sockets: Sockets) -> AsyncIterator[Dispatcher]:
    made = Dispatcher(store, terms, lambda caller: _session(store, terms, caller), sockets)
    made.start()
    try:
        yield made
    finally:
        await made.stop()


async def _put(session: Session, *resources: Resource) -> None:
    async def work(unit: SessionUnit) -> None:
        for resource in resources:
            await unit.put(resource, "PUT")

    await session.commit("test", work)


async def _subscription(session: Session) -> Resource:
    found = await session.read("Subscription", "s")
    assert found is not None
    return json.decode_resource(found.body)


async def test_a_subscription_ends_when_its_time_is_over(
    store: Store, terms: Terms, clock: Clock
) -> None:
    session = _session(store, terms)
    await _put(session, {**subscription("admitted", type="websocket"), "id": "s"})
    assert (await _subscription(session))["end"].startswith("2027-04-15")
    async with _dispatching(store, terms, Sockets()):
        await asyncio.sleep(0.1)
        assert (await _subscription(session))["status"] == "active"
        clock.now += 90 * DAY

    async with _dispatching(store, terms, Sockets()):

        async def is_off() -> bool:
            return bool((await _subscription(session))["status"] == "off")

        await until(is_off)
    assert not (await find_own(session, "s")).at_work


class _Kept:
    """A connection that is open until it is closed."""

    def __init__(self) -> None:
        self.code = 0

    async def send(self, text: str) -> None:
        del text

    async def close(self, code: int, reason: str) -> None:
        del reason
        self.code = code


async def test_a_websocket_that_is_bound_after_the_end_is_closed(
    store: Store, terms: Terms
) -> None:
    sockets, connection = Sockets(), _Kept()
    async with _dispatching(store, terms, sockets):
        sockets.bind("anonymous/gone", connection, Bound())
        await until(lambda: connection.code)
    assert connection.code == 1000


async def test_nothing_is_written_while_nothing_concerns_a_subscription(
    store: Store, terms: Terms
) -> None:
    session = _session(store, terms)
    await _put(session, {**subscription("admitted", type="websocket"), "id": "s"})
    before = await find_own(session, "s")
    async with _dispatching(store, terms, Sockets()):
        await _put(session, rating("red"))
        await asyncio.sleep(0.2)
        assert await find_own(session, "s") == before


async def test_no_event_is_missed_wherever_the_feed_is(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind what is kept, within it, at its edges, and before the first look."""
    monkeypatch.setattr(feeds, "_AT_ONCE", 3)
    monkeypatch.setattr(feeds, "_KEPT", 5)

    async def put(number: int) -> None:
        async def work(unit: Unit) -> None:
            await unit.put(Draft({"resourceType": "Patient", "id": f"p{number}"}), "PUT")

        await store.commit(work)

    feed = Feed(store)
    for number in range(4):
        await put(number)
    assert [one.stored.id for one in await feed.after(0)] == ["p0", "p1", "p2"]
    while await feed.refresh() and len(feed._recent) < 5:
        await put(number := number + 1)
    for more in range(20, 28):
        await put(more)
        await feed.refresh()
    every = [seq for seq, _ in await store.changes(0, 100)]
    for start in (0, *every):
        found, at = [], start
        while page := await feed.after(at):
            found += [one.seq for one in page]
            at = found[-1]
        assert found == [seq for seq in every if seq > start]


def test_pauses_grow_up_to_the_longest(terms: Terms) -> None:
    assert [terms.pause(n) // SECOND for n in (1, 2, 3, 10, 11, 10_000)] == [
        *(5, 10, 20),
        *(2560, 3600, 3600),
    ]


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        ("http://127.0.0.1:8080/fhir", "ws://127.0.0.1:8080/fhir/ws"),
        ("https://fhir.example.nhs.uk/a/fhir", "wss://fhir.example.nhs.uk/a/fhir/ws"),
    ],
)
def test_a_websocket_is_as_safe_as_the_base(base: str, expected: str) -> None:
    assert websocket_url(base) == expected


@pytest.mark.parametrize(
    "origin",
    ["http://hooks.example", "https://hooks.example/path", "hooks.example", "https://u@x.example"],
)
def test_notices_go_to_origins_over_https(origin: str) -> None:
    with pytest.raises(ValidationError, match="notices_to"):
        Settings(auth="none", notices_to=(origin,))
    told: Any = Settings(auth="none", notices_to=("https://a.example", "http://127.0.0.1:9"))
    assert told.notices_to == ("https://a.example", "http://127.0.0.1:9")
