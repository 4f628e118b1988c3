"""The short way of plain reads answers as the general one, byte by byte, and audits the same."""

import asyncio
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from fhir_server.access.caller import ANONYMOUS
from fhir_server.access.policy import OpenPolicy
from fhir_server.access.session import Session, SessionUnit
from fhir_server.app import Application, create_app
from fhir_server.fhir.references import new_id
from fhir_server.http.direct import at_once
from fhir_server.http.render import http_time
from fhir_server.http.wire import Protocol
from fhir_server.settings import Settings
from tests.http.wired import Told, Transport, Wired, get
from tests.stores import SQLITE, store_at

NIGHTLY: Final = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
ABOUT: Final = {"reference": "Patient/p1"}
STATUS: Final = b"HTTP/1.1 200 "
LONG: Final = "Sees the same person each week, é and ü. " * 60
RESOURCES: Final[tuple[dict[str, Any], ...]] = (
    {"resourceType": "Patient", "id": "p1", "gender": "female"},
    {"resourceType": "Goal", "id": "short", "description": {"text": "To sleep"}, "subject": ABOUT},
    {"resourceType": "Goal", "id": "long", "description": {"text": LONG}, "subject": ABOUT},
    {"resourceType": "Basic", "id": "huge", "code": {"text": LONG * 40}},
    {"resourceType": "Binary", "id": "b", "contentType": "text/plain", "data": "aGVsbG8="},
    {"resourceType": "Goal", "id": "gone", "description": {"text": "No more"}, "subject": ABOUT},
)
PATHS: Final = (
    *("Patient/p1", "Goal/short", "Goal/long", "Basic/huge", "Binary/b", "Goal/gone", "Goal/none"),
    *("Goal/short/", "/Goal/short", "goal/short", "Gaol/short", "Goal/sh%6Frt", "Goal/sh_rt"),
    *("Goal/short?", "Goal/short?_format=xml", "Goal/short?_summary=true", "Goal/long#x"),
    *(
        "AuditEvent/1",
        "metadata",
        "Goal",
        "Goal/short/_history/1",
        f"Goal/{'x' * 65}",
        "Goal/$meta",
    ),
)
HEADERS: Final = (
    ("Accept", "application/fhir+json"),
    ("Accept", "*/*"),
    ("Accept", "text/html, application/fhir+json;q=0.9"),
    ("Accept", "application/fhir+xml"),
    ("Accept", "image/png"),
    ("Accept", ""),
    ("Accept-Encoding", "gzip, deflate, br"),
    ("Accept-Encoding", "gzip, identity;q=0"),
    ("Accept-Encoding", "identity"),
    ("Authorization", "Bearer none"),
    ("Connection", "close"),
    ("Connection", "keep-alive"),
    ("Connection", "upgrade, x"),
    ("Content-Length", "0"),
    ("Content-Length", "2"),
    ("Content-Type", "application/fhir+json"),
    ("Cookie", "a=b"),
    ("Expect", "100-continue"),
    ("Forwarded", "for=9.9.9.9;host=elsewhere"),
    ("Host", "another"),
    ("If-Match", 'W/"1"'),
    ("If-Modified-Since", "Fri, 01 Jan 2100 00:00:00 GMT"),
    ("If-None-Match", 'W/"1"'),
    ("Origin", "https://app.example"),
    ("Prefer", "return=minimal"),
    ("Prefer", "handling=strict"),
    ("Transfer-Encoding", "chunked"),
    ("Upgrade", "h2c"),
    ("User-Agent", "somebody/1.0 (é)"),
    ("X-Correlation-ID", "one-of-them"),
    ("X-Correlation-ID", "no id"),
    ("X-Forwarded-For", "7.7.7.7"),
    ("X-Forwarded-Proto", "https"),
    ("X-Provenance", "{}"),
    ("X-Request-ID", "mine"),
    ("X-Request-ID", "not mine"),
    ("X-Something", "else"),
    *(("X-Large", "y" * 40_000), ("User-Agent", "y" * 33_000)),
)
FORMS: Final[dict[str, dict[str, Any]]] = {
    "plain": {},
    "proxied": {"trusted_proxies": ("127.0.0.1",)},
    "crossing": {"cors_origins": ("https://app.example",), "public_base": "https://h.example/fhir"},
    "bounded": {"max_rate": 0.001, "max_burst": 5, "max_headers": 10},
}


