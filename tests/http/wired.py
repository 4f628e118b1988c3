"""The HTTP server's protocol on a transport that keeps what is written: bytes in, bytes out."""

import asyncio
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import uvicorn
from uvicorn.server import ServerState

from fhir_server.app import Application
from fhir_server.http.wire import Protocol
from fhir_server.storage.audited import AuditRow

_DATE: Final = [(b"date", b"Sun, 22 Nov 2026 14:00:00 GMT")]
_MADE: Final = re.compile(
    rb"x-request-id: [0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\r\n"
)
_TIMED: Final = re.compile(rb"the request id is [0-9a-f-]{36}|try again in [0-9]+ s")


class Transport(asyncio.Transport):
    def __init__(self, peer: str) -> None:
        super().__init__({"peername": (peer, 5555), "sockname": ("127.0.0.1", 80)})
        self.written = b""
        self.closed = False
        self.reading = True

    def write(self, data: Any) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


@dataclass(frozen=True)
class Told:
    """What came back, and what the audit says of it, but for ids that the server made."""

    answer: bytes
    rows: tuple[AuditRow, ...]
    closed: bool


class Wired:
    """Connections to an application that is up."""

    def __init__(self, app: Application) -> None:
        self._app: Final = app
        told: dict[str, Any] = {"http": Protocol, "lifespan": "off", "log_config": None}
        config = uvicorn.Config(app, proxy_headers=False, **told)
        self._config: Final = config
        self.short: int = 0
        """Answers that took the short way."""

    async def generally(self, raw: bytes, peer: str = "127.0.0.1") -> Told:
        """The answer of the general way."""
        ways = self._app.direct, self._app.writes
        self._app.direct = self._app.writes = None
        try:
            return await self.usually(raw, peer)
        finally:
            self._app.direct, self._app.writes = ways

    async def usually(self, raw: bytes, peer: str = "127.0.0.1") -> Told:
        """The answer as a server gives it."""
        with self._rows() as rows:
            protocol, transport = self.connected(peer)
            state = protocol.server_state
            protocol.data_received(raw)
            self.short += b"\r\ndate: " in transport.written[:40]  # before any task has begun
            while state.tasks:
                await asyncio.gather(*state.tasks)
            protocol.connection_lost(None)
            protocol._unset_keepalive_if_required()
        answer = _TIMED.sub(b"", _MADE.sub(b"", transport.written))
        told = (row if row.request_id.encode() in raw else _idless(row) for row in rows)
        return Told(answer, tuple(told), transport.closed)

    async def in_turn(self, raws: Iterable[bytes | Callable[[], object]]) -> list[bytes]:
        """The answers to requests that come on one connection, one after the other; what stands
        between them is done then."""
        protocol, transport = self.connected()
        answers: list[bytes] = []
        for raw in raws:
            if not isinstance(raw, bytes):
                raw()
                continue
            transport.written = b""
            protocol.data_received(raw)
            while protocol.server_state.tasks:
                await asyncio.gather(*protocol.server_state.tasks)
            answers.append(_TIMED.sub(b"", _MADE.sub(b"", transport.written)))
        protocol.connection_lost(None)
        return answers

    def connected(self, peer: str = "127.0.0.1") -> tuple[Protocol, Transport]:
        """A connection on which nothing was sent yet."""
        state = ServerState()
        state.default_headers = _DATE
        protocol = Protocol(self._config, state, {}, asyncio.get_running_loop())
        transport = Transport(peer)
        protocol.connection_made(transport)
        return protocol, transport

    @contextmanager
    def _rows(self) -> Iterator[list[AuditRow]]:
        """Those that go to the trail meanwhile, which takes them too."""
        trail, rows = self._app.state.trail, list[AuditRow]()
        put = trail.put

        def told(row: AuditRow) -> None:
            rows.append(row)
            put(row)

        trail.put = told
        try:
            yield rows
        finally:
            del trail.put


def _idless(row: AuditRow) -> AuditRow:
    return msgspec.structs.replace(row, request_id="")


def send(method: str, path: str, body: bytes, *headers: tuple[str, str]) -> bytes:
    """A request with a body, whose type and length it tells."""
    told = (("Content-Type", "application/fhir+json"), ("Content-Length", str(len(body))))
    own = {name.lower() for name, _ in headers}
    return (
        get(path, *(one for one in told if one[0].lower() not in own), *headers, method=method)
        + body
    )


def get(path: str, *headers: tuple[str, str], method: str = "GET") -> bytes:
    lines = [f"{method} /fhir/{path} HTTP/1.1", "Host: localhost"]
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
