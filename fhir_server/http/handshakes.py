"""Handshakes of websockets on the wire: one that cannot be read is refused as everything else is.

It was read as HTTP before, by another parser, which takes more: longer lines, other methods, a
body. uvicorn leaves such a connection open without a word, and stumbles over it when it stops,
so that the application is not stopped in order.
"""

from typing import Any, Final

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from fhir_server.errors import FhirError, Kind
from fhir_server.http.edge import Edge
from fhir_server.http.wire import written

_UNREADABLE: Final = (
    "This is not a handshake of a websocket (RFC 6455): a GET without a body, with at most 128 "
    "headers, and 8192 bytes for the address and for each header"
)


class Handshake(WebSocketsSansIOProtocol):
    """uvicorn's, which ends what it cannot read."""

    def __init__(self, config: Any, *args: Any, **named: Any) -> None:
        super().__init__(config, *args, **named)
        self._edge: Final[Edge] = getattr(self.app, "edge", Edge())

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.handshake_exc is None or self.handshake_complete:
            return
        self.handshake_complete = self.close_sent = True
        self.transport.write(written(FhirError(Kind.MALFORMED, _UNREADABLE), self._edge))
        self.transport.close()