class Served:
    """An application that is up for the tests of a module, with a loop of its own."""

    def __init__(self, folder: Path, **changed: Any) -> None:
        self.runner: Final = asyncio.Runner()
        store = store_at(folder / "direct.db", SQLITE)
        self.app: Final = create_app(Settings(auth="none", store=store, **changed))
        self._up = self.app.router.lifespan_context(self.app)
        self.runner.run(self._up.__aenter__())
        self.runner.run(_store(self.app))
        self.wired: Final = Wired(self.app)

    def both(self, raw: bytes) -> tuple[Told, Told]:
        """The answers of both ways, each with all turns left, of which both take as many."""

        async def ask() -> tuple[Told, Told]:
            general, taken = await self.wired.generally(raw), self.refilled()
            usual = await self.wired.usually(raw)
            assert self.refilled() == taken
            return general, usual

        return self.runner.run(ask())

    def wired_alone(self, raw: bytes) -> bytes:
        """The answer of the general way, on a connection of its own."""
        answer = self.runner.run(self.wired.generally(raw)).answer
        self.refilled()
        return answer

    def refilled(self) -> dict[str, float]:
        """What was left of the turns of each who asked, which all have again."""
        assert self.app.fhir is not None
        buckets = self.app.fhir.rates._requests
        found = buckets._left if buckets else {}
        left: dict[str, float] = {key: round(one) for key, (one, _) in found.items()}
        found.clear()
        return left

    def stop(self) -> None:
        self.runner.run(self._up.__aexit__(None, None, None))
        self.runner.close()


async def _store(app: Application) -> None:
    async def work(unit: SessionUnit) -> None:
        for resource in RESOURCES:
            stored = await unit.put(resource, "PUT")
            if stored.id == "gone":
                await unit.delete(stored)

    await Session(app.state.store, ANONYMOUS, OpenPolicy()).commit("set up", work)


@pytest.fixture(scope="module", params=FORMS)
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    found = Served(tmp_path_factory.mktemp("direct"), **FORMS[request.param])
    yield found
    found.stop()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    found = Served(tmp_path_factory.mktemp("plain"))
    yield found
    found.stop()


requests = st.builds(
    lambda path, headers, method: get(path, *headers, method=method),
    st.one_of(st.just("Goal/long"), st.sampled_from(PATHS)),
    st.lists(st.sampled_from(HEADERS), max_size=4),
    st.sampled_from(("GET", "GET", "GET", "HEAD", "OPTIONS", "DELETES")),
)


