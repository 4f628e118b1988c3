"""HTTP/1.1 on the wire: what uvicorn's parser cannot read is refused as everything else is.

Bounds on the address and the headers hold while they are read, so that nobody fills the memory
with a header that never ends. Trailers are no headers: whoever reads them as such believes what
a proxy has never seen (RFC 9110 section 6.5.1).
"""

import asyncio
from collections import deque
from collections.abc import Sized
from http import HTTPStatus
from typing import Any, Final
from uuid import uuid4

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from fhir_server.errors import FhirError, Kind
from fhir_server.http import render
from fhir_server.http.asking import Line
from fhir_server.http.direct import Answers
from fhir_server.http.edge import Edge
from fhir_server.http.headers import too_many_bytes, url_too_long
from fhir_server.http.limits import HttpLimits
from fhir_server.http.middleware import CACHE_CONTROL, VARY

_UNREADABLE: Final = (
    "This is not a request of HTTP/1.1: a method, address, header, length or chunk is malformed"
)

_MOST_AT_ONCE: Final = 50
"""Plain reads, or what costs as much, that are answered at once of what came in together; each of
the rest gives others their turn."""
_SLICE: Final = 4096
"""Bytes of requests that are parsed in one turn: what came in together may be 64 times that."""


class _Flow(FlowControl):
    """uvicorn's, but nothing more is read while requests wait for those before them.

    Neither the end of an answer nor an application that asks for its body, which has come in whole
    where another request follows it, is a reason to read on: whoever asks and never takes an answer
    would fill the memory with what waits. Nor is it while something that came in is not parsed.
    """

    def __init__(self, transport: asyncio.Transport, *waiting: Sized) -> None:
        super().__init__(transport)
        self._waiting: Final = waiting

    def resume_reading(self) -> None:
        if not any(self._waiting):
            super().resume_reading()


