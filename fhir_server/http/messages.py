"""HTTP as the FHIR interface sees it: one request, one answer."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fhir_server.errors import FhirError, Kind

Receive = Callable[[], Awaitable[Mapping[str, Any]]]


@dataclass(slots=True)
class HttpRequest:
    """`path` is relative to the FHIR base and still percent-encoded, as is `query`."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    receive: Receive
    max_body: int
    request_id: str = ""

    async def body(self) -> bytes:
        """All of it.

        Raises:
            FhirError: TOO_LARGE, as soon as that is known.
        """
        declared = self.headers.get("content-length", "")
        if declared.isdigit() and int(declared) > self.max_body:
            raise self._too_large()
        chunks, size, more = [], 0, True
        while more:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise FhirError(Kind.INVALID, "The client went away")
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > self.max_body:
                raise self._too_large()
            chunks.append(chunk)
            more = message.get("more_body", False)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _too_large(self) -> FhirError:
        return FhirError(
            Kind.TOO_LARGE, f"The body is too large; {self.max_body} bytes are allowed"
        )


@dataclass(slots=True)
class HttpAnswer:
    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


Handler = Callable[[HttpRequest], Awaitable[HttpAnswer]]
Middleware = Callable[[HttpRequest, Handler], Awaitable[HttpAnswer]]
