"""HTTP as the FHIR interface sees it: one request, one answer."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from fhir_server.access.audit.record import Record
from fhir_server.access.caller import ANONYMOUS, Caller
from fhir_server.errors import FhirError, Kind
from fhir_server.http.gzip import CODINGS, Gunzip
from fhir_server.http.headers import Headers
from fhir_server.http.limits import HttpLimits
from fhir_server.http.negotiate import Presentation
from fhir_server.http.rates import Rates
from fhir_server.interactions.routing import Match

_UNBOUNDED: Final = Rates()
Receive = Callable[[], Awaitable[Mapping[str, Any]]]


@dataclass(slots=True)
class HttpRequest:
    """`path` is relative to the FHIR base and still percent-encoded, as is `query`."""

    method: str
    path: str
    query: str
    received: Headers
    headers: Mapping[str, str]
    """The values of those that were received."""
    receive: Receive
    limits: HttpLimits
    peer: str = ""
    """The address that the connection comes from."""
    request_id: str = ""
    record: Record | None = None
    """What the audit will say of it; None where there is no audit."""
    caller: Caller = ANONYMOUS
    """Who asks, once that is known."""
    look: Presentation | None = None
    """How the answer is to look, once that is read."""
    address: str = ""
    """Of the client, as far as proxies that are trusted tell it; else `peer`."""
    rates: Rates = _UNBOUNDED
    match: Match | None = None
    """What is asked for, once that is known."""

    async def body(self) -> bytes:
        """All of it, inflated where it comes compressed.

        Raises:
            FhirError: TOO_LARGE, as soon as that is known; UNSUPPORTED_MEDIA_TYPE for a coding
                other than gzip, INVALID for gzip that is broken.
        """
        gunzip = self._gunzip(self.limits.max_body)
        if gunzip is None:
            chunks = [chunk async for chunk in self._chunks(self.limits.max_body)]
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)
        async for chunk in self._chunks(self.limits.max_body):
            gunzip.feed(chunk)
        return gunzip.whole()

    async def pieces(self, most: int) -> AsyncIterator[bytes]:
        """The body as it comes in, inflated, up to that many bytes.

        Raises:
            FhirError: as `body`.
        """
        gunzip = self._gunzip(most)
        async for chunk in self._chunks(most):
            if gunzip is None:
                yield chunk
            else:
                gunzip.feed(chunk)
                yield gunzip.taken()
        if gunzip is not None:
            yield gunzip.whole()

    def _gunzip(self, most: int) -> Gunzip | None:
        coding = self.headers.get("content-encoding", "identity").strip().lower()
        if coding in CODINGS:
            return Gunzip(most)
        if coding not in ("", "identity"):
            raise FhirError.at(
                Kind.UNSUPPORTED_MEDIA_TYPE,
                "http.Content-Encoding",
                f"Content-Encoding '{coding}' is not supported; gzip and identity are",
            )
        return None

    async def _chunks(self, most: int) -> AsyncIterator[bytes]:
        declared = self.headers.get("content-length", "")
        if declared.isdigit() and int(declared) > most:
            raise _too_large(most)
        size, more = 0, True
        while more:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise FhirError(Kind.INVALID, "The client went away")
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > most:
                raise _too_large(most)
            yield chunk
            more = message.get("more_body", False)


def _too_large(most: int) -> FhirError:
    return FhirError(Kind.TOO_LARGE, f"The body is too large; {most} bytes are allowed")


@dataclass(slots=True)
class HttpAnswer:
    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


Handler = Callable[[HttpRequest], Awaitable[HttpAnswer]]
Middleware = Callable[[HttpRequest, Handler], Awaitable[HttpAnswer]]
