"""Rows of the audit as syslog messages (RFC 5424), beside the store, which is the record.

One process at a time follows the chain, whichever wrote its rows. How far it came is kept, so a
receiver that is away gets them later; where a process ends in between, some come twice. Over TCP
and TLS each message has its length before it (RFC 6587 section 3.4.1, RFC 5425 section 4.3); a
local socket takes datagrams.
"""

import asyncio
import json
import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Final
from urllib.parse import urlsplit
from uuid import uuid4

from fhir_server.errors import FhirError
from fhir_server.fhir.dates import instant
from fhir_server.storage.audited import AuditEntry, AuditQuery
from fhir_server.storage.interface import Memo, Store, Unit

_log: Final = logging.getLogger(__name__)
_EVERY: Final = 1.0
"""Seconds between two looks for new rows."""
_LEASE: Final = 15_000_000
"""Microseconds for which a process follows the chain alone."""
_AT_ONCE: Final = 200
_PATIENCE: Final = 5.0
"""Seconds that the receiver may take."""
_SPACE: Final = "audit-syslog"
_KEY: Final = "place"
_AUDIT: Final = 13 * 8
"""Facility log audit (RFC 5424 section 6.2.1)."""
_INFORMATIONAL: Final = 6
_WARNING: Final = 4


def message(entry: AuditEntry, host: str) -> bytes:
    """One row: its text is the row as JSON, with its number and hash."""
    refused = b'"outcome":' in entry.told
    priority = _AUDIT + (_WARNING if refused else _INFORMATIONAL)
    link = entry.link
    told = json.dumps(
        {"number": link.number, "hash": link.hash.hex(), "row": entry.told.decode(errors="replace")}
    )
    return f"<{priority}>1 {instant(link.at)} {host} keyworking - audit - {told}".encode()


class Receiver:
    """Where messages go: `tls://host:port`, `tcp://host:port` or `unix:///path`."""

    def __init__(self, address: str) -> None:
        self._parts = urlsplit(address)
        self._writer: asyncio.StreamWriter | None = None
        self._socket: socket.socket | None = None

    async def send(self, messages: Sequence[bytes]) -> None:
        """Raises OSError or TimeoutError where it does not take them."""
        async with asyncio.timeout(_PATIENCE):
            if self._parts.scheme == "unix":
                await self._datagrams(messages)
            else:
                await self._stream(messages)

    async def _stream(self, messages: Sequence[bytes]) -> None:
        if self._writer is None or self._writer.is_closing():
            host, port = self._parts.hostname, self._parts.port
            secured = self._trust if self._parts.scheme == "tls" else None
            _, self._writer = await asyncio.open_connection(host, port, ssl=secured)
        self._writer.write(b"".join(b"%d %s" % (len(one), one) for one in messages))
        await self._writer.drain()

    @cached_property
    def _trust(self) -> ssl.SSLContext:
        """The authorities that the machine knows, and the receiver's name: RFC 5425 section 5."""
        return ssl.create_default_context()

    async def _datagrams(self, messages: Sequence[bytes]) -> None:
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)
            self._socket.connect(self._parts.path)
        for one in messages:
            await asyncio.get_running_loop().sock_sendall(self._socket, one)

    def close(self) -> None:
        """What is sent next is sent on a new connection."""
        if self._writer is not None:
            self._writer.close()
        if self._socket is not None:
            self._socket.close()
        self._writer = self._socket = None


class Follower:
    """Sends what comes into the chain."""

    def __init__(self, store: Store, receiver: Receiver, clock: Callable[[], int]) -> None:
        self._store = store
        self._receiver = receiver
        self._clock = clock
        self._me: Final = str(uuid4())
        self._host: Final = socket.gethostname() or "-"
        self._task: asyncio.Task[None] | None = None
        self._told = False

    def start(self) -> None:
        self._task = asyncio.create_task(self._follow_for_ever())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._receiver.close()

    async def _follow_for_ever(self) -> None:
        while True:
            try:
                while await self.step():
                    self._told = False
            except (OSError, TimeoutError, FhirError) as error:
                self._receiver.close()
                if not self._told:
                    _log.warning("Rows of the audit wait for the syslog: %s", error)
                self._told = True
            await asyncio.sleep(_EVERY)

    async def step(self) -> bool:
        """Send some rows; whether there may be more.

        Raises:
            OSError, TimeoutError: the receiver does not take them.
            FhirError: UNAVAILABLE.
        """
        after = await self._taken()
        if after is None:
            return False
        entries = await self._store.audited(AuditQuery(after=after), _AT_ONCE)
        if not entries:
            return False
        await self._receiver.send([message(entry, self._host) for entry in entries])
        await self._keep(entries[-1].link.number)
        return len(entries) == _AT_ONCE

    async def _taken(self) -> int | None:
        """The number that was sent last, where no other process sends; None where one does."""
        after, holder, until = _read(await self._store.memo(_SPACE, _KEY))
        if holder not in ("", self._me) and until > self._clock():
            return None
        if holder == self._me and until - self._clock() > _LEASE // 2:
            return after
        return await self._store.commit(self._take)

    async def _take(self, unit: Unit) -> int | None:
        after, holder, until = _read(await unit.memo(_SPACE, _KEY))
        if holder not in ("", self._me) and until > self._clock():
            return None
        await unit.keep(self._memo(after))
        return after

    async def _keep(self, after: int) -> None:
        async def work(unit: Unit) -> None:
            if _read(await unit.memo(_SPACE, _KEY))[1] == self._me:
                await unit.keep(self._memo(after))

        await self._store.commit(work)

    def _memo(self, after: int) -> Memo:
        value = json.dumps([after, self._me, self._clock() + _LEASE])
        return Memo(_SPACE, _KEY, value.encode())


def _read(memo: Memo | None) -> tuple[int, str, int]:
    """The number sent last, who sends, and until when."""
    with suppress(ValueError):
        if memo is not None:
            after, holder, until = json.loads(memo.value)
            return int(after), str(holder), int(until)
    return 0, "", 0
