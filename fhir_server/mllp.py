"""`keyworking mllp`: takes HL7 v2 messages over MLLP, and hands each on to a running server.

A frame is VT, the message, FS, CR (HL7 v2 "Minimal Lower Layer Protocol", release 1). Each is
posted to `$process-adt` of the server, whose acknowledgement goes back in a frame. Who may send is
told beforehand, by MSH-4. Where the server cannot be asked, the answer is AR: send it again later.
"""

import asyncio
import ipaddress
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import httpx

from fhir_server.loading import Bearer

_ER7: Final = "x-application/hl7-v2+er7"
_START, _END = b"\x0b", b"\x1c\r"
_BETWEEN: Final = (b"\r", b"\n")
"""Some senders end a frame with a line feed more."""
_MOST: Final = 262_144
_PLAIN: Final = re.compile(r"[^\x20-\x7e]|[|^~\\&]")

Say = Callable[[str], None]


class CannotListen(Exception):
    """The listener does not start; the text says why."""


@dataclass(frozen=True, slots=True)
class Listening:
    """How it listens, and for whom."""

    server: str
    """Base address of the FHIR server."""
    senders: Mapping[str, str]
    """ODS code by sending facility, MSH-4."""
    token: str = ""
    host: str = "127.0.0.1"
    port: int = 2575
    most: int = _MOST
    """Bytes of a frame."""
    within: float = 30.0
    """Seconds for a frame that has begun, and for the server's answer."""
    idle: float = 600.0
    """Seconds between two frames of a connection."""
    connections: int = 50
    certificate: Path | None = None
    key: Path | None = None
    client_ca: Path | None = None
    """Whose certificates senders have to show; without it they need none."""
    client: httpx.AsyncBaseTransport | None = field(default=None)
    """Instead of the network, in tests."""


class Listener:
    """One listener; `start` and `stop` it, or use it as a context."""

    def __init__(self, how: Listening, *, say: Say = lambda _: None) -> None:
        if how.certificate is None and not _is_loopback(how.host):
            raise CannotListen(f"{how.host} is not loopback: --certificate is needed there")
        if how.client_ca is not None and how.certificate is None:
            raise CannotListen("--client-ca asks for certificates over TLS: name --certificate too")
        if not how.senders:
            raise CannotListen("Nobody may send: name at least one --sender FACILITY=ODS")
        self._how = how
        self._say = say
        self._open = 0
        self._server: asyncio.Server | None = None
        auth = Bearer(how.token, how.server) if how.token else None
        self._client = httpx.AsyncClient(auth=auth, timeout=how.within, transport=how.client)

    async def __aenter__(self) -> "Listener":
        how = self._how
        try:
            context = _context(how)
            self._server = await asyncio.start_server(
                self._served, how.host, how.port, ssl=context, limit=how.most
            )
        except (OSError, ssl.SSLError) as error:
            raise CannotListen(f"It cannot listen on {how.host}:{how.port}: {error}") from error
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        await self._client.aclose()

    @property
    def port(self) -> int:
        """Where it listens, once it does."""
        assert self._server is not None  # noqa: S101 - the context was entered
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def forever(self) -> None:
        assert self._server is not None  # noqa: S101 - the context was entered
        await self._server.serve_forever()

    async def _served(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """All frames of one connection, one after the other."""
        self._open += 1
        try:
            while self._open <= self._how.connections:
                message = await self._frame(reader)
                if message is None:
                    return
                writer.write(_START + await self._answer(message) + _END)
                await asyncio.wait_for(writer.drain(), self._how.within)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            self._say("A connection was closed: it broke off, was too slow, or sent no frame")
        finally:
            self._open -= 1
            writer.close()

    async def _frame(self, reader: asyncio.StreamReader) -> bytes | None:
        """The message in the next frame; None at the end, or where what comes is no frame."""
        first = b"\n"
        while first in _BETWEEN:
            first = await asyncio.wait_for(reader.read(1), self._how.idle)
        if first != _START:
            if first:
                self._say("A connection was closed: a frame begins with the byte 0B")
            return None
        frame = await asyncio.wait_for(reader.readuntil(_END), self._how.within)
        return frame[: -len(_END)]

    async def _answer(self, message: bytes) -> bytes:
        """The acknowledgement; it never raises for what the message is."""
        facility = _field(message, 3).split("^")[0]
        sender = self._how.senders.get(facility)
        if sender is None:
            self._say(f"MSH-4 {_shown(facility)} may not send")
            return rejected(message, "MSH-4 is no facility that may send here")
        try:
            answer = await self._client.post(
                f"{self._how.server.rstrip('/')}/$process-adt",
                params={"sender": sender},
                content=message,
                headers={"Content-Type": _ER7, "Accept": f"{_ER7}, application/fhir+json;q=0.5"},
            )
        except httpx.HTTPError as error:
            self._say(f"The server does not answer: {type(error).__name__}")
            return rejected(message, "The server cannot be asked just now; send it again later")
        if answer.status_code == 200 and answer.content.startswith(b"MSH"):
            return answer.content
        self._say(f"The server answers {answer.status_code}")
        return rejected(message, f"It is not taken: the server answers {answer.status_code}")


def rejected(message: bytes, text: str) -> bytes:
    """AR, for what never got as far as being read."""
    stamp = datetime.now(UTC).strftime("%Y%m%d%H%M%S+0000")
    application, facility = (_shown(_field(message, number)) for number in (2, 3))
    control = _shown(_field(message, 9))
    header = f"MSH|^~\\&|KEYWORKING||{application}|{facility}|{stamp}||ACK|{control}|P|2.4"
    return f"{header}\rMSA|AR|{control}|{_shown(text)}\r".encode()


def _field(message: bytes, number: int) -> str:
    """A field of MSH as it is written; '' where there is none."""
    first = re.split(rb"[\r\n]", message[:2000], maxsplit=1)[0].decode("utf-8", "replace")
    fields = first.split(first[3]) if first.startswith("MSH") and len(first) > 3 else []
    return fields[number] if len(fields) > number else ""


def _shown(text: str) -> str:
    return _PLAIN.sub(" ", text)[:200]


def _context(how: Listening) -> ssl.SSLContext | None:
    if how.certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(how.certificate, how.key)
    if how.client_ca is not None:
        context.load_verify_locations(how.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listen(how: Listening, *, say: Say) -> None:
    """Until interrupted.

    Raises:
        CannotListen: nobody listens.
    """

    async def run() -> None:
        async with Listener(how, say=say) as listener:
            say(f"Listening on {how.host}:{listener.port} for {', '.join(sorted(how.senders))}")
            await listener.forever()

    asyncio.run(run())
