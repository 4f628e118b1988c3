"""The websocket of subscriptions: `bind-with-token [token]`, and then notices come.

https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/channels.html#websockets
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from starlette.websockets import WebSocket, WebSocketDisconnect

from fhir_server.errors import FhirError, Kind
from fhir_server.events.binding import Binding
from fhir_server.events.record import Record
from fhir_server.events.sockets import Bound, Sockets
from fhir_server.fhir import json
from fhir_server.fhir.outcomes import outcome_of
from fhir_server.http.endpoint import FhirEndpoint

MOST_BYTES: Final = 16 * 1024
"""Of a message that comes in."""
_BIND: Final = "bind-with-token"
_UNTIL_BOUND: Final = 30.0
"""Seconds that a connection has before it is bound to something."""
_REFUSED: Final = 1008
"""https://www.rfc-editor.org/rfc/rfc6455#section-7.4.1"""


class _Connection:
    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self._turn = asyncio.Lock()
        """Two subscriptions may have something to say at the same time."""

    async def send(self, text: str) -> None:
        async with self._turn:
            await self._socket.send_text(text)

    async def close(self, code: int, reason: str) -> None:
        await self._socket.close(code, reason)


async def websocket(socket: WebSocket) -> None:
    """Serve one connection until it ends."""
    sockets: Sockets = socket.app.state.sockets
    binding: Binding = socket.app.state.binding
    await socket.accept()
    connection = _Connection(socket)

    async def bind(text: str) -> bool:
        return await _bind(text, connection, sockets, _Guessing(socket, binding))

    try:
        async with asyncio.timeout(_UNTIL_BOUND):
            while not await bind(await socket.receive_text()):
                continue  # a ping binds nothing
        while True:
            await bind(await socket.receive_text())
    except FhirError as error:
        await _refuse(connection, socket, error)
    except TimeoutError:
        await socket.close(_REFUSED)
    except (WebSocketDisconnect, RuntimeError, KeyError):  # it went, or sent bytes
        return
    finally:
        sockets.leave(connection)


class _Guessing:
    """Binds for whoever has a token, and counts those who have none: they need no other."""

    def __init__(self, socket: WebSocket, binding: Binding) -> None:
        self._socket = socket
        self._binding: Final = binding
        self.greeting: Final = binding.greeting

    async def redeem(self, token: str) -> tuple[Sequence[Record], Bound]:
        """As of `Binding`; raises THROTTLED too, where too many of an address have failed."""
        fhir: FhirEndpoint = self._socket.app.fhir
        peer = self._socket.client.host if self._socket.client else ""
        address = fhir.address_of(peer, self._socket.headers)
        fhir.rates.require_patience(address)
        try:
            return await self._binding.redeem(token)
        except FhirError as error:
            if error.kind is Kind.FORBIDDEN:
                fhir.rates.failed(address)
            raise


async def _bind(text: str, connection: _Connection, sockets: Sockets, binding: _Guessing) -> bool:
    """Bind the connection to what the token in the message is for; `ping` is answered.

    Whether it is bound.

    Raises:
        FhirError: for any other message, and a token that is not good.
    """
    if text.strip() == "ping":
        await connection.send("pong")
        return False
    word, _, token = text.strip().partition(" ")
    if word.rstrip(":") != _BIND or not token:
        raise FhirError(Kind.INVALID, f"'{_BIND} [token]' is expected, or ping")
    records, by = await binding.redeem(token.strip())
    for record in records:
        await connection.send(binding.greeting(record))
        sockets.bind(record.key, connection, by)
    return True


async def _refuse(connection: _Connection, socket: WebSocket, error: FhirError) -> None:
    try:
        await connection.send(json.encode(outcome_of(error)).decode())
        await socket.close(_REFUSED)
    except (WebSocketDisconnect, RuntimeError):
        return
