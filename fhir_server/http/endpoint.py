"""The FHIR interface as an ASGI application: one dispatcher over the one table of routes."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

from fhir_server.access.session import Session
from fhir_server.errors import FhirError, Kind
from fhir_server.fhir import xml
from fhir_server.fhir.json import Resource, decode, decode_resource
from fhir_server.http import render
from fhir_server.http.messages import HttpAnswer, HttpRequest, Receive
from fhir_server.http.middleware import wrapped
from fhir_server.http.negotiate import Format, presentation, sent
from fhir_server.interactions.exchange import Repeat, Request, Server, preferences
from fhir_server.interactions.patch import JSON_PATCH
from fhir_server.interactions.preconditions import http_date
from fhir_server.interactions.repeats import repeat
from fhir_server.interactions.routing import Match, run

Send = Callable[[dict[str, Any]], Awaitable[None]]
Scope = Mapping[str, Any]
OpenSession = Callable[[HttpRequest], Session]

_LARGE: Final = 64 * 1024
"""Bytes of XML that are read beside the loop, which goes on meanwhile."""
_FORM: Final = "application/x-www-form-urlencoded"


class FhirEndpoint:
    """Serves FHIR below one path.

    Args:
        server: what interactions know of their server.
        open_session: makes the session of a request, from its headers.
        path: where the base stands, such as /fhir.
        max_body: bytes of a request's body.
    """

    def __init__(
        self, server: Server, open_session: OpenSession, *, path: str, max_body: int
    ) -> None:
        self._server = server
        self._open_session = open_session
        self._path = path
        self._max_body = max_body
        self._handle = wrapped(self._interact)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = HttpRequest(
            method=scope["method"],
            path=scope["raw_path"].decode("latin-1").partition("?")[0][len(self._path) :],
            query=scope["query_string"].decode("latin-1"),
            headers=_headers(scope["headers"]),
            receive=receive,
            max_body=self._max_body,
        )
        await _send(await self._handle(request), send, bodiless=request.method == "HEAD")

    async def _interact(self, http: HttpRequest) -> HttpAnswer:
        if http.method == "OPTIONS":
            return await self._options(http)
        return await self._perform(http, self._server.router.match(http.method, http.path))

    async def _options(self, http: HttpRequest) -> HttpAnswer:
        """What an address takes; at the base, what the server is."""
        router = self._server.router
        allowed = ", ".join(router.allowed(http.path))
        if http.path.strip("/"):
            return HttpAnswer(204, headers={"allow": allowed})
        answered = await self._perform(http, router.match("GET", "metadata"))
        answered.headers["allow"] = allowed
        return answered

    async def _perform(self, http: HttpRequest, match: Match) -> HttpAnswer:
        request = await self._request(http, match, _query(http.query))
        http.look = look = presentation(http.headers, request.parameters)
        answer = await run(self._open_session(http), match.interaction, request)
        return await render.presented(render.answer(answer, self._server.base), look)

    async def _request(
        self, http: HttpRequest, match: Match, parameters: list[tuple[str, str]]
    ) -> Request:
        resource, patch, repeated = None, None, None
        if http.method not in ("GET", "HEAD", "DELETE", "OPTIONS"):
            if match.interaction.code.startswith("search-"):
                parameters = [*parameters, *await _form(http)]
            else:
                raw = await http.body()
                resource, patch = await _content(http, raw, optional=bool(match.operation))
                repeated = _repeat(http, raw)
        headers = http.headers
        return Request(
            server=self._server,
            resource_type=match.resource_type,
            id=match.id,
            version=match.version,
            operation=match.operation,
            member=match.member,
            method=http.method,
            parameters=parameters,
            resource=resource,
            patch=patch,
            if_match=headers.get("if-match"),
            if_none_match=headers.get("if-none-match"),
            if_modified_since=http_date(headers.get("if-modified-since")),
            if_none_exist=headers.get("if-none-exist"),
            preferences=preferences(headers.get("prefer")),
            repeat=repeated,
        )


def _headers(raw: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    """By name; one that is sent several times is one list (RFC 9110 section 5.3)."""
    found: dict[str, str] = {}
    for name_bytes, value_bytes in raw:
        name, value = name_bytes.decode("latin-1"), value_bytes.decode("latin-1")
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def _repeat(http: HttpRequest, raw: bytes) -> Repeat | None:
    if http.method != "POST":
        return None
    return repeat(http.headers.get("x-request-id"), http.path.encode(), http.query.encode(), raw)


async def _content(http: HttpRequest, raw: bytes, *, optional: bool) -> tuple[Resource | None, Any]:
    """The resource in the body, or the JSON Patch."""
    declared = http.headers.get("content-type", "").partition(";")[0].strip().lower()
    if http.method == "PATCH" and declared == JSON_PATCH:
        return None, decode(raw)
    return await _resource(http, raw, optional=optional), None


async def _resource(http: HttpRequest, raw: bytes, *, optional: bool) -> Resource | None:
    if optional and not raw:
        return None
    if sent(http.headers) is Format.JSON:
        return decode_resource(raw)
    if len(raw) < _LARGE:
        return xml.decode_resource(raw)
    return await asyncio.to_thread(xml.decode_resource, raw)


async def _form(http: HttpRequest) -> list[tuple[str, str]]:
    raw = await http.body()
    declared = http.headers.get("content-type", "").partition(";")[0].strip().lower()
    if raw and declared != _FORM:
        raise FhirError.at(
            Kind.UNSUPPORTED_MEDIA_TYPE, "http.Content-Type", f"_search takes a body of {_FORM}"
        )
    return _query(raw.decode("latin-1"))


def _query(text: str) -> list[tuple[str, str]]:
    """Names and values, decoded as UTF-8.

    Raises:
        FhirError: INVALID for escapes that are not UTF-8, control characters, or far too many.
    """
    if not text:
        return []
    try:
        found = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=1000)
    except ValueError as error:
        raise FhirError(Kind.INVALID, f"The query string cannot be read: {error}") from None
    if "\x00" in unquote(text):
        raise FhirError(Kind.INVALID, "The query string holds a NUL character")
    return found


async def _send(answer: HttpAnswer, send: Send, *, bodiless: bool) -> None:
    headers: Sequence[tuple[bytes, bytes]] = [
        (name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers.items()
    ]
    if answer.status not in (204, 304):
        headers = [*headers, (b"content-length", b"%d" % len(answer.body))]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    body = b"" if bodiless or answer.status in (204, 304) else answer.body
    await send({"type": "http.response.body", "body": body})
