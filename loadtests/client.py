"""A small HTTP/1.1 load generator: keep-alive connections, one request at a time on each.

It counts only successful answers, and knows just enough HTTP for servers that send a
Content-Length: what it saves in generality, the server under test gets of the processor.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import quantiles
from urllib.parse import urlsplit

Make = Callable[[int], bytes]
"""The bytes of the n-th request."""


@dataclass(slots=True)
class Run:
    """What one run measured; times in milliseconds."""

    seconds: float = 0.0
    times: list[float] = field(default_factory=list)
    failed: int = 0
    refused: list[float] = field(default_factory=list)
    """Times of the failed that were answers."""

    @property
    def rate(self) -> float:
        """Successful answers a second."""
        return len(self.times) / self.seconds

    def percentile(self, percent: int) -> float:
        return quantiles(self.times, n=100)[percent - 1] if len(self.times) > 1 else 0.0


def get(url: str, token: str = "") -> bytes:
    """The bytes of a GET, with a bearer token where there is one."""
    parts = urlsplit(url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    bearer = f"Authorization: Bearer {token}\r\n" if token else ""
    return f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\n{bearer}\r\n".encode()


def post(url: str, body: bytes) -> bytes:
    """The bytes of a POST of FHIR JSON."""
    return _sent("POST", url, body)


def put(url: str, body: bytes, version: int) -> bytes:
    """The bytes of an update of that version."""
    return _sent("PUT", url, body, f'If-Match: W/"{version}"\r\n')


def _sent(method: str, url: str, body: bytes, header: str = "") -> bytes:
    parts = urlsplit(url)
    head = (
        f"{method} {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n{header}"
        f"Content-Type: application/fhir+json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def load(url: str, make: Make, *, connections: int, seconds: float) -> Run:
    """Ask for `seconds` on that many connections at once."""
    run, parts = Run(), urlsplit(url)
    assert parts.hostname is not None  # noqa: S101 - loopback addresses are made by the bench
    numbers = iter(range(10**9))
    deadline = time.perf_counter() + seconds
    started = time.perf_counter()

    async def one(host: str, port: int) -> None:
        reader, writer = await asyncio.open_connection(host, port, limit=2**24)
        try:
            while time.perf_counter() < deadline:
                before = time.perf_counter()
                writer.write(make(next(numbers)))
                if await _succeeded(reader):
                    run.times.append((time.perf_counter() - before) * 1000)
                else:
                    run.failed += 1
                    run.refused.append((time.perf_counter() - before) * 1000)
        finally:
            writer.close()

    await asyncio.gather(*(one(parts.hostname, parts.port or 80) for _ in range(connections)))
    run.seconds = time.perf_counter() - started
    return run


async def alternate(first: str, second: str, token: str, pairs: int) -> tuple[Run, Run]:
    """Ask for two addresses in turn, on one connection; whatever is answered counts."""
    parts, runs = urlsplit(first), (Run(), Run())
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=2**24)
    for number in range(pairs):
        # Whichever is first pays for what the other left behind: they change places.
        order = (0, 1) if number % 2 else (1, 0)
        for which in order:
            before = time.perf_counter()
            writer.write(get((first, second)[which], token))
            await _succeeded(reader)
            runs[which].times.append((time.perf_counter() - before) * 1000)
    writer.close()
    return runs


async def _succeeded(reader: asyncio.StreamReader) -> bool:
    head = await reader.readuntil(b"\r\n\r\n")
    lowered = head.lower()
    at = lowered.find(b"content-length: ")
    if at >= 0:
        length = int(lowered[at + 16 : lowered.index(b"\r\n", at)])
        if length:
            await reader.readexactly(length)
    return head[9:10] == b"2"