@settings(
    max_examples=3000 if NIGHTLY else 120,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(raw=requests)
def test_both_ways_answer_and_audit_alike(served: Served, raw: bytes) -> None:
    general, usual = served.both(raw)
    assert usual == general


@pytest.mark.parametrize("header", [None, *HEADERS], ids=lambda one: str(one)[:40])
def test_each_header_by_itself(served: Served, header: tuple[str, str] | None) -> None:
    raw = get("Goal/long", *([header] if header else []))
    general, usual = served.both(raw)
    assert usual == general


@pytest.mark.parametrize("path", PATHS)
def test_each_address_by_itself(served: Served, path: str) -> None:
    general, usual = served.both(get(path))
    assert usual == general


def test_what_is_asked_most_takes_the_short_way(served: Served) -> None:
    before = served.wired.short
    browser = (("Accept", "*/*"), ("Accept-Encoding", "gzip, deflate"), ("User-Agent", "x"))
    for path in ("Patient/p1", "Goal/short", "Goal/long"):
        for headers in ((), browser, (*browser, ("X-Request-ID", "a"), ("X-Correlation-ID", "b"))):
            if len(headers) < 5:
                served.both(get(path, *headers))
    assert served.wired.short - before == 6
    served.both(get("Goal/short", ("Accept", "application/fhir+xml")))
    served.both(get("Basic/huge"))
    served.both(get("Binary/b"))
    assert served.wired.short - before == 6
    served.both(get("Goal/none"))
    served.both(get("Goal/gone"))
    assert served.wired.short - before == 8


def test_as_many_headers_as_are_allowed(served: Served) -> None:
    names = ("Accept-Language", "Cache-Control", "Cookie", "DNT", "Pragma", "Referer", "TE", "Via")
    many = [*((name, "x") for name in names), ("X-Request-ID", "a")]
    for count in (9, 10):
        told = [*many, ("Priority", "u=1")][:count]
        general, usual = served.both(get("Goal/short", *told))
        assert usual == general


def test_several_on_one_connection_are_answered_in_turn(served: Served) -> None:
    plain, other = get("Goal/short"), get("Goal/long?_format=json")
    for several in ([plain, plain], [plain, other, plain], [other, plain], [other, plain, other]):
        expected = b"".join(served.both(one)[0].answer for one in several)
        assert served.both(b"".join(several))[1].answer == expected


def _closes(protocol: Protocol, transport: Transport, idle: int) -> bool:
    """Whether the connection is closed where its timer ends after so many seconds."""
    assert protocol.timeout_keep_alive_task is not None
    protocol.timeout_keep_alive_task.cancel()
    protocol.timeout_keep_alive = idle
    protocol.timeout_keep_alive_handler()
    protocol.timeout_keep_alive = 60
    return transport.closed


def test_no_timer_closes_the_connection_while_a_request_is_under_way(plain: Served) -> None:
    async def ask() -> None:
        protocol, transport = plain.wired.connected()
        protocol.data_received(get("Goal/short") + get("Goal/long?_format=json"))
        assert transport.written.count(STATUS) == 1
        assert not _closes(protocol, transport, 0)
        await asyncio.gather(*protocol.tasks)
        assert transport.written.count(STATUS) == 2
        assert _closes(protocol, transport, 0)
        protocol.connection_lost(None)

    plain.runner.run(ask())


@pytest.mark.parametrize("lost", [None, ConnectionResetError()])
def test_a_timer_closes_a_connection_once_it_was_idle_for_long(
    plain: Served, lost: Exception | None
) -> None:
    async def ask() -> None:
        protocol, transport = plain.wired.connected()
        for _ in range(2):
            protocol.data_received(get("Goal/short"))
            assert not _closes(protocol, transport, 60)
        protocol.data_received(get("Goal/short")[:20])
        assert not _closes(protocol, transport, 0), "more has come in"
        protocol.data_received(get("Goal/short")[20:])
        timer = protocol.timeout_keep_alive_task
        assert timer is not None
        protocol.connection_lost(lost)
        assert timer.cancelled()
        assert protocol.timeout_keep_alive_task is None

    plain.runner.run(ask())


def test_nothing_is_read_while_requests_wait_for_those_before(plain: Served) -> None:
    seen: list[tuple[bool, bool]] = []

    async def ask() -> None:
        protocol, transport = plain.wired.connected()
        began = protocol._start_asgi_task

        def begin(cycle: RequestResponseCycle, app: Any) -> None:
            async def asked(scope: Any, receive: Any, send: Any) -> None:
                await receive()
                seen.append((bool(protocol.pipeline), transport.reading))
                await app(scope, receive, send)
                seen.append((bool(protocol.pipeline), transport.reading))

            began(cycle, asked)

        protocol._start_asgi_task = begin  # type: ignore[method-assign]
        protocol.data_received(get("Goal/long?_format=json") * 4)
        while protocol.tasks:
            await asyncio.gather(*protocol.tasks)
        assert transport.written.count(STATUS) == 4
        protocol.connection_lost(None)

    plain.runner.run(ask())
    assert len(seen) == 8
    assert {reading is not waiting for waiting, reading in seen} == {True}
    assert {waiting for waiting, _ in seen} == {True, False}


def test_many_at_once_do_not_keep_others_waiting(plain: Served) -> None:
    async def ask() -> None:
        protocol, transport = plain.wired.connected()
        for _ in range(2):
            transport.written = b""
            protocol.data_received(get("Goal/short") * 60)
            assert transport.written.count(STATUS) == 50
            while protocol.tasks:
                await asyncio.gather(*protocol.tasks)
            assert transport.written.count(STATUS) == 60
        protocol.connection_lost(None)

    plain.runner.run(ask())


@pytest.mark.parametrize(
    ("path", "most"), [("Goal/short", 80), ("Goal/long?_format=json", 2)], ids=["short", "usual"]
)
def test_a_burst_is_parsed_in_turns(plain: Served, path: str, most: int) -> None:
    """Between two turns of others no more is answered than one slice of it asks for."""
    burst = get(path) * 300
    answered: list[int] = []
    waiting: list[int] = []

    async def ask() -> None:
        protocol, transport = plain.wired.connected()
        protocol.data_received(burst)
        while not answered or answered[-1] < 300:
            answered.append(transport.written.count(STATUS))
            waiting.append(len(protocol.pipeline))
            assert transport.reading is not bool(protocol.pipeline or protocol._rest)
            await asyncio.sleep(0)
        protocol.connection_lost(None)
        protocol._unset_keepalive_if_required()

    plain.runner.run(ask())
    assert max(later - first for first, later in pairwise(answered)) <= most
    assert max(waiting) <= 80


def test_nothing_is_read_behind_what_cannot_be_parsed(plain: Served) -> None:
    async def ask() -> None:
        protocol, transport = plain.wired.connected()
        protocol.data_received(get("Goal/long?_format=json") + b"\0" * 10_000)
        for _ in range(3):
            assert not transport.reading
            await asyncio.sleep(0)
        while protocol.tasks:
            await asyncio.gather(*protocol.tasks)
        assert transport.written.count(b"HTTP/1.1 ") == 1
        assert transport.closed
        protocol.connection_lost(None)
        protocol._unset_keepalive_if_required()

    plain.runner.run(ask())


def test_a_large_body_is_parsed_as_it_comes(plain: Served) -> None:
    body = b'{"resourceType": "Basic", "code": {"text": "%b"}}' % (b"x" * 200_000)
    told = (("Content-Type", "application/fhir+json"), ("Content-Length", str(len(body))))
    sent = get("Basic", *told, method="POST") + body + get("Goal/short")

    async def ask() -> None:
        protocol, transport = plain.wired.connected()
        protocol.data_received(sent)
        assert protocol._rest
        await asyncio.sleep(0)
        assert not protocol._rest
        while protocol.tasks:
            await asyncio.gather(*protocol.tasks)
        assert transport.written.count(b"HTTP/1.1 201 ") == transport.written.count(STATUS) == 1
        assert transport.reading
        protocol.connection_lost(None)
        protocol._unset_keepalive_if_required()

    plain.runner.run(ask())


async def test_what_has_to_be_waited_for_is_ended() -> None:
    ended: list[str] = []

    async def waits() -> str:
        try:
            await asyncio.sleep(1)
        finally:
            ended.append("ended")
        return "never"

    assert at_once(waits()) is None
    assert ended == ["ended"]


def test_an_id_is_a_random_uuid() -> None:
    from uuid import RFC_4122, UUID

    made = [UUID(new_id()) for _ in range(1000)]
    assert {(one.version, one.variant) for one in made} == {(4, RFC_4122)}
    assert len({*made}) == 1000
    assert {one.clock_seq_hi_variant >> 4 for one in made} == {8, 9, 10, 11}


@given(st.integers(0, 4_102_444_800))
def test_a_time_is_as_the_library_writes_it(seconds: int) -> None:
    from email.utils import formatdate

    assert http_time(seconds) == formatdate(seconds, usegmt=True)


def test_what_was_said_before_on_a_line_says_nothing_of_what_comes(served: Served) -> None:
    """Each request twice in a row on one connection, then once more after all the others."""
    kept_open = [one for one in HEADERS if one[0] not in ("Connection", "Expect", "Upgrade")]
    bodiless = [one for one in kept_open if one[0] not in ("Content-Length", "Transfer-Encoding")]
    asked = [get("Goal/short", header) for header in bodiless if len(header[1]) < 1000]
    asked += [get("Goal/short", one, other) for one, other in pairwise(bodiless[:12])]
    asked = [raw for raw in asked if served.wired_alone(raw).startswith(STATUS)]
    in_turn = [*(raw for raw in asked for _ in range(2)), *asked]
    steps = (step for raw in in_turn for step in (raw, served.refilled))
    found = served.runner.run(served.wired.in_turn(steps))
    assert found == [served.wired_alone(raw) for raw in in_turn]
    assert len({*found}) > 3, "else nothing here tells them apart"


@pytest.mark.parametrize("changed", [{"audit": "strict"}, {"server_timing": True}])
async def test_what_waits_or_is_timed_takes_the_general_way(
    tmp_path: Path, changed: dict[str, Any]
) -> None:
    for told, short in (({}, True), (changed, False)):
        app = create_app(Settings(store=store_at(tmp_path / "own.db", SQLITE), auth="none", **told))
        async with app.router.lifespan_context(app):
            assert (app.direct is not None) is short