class Protocol(HttpToolsProtocol):
    """uvicorn's, with bounds, and with refusals that are OperationOutcomes."""

    def __init__(self, config: Any, *args: Any, **named: Any) -> None:
        super().__init__(config, *args, **named)
        self._limits: Final[HttpLimits] = getattr(self.app, "limits", HttpLimits())
        self._edge: Final[Edge] = getattr(self.app, "edge", Edge())
        self._refusal: FhirError | None = None
        self._header_bytes = 0
        self._headers_read = False
        self._answered = False
        self._at_once = 0
        self._begun = 0
        self._rest: Final[deque[bytes]] = deque()
        """What came in and is not parsed, in slices."""
        self._is_due = False
        self._is_broken = False
        """Whether something came in that cannot be parsed."""
        self._line = Line("")
        self._idle_since: float | None = None
        """When the last answer was complete, on the loop's clock; None once more has come in."""
        self._added: object = None
        self._first = b""

    @property
    def _direct(self) -> Answers | None:
        found: Answers | None = getattr(self.app, "direct", None)
        return found

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = _Flow(transport, self.pipeline, self._rest)
        self._line = Line(self.client[0] if self.client else "")

    def connection_lost(self, exc: Exception | None) -> None:
        self._rest.clear()
        self._end_timer()
        super().connection_lost(exc)

    def _end_timer(self) -> None:
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
            self.timeout_keep_alive_task = None

    def _unset_keepalive_if_required(self) -> None:
        """Something comes in. The timer goes on, and finds that when it ends: to end it and to set
        another one for each request would cost a tenth of a read."""
        self._idle_since = None

    def timeout_keep_alive_handler(self) -> None:
        self.timeout_keep_alive_task = None
        if self._idle_since is None:
            return  # the answer to what came in sets it again
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self._set_timer(left)
        else:
            super().timeout_keep_alive_handler()

    def _set_timer(self, seconds: float) -> None:
        handler = self.timeout_keep_alive_handler
        self.timeout_keep_alive_task = self.loop.call_later(seconds, handler)

    def data_received(self, data: bytes) -> None:
        if len(data) <= _SLICE and not self._rest:
            self._at_once = 0
            super().data_received(data)
            return
        self._rest.extend(data[at : at + _SLICE] for at in range(0, len(data), _SLICE))
        self._parse_on()

    def _parse_on(self) -> None:
        """Parse what has come in, as far as the first slice with a request in it.

        The rest comes in a later turn, and not before the requests that wait have begun. A body
        costs nothing that others would have to wait for.
        """
        self._is_due, self._at_once, self._begun = False, 0, 0
        while self._rest and not (self.pipeline or self._begun or self.transport.is_closing()):
            super().data_received(self._rest.popleft())
        if self._rest:
            self.flow.pause_reading()
            self._go_on()
        elif not (self._is_broken or self._has_much_to_read()):
            self.flow.resume_reading()

    def _has_much_to_read(self) -> bool:
        """Whether the application takes the body that there is before more of it is read."""
        return self.cycle is not None and len(self.cycle.body) > HIGH_WATER_LIMIT

    def _go_on(self) -> None:
        """Parse the rest in a turn of its own, once nothing waits."""
        if self._rest and not (self.pipeline or self._is_due or self.transport.is_closing()):
            self._is_due = True
            self.loop.call_soon(self._parse_on)

    def on_response_complete(self) -> None:
        self._end_timer()  # another one is set
        super().on_response_complete()
        self._idle_since = self.loop.time()
        self._read_on()

    def _read_on(self) -> None:
        if self.flow.read_paused and not self.transport.is_closing():
            self.flow.resume_reading()  # where the last that waited has begun
            self._go_on()

    def handle_websocket_upgrade(self) -> None:
        self._rest.clear()  # nothing is said before the other protocol is agreed
        super().handle_websocket_upgrade()

    def on_message_begin(self) -> None:
        """What uvicorn makes for an application is made once one is asked (`_begin`)."""
        self.url, self.headers, self.expect_100_continue = b"", [], False
        self._header_bytes, self._headers_read = 0, False
        self._begun += 1

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > self._limits.max_url:
            self._refuse(Kind.URL_TOO_LONG, url_too_long(self._limits))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > 2 * self._limits.max_header_bytes:
            self._refuse(Kind.HEADERS_TOO_LARGE, too_many_bytes(self._limits))
        if not self._headers_read:
            name = name.lower()
            if name == b"expect" and value.lower() == b"100-continue":
                self.expect_100_continue = True
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._headers_read = True
        self._answered = self._answers_directly()
        if not self._answered:
            self._begin()
            super().on_headers_complete()

    def _begin(self) -> None:
        # The answer to what came before it in one packet may have set the timer.
        self._unset_keepalive_if_required()
        told = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.headers, self.expect_100_continue = told
        self.scope["headers"] = self.headers

    def on_body(self, body: bytes) -> None:
        if not self._answered:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._answered:
            super().on_message_complete()

    def _answers_directly(self) -> bool:
        """Whether the request is answered by now: nothing is under way before it, and a body or
        another protocol does not follow, of which a header would tell."""
        if self._at_once >= _MOST_AT_ONCE or self._direct is None or not self._is_plain():
            return False
        found = self._direct(self.url, self.headers, self._header_bytes, self._line)
        if found is None:
            return False
        status, rest, cost = found
        self._at_once += cost
        self.transport.write(self._beginning(status) + rest)
        self._complete()
        return True

    def _complete(self) -> None:
        """As `on_response_complete`, of what was answered while nothing else was under way."""
        self.server_state.total_requests += 1
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._set_timer(self.timeout_keep_alive)
        self._read_on()

    def _is_plain(self) -> bool:
        parser, cycle = self.parser, self.cycle
        return (
            parser.get_method() == b"GET"
            and parser.get_http_version() == "1.1"
            and parser.should_keep_alive()
            and (cycle is None or cycle.response_complete)
            and not self.flow.write_paused
            and not self.transport.is_closing()
        )

    def _beginning(self, status: int) -> bytes:
        """The status line, and the headers that uvicorn puts first: the date, once a second."""
        added = self.server_state.default_headers
        if added is not self._added:
            self._added = added
            self._first = b"".join(b"%b: %b\r\n" % pair for pair in added)
        return STATUS_LINE[status] + self._first

    def _refuse(self, kind: Kind, text: str) -> None:
        self._refusal = FhirError(kind, text)
        raise self._refusal  # which stops the parser, and comes back as an error of its own

    def send_400_response(self, msg: str) -> None:
        """The refusal, in its turn: a client takes answers in the order of its requests."""
        del msg
        self._is_broken = True
        self._rest.clear()
        cycle = self.cycle
        if cycle is not None and not (cycle.response_complete or cycle.more_body):
            # It is what came behind a good request; after whose answer the connection ends.
            cycle.keep_alive = False
            self.flow.pause_reading()
            return
        if cycle is None or cycle.response_complete or not cycle.response_started:
            refusal = self._refusal or FhirError(Kind.MALFORMED, _UNREADABLE)
            self.transport.write(written(refusal, self._edge))
        self.transport.close()


def written(refusal: FhirError, edge: Edge) -> bytes:
    """An answer that ends the connection, made before there is a request to answer."""
    answered = render.error(refusal)
    headers = {
        **answered.headers,
        **edge.on_refusal(),
        "cache-control": CACHE_CONTROL,
        "vary": VARY,
        "x-request-id": str(uuid4()),
        "content-length": str(len(answered.body)),
        "connection": "close",
    }
    status = HTTPStatus(answered.status)
    lines = [f"HTTP/1.1 {status.value} {status.phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + answered.body
