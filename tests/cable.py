"""A TCP connection that a test can cut: what comes at a port goes to another one."""

import asyncio
from contextlib import suppress
from typing import Final

from tests.support import free_port


class Cable:
    """From `port`, on loopback, to `far`; it lives in the test's own loop."""

    def __init__(self, far: int) -> None:
        self.port: Final = free_port()
        self._far = far
        self._listener: asyncio.Server | None = None
        self._ends: set[asyncio.StreamWriter] = set()

    async def plug(self) -> None:
        self._listener = await asyncio.start_server(self._carry, "127.0.0.1", self.port)

    async def cut(self) -> None:
        """Connections end in the middle of whatever they carry; new ones are refused."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()
        for end in [*self._ends]:
            end.transport.abort()
        await asyncio.sleep(0)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, to_there = await asyncio.open_connection("127.0.0.1", self._far)
        except OSError:
            writer.transport.abort()
            return
        await asyncio.gather(self._pass(reader, to_there), self._pass(there, writer))

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        self._ends.add(sink)
        with suppress(OSError):
            while some := await source.read(65_536):
                sink.write(some)
                await sink.drain()
        sink.close()
        self._ends.discard(sink)
