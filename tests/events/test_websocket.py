"""Notices over a websocket that is bound with a token.

https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/channels.html#websockets
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from fhir_server.app import create_app
from fhir_server.fhir import xml
from fhir_server.settings import Settings
from tests.events.receiving import QUICK, Got, Quiet, patient, rating, stay, subscription, until
from tests.stores import store_at
from tests.support import ServerProcess, create, free_port, put


@asynccontextmanager
async def _serving(tmp_path: Path, **more: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A server that listens, as `keyworking serve` does."""
    store = store_at(tmp_path / "test.db")
    settings = Settings(
        auth="none", store=store, port=free_port(), keyworking_profiles=False, **QUICK, **more
    )
    config = uvicorn.Config(
        create_app(settings), port=settings.port, log_level="critical", ws="websockets-sansio"
    )
    server = Quiet(config)
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    async with httpx.AsyncClient(base_url=settings.base + "/") as found:
        yield found
    server.should_exit = True
    await task


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with _serving(tmp_path) as found:
        await put(found, patient())
        yield found


async def _token(client: httpx.AsyncClient, made: str) -> tuple[str, str]:
    answer = await client.post(f"Subscription/{made}/$get-ws-binding-token")
    assert answer.status_code == 200, answer.text
    told = {one["name"]: one for one in answer.json()["parameter"]}
    return told["websocket-url"]["valueUrl"], told["token"]["valueString"]


@asynccontextmanager
async def _bound(client: httpx.AsyncClient, made: str) -> AsyncIterator[ClientConnection]:
    url, token = await _token(client, made)
    async with connect(url, proxy=None) as socket:
        await socket.send(f"bind-with-token {token}")
        yield socket


async def _next(socket: ClientConnection) -> str:
    async with asyncio.timeout(60):
        return str(await socket.recv())


async def _notice(socket: ClientConnection) -> Got:
    return Got("", "", {}, (await _next(socket)).encode())


async def test_notices_come_over_a_bound_websocket(client: httpx.AsyncClient) -> None:
    made = (await create(client, subscription("rating-changed", type="websocket")))["id"]
    async with _bound(client, made) as socket:
        assert (await _notice(socket)).kind == "handshake"
        for number in (1, 2):
            await put(client, rating("red", f"f{number}"))
            one = await _notice(socket)
            assert (one.numbers, one.focuses) == ([number], [f"Flag/f{number}"])
        await socket.send("ping")
        assert await _next(socket) == "pong"


async def test_what_comes_while_nobody_is_bound_waits(client: httpx.AsyncClient) -> None:
    made = (await create(client, subscription("rating-changed", type="websocket")))["id"]
    await put(client, rating("red", "one"))
    await asyncio.sleep(0.2)
    async with _bound(client, made) as socket:
        assert (await _notice(socket)).kind == "handshake"
        assert (await _notice(socket)).numbers == [1]
    await put(client, rating("red", "two"))
    async with _bound(client, made) as socket:
        assert (await _notice(socket)).kind == "handshake"
        assert (await _notice(socket)).numbers == [2]


async def test_plain_criteria_are_pinged(client: httpx.AsyncClient) -> None:
    wanted = subscription("Encounter?status=in-progress", content="", type="websocket")
    del wanted["channel"]["payload"]
    made = (await create(client, wanted))["id"]
    async with _bound(client, made) as socket:
        assert await _next(socket) == f"bound {made}"
        await put(client, stay("in-progress"))
        assert await _next(socket) == f"ping {made}"


async def test_a_token_is_good_once(client: httpx.AsyncClient) -> None:
    made = (await create(client, subscription("admitted", type="websocket")))["id"]
    url, token = await _token(client, made)
    async with connect(url, proxy=None) as first, connect(url, proxy=None) as second:
        await first.send(f"bind-with-token {token}")
        assert (await _notice(first)).kind == "handshake"
        await second.send(f"bind-with-token {token}")
        refusal: Any = json.loads(await _next(second))
        assert refusal["resourceType"] == "OperationOutcome"
        assert refusal["issue"][0]["code"] == "forbidden"
        with pytest.raises(ConnectionClosed):
            await _next(second)


@pytest.mark.parametrize(
    "said", ["bind-with-token", "bind-with-token x", "bind-with-token \N{SNOWMAN}.y", "hello", "{"]
)
async def test_what_is_no_good_token_is_refused(client: httpx.AsyncClient, said: str) -> None:
    url = f"ws{str(client.base_url).removeprefix('http')}ws"
    async with connect(url, proxy=None) as socket:
        await socket.send(said)
        assert json.loads(await _next(socket))["issue"][0]["code"] in ("invalid", "forbidden")
        with pytest.raises(ConnectionClosed):
            await _next(socket)


