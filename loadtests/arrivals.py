"""Requests that arrive at a fixed rate, whether those before are answered or not.

People do not wait for each other. Times are counted from when a request was due, so a server
(or a generator) that falls behind is seen in them.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import quantiles
from typing import Final
from urllib.parse import urlsplit

import uvloop

_PATIENCE: Final = 30.0
"""Seconds until whoever asks gives up."""
_MOST_CONNECTIONS: Final = 1000
"""Opened before the start, as clients keep theirs: a storm of new ones is another question."""
_KEPT: Final = 3.0
"""Seconds after which a connection is not used again: the server closes those on which nothing was
asked for five, and a request that meets that on its way gets no answer."""
BROKEN: Final = 0
"""The status of what was not answered."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request: when it was due, in seconds from the start, and what came of it."""

    due: float
    milliseconds: float
    """From when it was due to the end of its answer."""
    late: float
    """Milliseconds by which it was sent late: the generator's own."""
    status: int
    head: bytes

    @property
    def succeeded(self) -> bool:
        return 200 <= self.status < 300

    def header(self, name: bytes) -> bytes:
        """Its value, or nothing; the name is in small letters."""
        for line in self.head.split(b"\r\n")[1:]:
            found, _, value = line.partition(b":")
            if found.lower() == name:
                return value.strip()
        return b""


class _Connections:
    """Idle ones are used again; there are as many as there are requests under way."""

    def __init__(self, base: str) -> None:
        parts = urlsplit(base)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._idle: deque[tuple[asyncio.StreamReader, asyncio.StreamWriter, float]] = deque()
        """Each with when it was used last; nobody closes those that never were."""
        self._room = asyncio.Semaphore(_MOST_CONNECTIONS)

    async def exchange(self, sent: bytes) -> bytes:
        """Send the bytes of a request; the head of its answer.

        Raises:
            OSError, EOFError, TimeoutError: there is none.
        """
        async with self._room, asyncio.timeout(_PATIENCE):
            reader, writer = await self._one()
            writer.write(sent)
            head = await reader.readuntil(b"\r\n\r\n")
            at = head.lower().find(b"content-length: ")
            if at >= 0:
                await reader.readexactly(int(head[at + 16 : head.index(b"\r\n", at)]))
            self._idle.append((reader, writer, time.monotonic()))
            return head

    async def _one(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """One that the server has not closed because nothing was asked for too long, and is not
        about to."""
        while self._idle:
            reader, writer, used = self._idle.pop()
            if not (reader.at_eof() or writer.is_closing()):
                if time.monotonic() - used < _KEPT:
                    return reader, writer
                writer.close()
        return await asyncio.open_connection(self._host, self._port, limit=2**20)

    async def open(self, count: int) -> None:
        for _ in range(min(count, _MOST_CONNECTIONS)):
            made = await asyncio.open_connection(self._host, self._port, limit=2**20)
            self._idle.append((*made, math.inf))

    def close(self) -> None:
        for _, writer, _ in self._idle:
            writer.close()


async def arrive(
    base: str, make: Callable[[int], bytes], *, rate: float, seconds: float
) -> list[Arrival]:
    """Send so many requests a second for so long, evenly; what came, in the order of due times."""
    connections = _Connections(base)
    await connections.open(int(rate * seconds))
    started = time.perf_counter()

    async def one(number: int) -> Arrival:
        due = number / rate
        sent = time.perf_counter() - started
        try:
            head = await connections.exchange(make(number))
        except (OSError, EOFError, asyncio.LimitOverrunError):
            head = b""
        took = (time.perf_counter() - started - due) * 1000
        status = int(head[9:12]) if head else BROKEN
        return Arrival(due, took, (sent - due) * 1000, status, head)

    tasks = []
    for number in range(int(rate * seconds)):
        wait = number / rate - (time.perf_counter() - started)
        if wait > 0:
            await asyncio.sleep(wait)
        tasks.append(asyncio.create_task(one(number)))
    found = await asyncio.gather(*tasks)
    connections.close()
    return [*found]


def arriving(base: str, make: Callable[[int], bytes], rate: float, seconds: float) -> list[Arrival]:
    """As `arrive`, with the quickest loop that there is: it shares the machine."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(arrive(base, make, rate=rate, seconds=seconds))


def percentile(times: Sequence[float], percent: int) -> float:
    """Of some times; 0 of none."""
    if len(times) < 2:
        return times[0] if times else 0.0
    return quantiles(times, n=100)[percent - 1]
