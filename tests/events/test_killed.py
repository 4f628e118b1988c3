"""SIGKILL in the middle of notices, and two processes on one store: none is lost, each in order."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from fhir_server.storage.clock import MovableClock
from tests.events.receiving import (
    Receiver,
    patient,
    rating,
    receiving,
    subscribed,
    subscription,
    until,
)
from tests.support import ServerProcess, free_port, put

COUNT = 12


def _process(tmp_path: Path, name: str, port: int) -> ServerProcess:
    return ServerProcess(
        tmp_path / "events.db",
        tmp_path / f"{name}.log",
        KEYWORKING_NOTICES_TO=f"http://127.0.0.1:{port}",
        KEYWORKING_NOTICE_EVERY="0.05",
        KEYWORKING_NOTICE_RETRY_FIRST="0.1",
        KEYWORKING_NOTICE_RETRY_LONGEST="0.2",
        KEYWORKING_NOTICE_PATIENCE="20",
        KEYWORKING_NOTICE_LEASE="0.5",
        KEYWORKING_MOVABLE_CLOCK=str(tmp_path / "clock"),
        KEYWORKING_KEYWORKING_PROFILES="false",
    )


async def _kill(server: ServerProcess, tmp_path: Path) -> None:
    """And what it held is held no longer."""
    await asyncio.to_thread(server.kill)
    MovableClock(tmp_path / "clock").move_by(60_000_000)


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def processes(tmp_path: Path, port: int) -> Iterator[list[ServerProcess]]:
    """Two on one store, which are not started yet."""
    found = [_process(tmp_path, name, port) for name in ("one", "two")]
    try:
        yield found
    finally:
        for process in found:
            process.stop()


def _client(server: ServerProcess) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=server.base + "/", timeout=120)


async def _rated(client: httpx.AsyncClient, first: int, count: int = COUNT) -> None:
    for number in range(first, first + count):
        await put(client, rating("red", f"f{number:03}"))


def _told(receiver: Receiver, path: str) -> list[tuple[int, str]]:
    """Events as they came first: what comes at least once may come twice."""
    mine = [one for one in receiver.events if one.path == path]
    pairs = [pair for one in mine for pair in zip(one.numbers, one.focuses, strict=True)]
    return [*dict.fromkeys(pairs)]


async def test_a_killed_server_loses_no_notice_and_keeps_their_order(
    processes: list[ServerProcess], port: int, tmp_path: Path
) -> None:
    server, paths, turns = processes[0], ("/a", "/b"), 2
    async with receiving(port) as receiver:
        await asyncio.to_thread(server.start)
        async with _client(server) as client:
            await put(client, patient())
            for path in paths:
                wanted = subscription("rating-changed", receiver.origin + path)
                await subscribed(client, wanted)
        for turn in range(turns):
            begun = turn * COUNT
            async with _client(server) as client:
                await _rated(client, begun, COUNT // 2)
                await until(lambda begun=begun: len(_told(receiver, "/a")) > begun)  # type: ignore[misc]
                receiver.opened.clear()  # so that it is killed while it sends
                await _rated(client, begun + COUNT // 2, COUNT // 2)
            await _kill(server, tmp_path)
            assert len(_told(receiver, "/a")) < begun + COUNT, "killed in the middle"
            receiver.opened.set()
            await asyncio.to_thread(server.start)
        expected = [(number + 1, f"Flag/f{number:03}") for number in range(turns * COUNT)]
        for path in paths:
            await until(lambda path=path: len(_told(receiver, path)) >= len(expected))  # type: ignore[misc]
            assert _told(receiver, path) == expected, "each once or more, in order, no gap"


async def test_two_processes_share_the_work_and_one_takes_over(
    processes: list[ServerProcess], port: int, tmp_path: Path
) -> None:
    first, second = processes
    async with receiving(port) as receiver:
        await asyncio.to_thread(first.start)
        await asyncio.to_thread(second.start)
        async with _client(first) as client:
            await put(client, patient())
            await subscribed(client, subscription("rating-changed", receiver.origin))
        async with _client(second) as other:
            await _rated(other, 0)
        await until(lambda: len(receiver.numbers) >= COUNT)
        assert receiver.numbers == [*range(1, COUNT + 1)], "while both work, once"
        receiver.pause = 0.3
        async with _client(second) as other:
            await _rated(other, COUNT)
            await _kill(first, tmp_path)
            await until(lambda: len(_told(receiver, "/")) >= 2 * COUNT)
        numbers = [*dict.fromkeys(receiver.numbers)]
        assert numbers == [*range(1, 2 * COUNT + 1)]