async def test_bytes_and_long_messages_end_the_connection(client: httpx.AsyncClient) -> None:
    url = f"ws{str(client.base_url).removeprefix('http')}ws"
    async with connect(url, proxy=None) as socket:
        await socket.send(b"\x00" * 100)
        with pytest.raises(ConnectionClosed):
            await _next(socket)
    assert (await client.get("metadata")).status_code == 200


async def test_a_subscription_that_ends_closes_its_websocket(client: httpx.AsyncClient) -> None:
    made = (await create(client, subscription("admitted", type="websocket")))["id"]
    async with _bound(client, made) as socket:
        assert (await _notice(socket)).kind == "handshake"
        await client.delete(f"Subscription/{made}")
        with pytest.raises(ConnectionClosed) as closed:
            await _next(socket)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1000


async def test_two_websockets_of_one_process_both_get_every_notice(
    client: httpx.AsyncClient,
) -> None:
    made = (await create(client, subscription("rating-changed", type="websocket")))["id"]
    async with _bound(client, made) as first, _bound(client, made) as second:
        assert (await _notice(first)).kind == (await _notice(second)).kind == "handshake"
        await put(client, rating("red"))
        assert (await _notice(first)).numbers == (await _notice(second)).numbers == [1]


async def test_one_that_was_bound_to_another_process_since_is_told_so(
    client: httpx.AsyncClient, tmp_path: Path
) -> None:
    made = (await create(client, subscription("rating-changed", type="websocket")))["id"]
    async with _serving(tmp_path) as elsewhere, _bound(client, made) as first:
        assert (await _notice(first)).kind == "handshake"
        async with _bound(elsewhere, made) as second:
            assert (await _notice(second)).kind == "handshake"
            await put(client, rating("red"))
            assert (await _notice(second)).numbers == [1]
            with pytest.raises(ConnectionClosed) as closed:
                await _next(first)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4001
    assert "another server process" in closed.value.rcvd.reason


async def test_notices_in_xml_come_over_a_websocket(client: httpx.AsyncClient) -> None:
    wanted = subscription("rating-changed", type="websocket", payload="application/fhir+xml")
    made = (await create(client, wanted))["id"]
    async with _bound(client, made) as socket:
        for kind in ("handshake", "event-notification"):
            bundle = xml.decode_resource((await _next(socket)).encode())
            told = bundle["entry"][0]["resource"]["parameter"]
            assert kind in [one.get("valueCode") for one in told]
            await put(client, rating("red"))


async def test_keyworking_serve_takes_websockets_and_logs_no_address(tmp_path: Path) -> None:
    process = ServerProcess(tmp_path / "served.db", tmp_path / "log")
    await asyncio.to_thread(process.start)
    try:
        async with httpx.AsyncClient(base_url=process.base + "/", timeout=60) as client:
            made = (await create(client, subscription("admitted", type="websocket")))["id"]
            url, token = await _token(client, made)
            async with connect(f"{url}?patient=9990000018", proxy=None) as socket:
                await socket.send(f"bind-with-token {token}")
                assert (await _notice(socket)).kind == "handshake"
    finally:
        await asyncio.to_thread(process.stop)
    assert "Uvicorn running" in process.logged()
    assert "9990000018" not in process.logged()
    assert token not in process.logged()


async def test_a_ping_alone_keeps_no_connection(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has no token would hold as many as they like."""
    monkeypatch.setattr("fhir_server.http.websockets._UNTIL_BOUND", 1.0)
    url = f"ws{str(client.base_url).removeprefix('http')}ws"
    async with connect(url, proxy=None) as socket:
        await socket.send("ping")
        assert await _next(socket) == "pong"
        with pytest.raises(ConnectionClosed):
            await _next(socket)


async def test_whoever_guesses_is_counted_and_costs_no_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _serving(tmp_path, max_failure_rate=0.01, max_failure_burst=2) as client:
        made = (await create(client, subscription("admitted", type="websocket")))["id"]
        url, token = await _token(client, made)

        async def nothing(*_: Any) -> None:
            raise AssertionError("A commit")

        monkeypatch.setattr("fhir_server.storage.sqlite.store.SqliteStore.commit", nothing)
        codes = []
        for guess in ("YQ.one", "YQ.two", "YQ.three", token):
            async with connect(url, proxy=None) as socket:
                await socket.send(f"bind-with-token {guess}")
                codes.append(json.loads(await _next(socket))["issue"][0]["code"])
        assert codes == ["forbidden", "forbidden", "throttled", "throttled"]
