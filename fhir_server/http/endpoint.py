"""The FHIR interface as an ASGI application: one dispatcher over the one table of routes."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlencode

from fhir_server.access.audit.record import Record
from fhir_server.access.audit.trail import Trail
from fhir_server.access.caller import Caller
from fhir_server.access.session import Session
from fhir_server.access.tokens.problems import in_address
from fhir_server.errors import FhirError, Kind
from fhir_server.fhir import xml
from fhir_server.fhir.json import Resource, decode, decode_resource
from fhir_server.http import binary, render
from fhir_server.http.headers import read as read_headers
from fhir_server.http.limits import HttpLimits
from fhir_server.http.media import written_as
from fhir_server.http.messages import HttpAnswer, HttpRequest, Receive
from fhir_server.http.middleware import AT_THE_DOOR, wrapped
from fhir_server.http.negotiate import (
    Format,
    Presentation,
    presentation,
    presentation_of_error,
    sent,
)
from fhir_server.http.proxies import Proxies
from fhir_server.http.query import names_token, parameters_of
from fhir_server.http.rates import Rates
from fhir_server.http.server_timing import telling
from fhir_server.http.turns import Turns
from fhir_server.interactions import provenance
from fhir_server.interactions.asynchronous import NDJSON
from fhir_server.interactions.deferred import run_or_accept
from fhir_server.interactions.exchange import Repeat, Request, Server, preferences
from fhir_server.interactions.patch import JSON_PATCH
from fhir_server.interactions.permission import require_scopes
from fhir_server.interactions.preconditions import http_date
from fhir_server.interactions.repeats import repeat
from fhir_server.interactions.routing import Match

Send = Callable[[dict[str, Any]], Awaitable[None]]
Scope = Mapping[str, Any]
OpenSession = Callable[[HttpRequest], Session]
Authenticate = Callable[[str | None, str], Awaitable[Caller]]
"""From `Authorization` and the id of the request to who it is; raises FhirError."""

_LARGE: Final = 64 * 1024
"""Bytes of XML that are read beside the loop, which goes on meanwhile."""
_NDJSON: Final = (NDJSON, "application/ndjson", "application/x-ndjson")
_FORM: Final = "application/x-www-form-urlencoded"
_BODILESS: Final = ("GET", "HEAD", "DELETE", "OPTIONS")
_OF_SEVERAL: Final = ("search-system", "search-compartment")
"""Searches whose form may name types."""


class FhirEndpoint:
    """Serves FHIR below one path.

    Args:
        server: what interactions know of their server.
        open_session: makes the session of a request, from its headers.
        path: where the base stands, such as /fhir.
        limits: bounds on a request.
        proxies: whose word on the server's address is taken; None where the base is settled.
        addresses: whose word on the client's own address is taken; None where there are no proxies.
        rates: how often a client may ask; None for no bound.
        turns: how much is worked at at once; None for no bound.
        authenticate: says who asks; None where everybody may.
        trail: takes the audit's rows; None where there is no audit.
        timing: whether answers tell how long they took.
    """

    def __init__(
        self,
        server: Server,
        open_session: OpenSession,
        *,
        path: str,
        limits: HttpLimits,
        proxies: Proxies | None = None,
        addresses: Proxies | None = None,
        rates: Rates | None = None,
        turns: Turns | None = None,
        authenticate: Authenticate | None = None,
        trail: Trail | None = None,
        timing: bool = False,
    ) -> None:
        self.server = server
        self._open_session = open_session
        self.path = path
        self.limits = limits
        self._proxies = proxies
        self.trail = trail
        self._addresses = addresses
        self.rates = rates or Rates()
        self.turns = turns or Turns()
        self._authenticate = authenticate
        handle = wrapped(self._interact)
        self._handle = telling(handle) if timing else handle
        self._refuse = wrapped(self._turn_away, AT_THE_DOOR)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = self.request(scope, receive)
        handle = self._refuse if self.turns.is_hopeless else self._handle
        await send_answer(await handle(request), send, bodiless=request.method == "HEAD")

    def request(self, scope: Scope, receive: Receive) -> HttpRequest:
        """What came in, before anything of it is looked at."""
        received = read_headers(scope["headers"])
        peer = (scope.get("client") or ("",))[0]
        request = HttpRequest(
            method=scope["method"],
            path=scope["raw_path"].decode("latin-1").partition("?")[0][len(self.path) :],
            query=scope["query_string"].decode("latin-1"),
            received=received,
            headers=received.values,
            receive=receive,
            limits=self.limits,
            peer=peer,
            address=self.address_of(peer, received.values),
            rates=self.rates,
        )
        if self.trail is not None:
            request.record = _record(self.trail, request)
        return request

    async def refused(self, request: HttpRequest, error: BaseException) -> HttpAnswer:
        """What is answered where a request was looked at elsewhere, and failed there."""

        async def fail(_: HttpRequest) -> HttpAnswer:
            raise error

        return await wrapped(fail)(request)

    @property
    def has_turn(self) -> bool:
        """Whether whoever asks now would wait for nobody."""
        return self.turns.is_free

    def address_of(self, peer: str, headers: Mapping[str, str]) -> str:
        """The client's own, as far as proxies that are trusted tell it."""
        return self._addresses.client(peer, headers) if self._addresses else peer

    async def _turn_away(self, http: HttpRequest) -> HttpAnswer:  # noqa: ARG002
        raise self.turns.refusal()

    async def _interact(self, http: HttpRequest) -> HttpAnswer:
        if self._authenticate is not None and not _is_open(http):
            await self._require_caller(http, self._authenticate)
        http.rates.admit(http.caller.client, http.address)
        if http.method == "OPTIONS":
            if http.record is not None:
                http.record.begin("capabilities")
            return await self._options(http)
        return await self._perform(http, self.server.router.match(http.method, http.path))

    async def _require_caller(self, http: HttpRequest, authenticate: Authenticate) -> None:
        """Who asks, before anything of what is asked is looked at."""
        if names_token(http.query):
            raise in_address()
        found = await authenticate(http.headers.get("authorization"), http.request_id)
        http.caller = found.asking(http.request_id)
        if http.record is not None:
            http.record.caller = http.caller

    def server_of(self, peer: str, headers: Mapping[str, str]) -> Server:
        """The server, at the address that the client knows it by."""
        origin = self._proxies.origin(peer, headers) if self._proxies else None
        return replace(self.server, base=origin + self.path) if origin else self.server

    async def _options(self, http: HttpRequest) -> HttpAnswer:
        """What an address takes; at the base, what the server is."""
        router = self.server.router
        allowed = ", ".join(router.allowed(http.path))
        if http.path.strip("/"):
            return HttpAnswer(204, headers={"allow": allowed})
        answered = await self._perform(http, router.match("GET", "metadata"))
        answered.headers["allow"] = allowed
        return answered

    async def _perform(self, http: HttpRequest, match: Match) -> HttpAnswer:
        session = self.session(http, match)
        server = self.server_of(http.peer, http.headers)
        if not server.open_access and http.method not in _BODILESS:
            self._require_scopes(http, server, match)
        request = await self._request(http, server, match)
        taken = binary.wanted(http, match, request.parameters)
        media = written_as(server.operations, http, match, request.parameters)
        request = replace(request, media=media) if media else request
        own = taken is not None or match.interaction.own_media or media
        look = presentation_of_error if own else presentation
        http.look = look(http.headers, request.parameters)
        answer = await self.turns.in_turn(
            lambda: run_or_accept(session, match.interaction, request)
        )
        answered = render.answer(answer, server.base)
        honoured = (*answer.honoured, *match.interaction.honoured(request.preferences))
        if honoured:
            answered.headers["preference-applied"] = ", ".join(honoured)
        return await _presented(answered, http.look, taken)

    def session(self, http: HttpRequest, match: Match) -> Session:
        """The caller's, for what is asked for."""
        http.match = match
        session = self._open_session(http)
        session.record = http.record
        if http.record is not None:
            http.record.caller, http.record.glass = session.caller, session.glass
            http.record.begin(match.interaction.code, match.resource_type, match.id)
        return session

    def _require_scopes(self, http: HttpRequest, server: Server, match: Match) -> None:
        """Before the body is read; where that says what is searched, once it is known.

        Where there is none, they are looked at when all of the request is known, which is before
        anything is read for it (`Interaction.ready`).
        """
        if match.interaction.code in _OF_SEVERAL and http.method == "POST":
            return
        asked = Request(
            server=server,
            resource_type=match.resource_type,
            id=match.id,
            operation=match.operation,
            member=match.member,
            method=http.method,
            parameters=parameters_of(http.query, http.limits),
            if_none_exist=http.headers.get("if-none-exist"),
        )
        require_scopes(http.caller, match.interaction.code, asked)

    async def _request(self, http: HttpRequest, server: Server, match: Match) -> Request:
        parameters = parameters_of(http.query, http.limits)
        resource, patch, lines, repeated, raw = None, None, None, None, b""
        if http.method not in _BODILESS:
            if match.interaction.code.startswith("search-"):
                parameters = [*parameters, *await _form(http)]
                if http.record is not None:
                    http.record.asked += f" {urlencode(parameters)}"
            elif match.operation and _declared(http) in _NDJSON:
                lines = http.pieces(server.max_import)
                repeated = _repeat(http)  # the lines are added as they come
            elif binary.is_written(http, match):
                raw = await http.body()
                resource = await binary.received(http, match, raw)
                repeated = _repeat(http, raw, *binary.told_beside(http))
            else:
                raw = await http.body()
                resource, patch = await _content(http, raw, optional=bool(match.operation))
                repeated = _repeat(http, raw)
        headers = http.headers
        return Request(
            server=server,
            resource_type=match.resource_type,
            id=match.id,
            version=match.version,
            operation=match.operation,
            member=match.member,
            method=http.method,
            parameters=parameters,
            resource=resource,
            size=len(raw),
            patch=patch,
            lines=lines,
            if_match=headers.get("if-match"),
            if_none_match=headers.get("if-none-match"),
            if_modified_since=http_date(headers.get("if-modified-since")),
            if_none_exist=headers.get("if-none-exist"),
            preferences=preferences(headers.get("prefer")),
            repeat=repeated,
            provenance=provenance.received(headers.get(provenance.HEADER), http.limits.max_depth),
        )


def _record(trail: Trail, http: HttpRequest) -> Record:
    query = f"?{http.query}" if http.query else ""
    return Record(trail, f"{http.method} {http.path or '/'}{query}", http.address)


def _is_open(http: HttpRequest) -> bool:
    """What the server is, it tells everybody."""
    asks_for_it = http.path.strip("/") == "metadata" and http.method in ("GET", "HEAD")
    return asks_for_it or http.method == "OPTIONS"


async def _presented(
    answered: HttpAnswer, look: Presentation, taken: binary.Wanted | None
) -> HttpAnswer:
    content = await binary.content(answered, taken) if taken else None
    return await render.presented(answered, look) if content is None else content


def _declared(http: HttpRequest) -> str:
    """The media type of the body, without its parameters."""
    return http.headers.get("content-type", "").partition(";")[0].strip().lower()


def _repeat(http: HttpRequest, *content: bytes) -> Repeat | None:
    if http.method != "POST":
        return None
    condition = http.headers.get("if-none-exist", "")
    beside = http.headers.get(provenance.HEADER)
    told = (http.path.encode(), http.query.encode(), condition.encode(), *content)
    if beside is not None:
        told = (*told, beside.encode())
    return repeat(http.headers.get("x-request-id"), *told)


async def _content(http: HttpRequest, raw: bytes, *, optional: bool) -> tuple[Resource | None, Any]:
    """The resource in the body, or the JSON Patch."""
    if http.method == "PATCH" and _declared(http) == JSON_PATCH:
        return None, decode(raw, http.limits.max_depth)
    return await _resource(http, raw, optional=optional), None


async def _resource(http: HttpRequest, raw: bytes, *, optional: bool) -> Resource | None:
    if optional and not raw:
        return None
    if sent(http.headers) is Format.JSON:
        return decode_resource(raw, http.limits.max_depth)
    if len(raw) < _LARGE:
        return xml.decode_resource(raw, http.limits.max_depth)
    return await asyncio.to_thread(xml.decode_resource, raw, http.limits.max_depth)


async def _form(http: HttpRequest) -> list[tuple[str, str]]:
    raw = await http.body()
    if raw and _declared(http) != _FORM:
        raise FhirError.at(
            Kind.UNSUPPORTED_MEDIA_TYPE, "http.Content-Type", f"_search takes a body of {_FORM}"
        )
    return parameters_of(raw.decode("latin-1"), http.limits)


async def send_answer(answer: HttpAnswer, send: Send, *, bodiless: bool = False) -> None:
    headers: Sequence[tuple[bytes, bytes]] = [
        (name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers.items()
    ]
    if answer.status not in (204, 304):
        headers = [*headers, (b"content-length", b"%d" % len(answer.body))]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    body = b"" if bodiless or answer.status in (204, 304) else answer.body
    await send({"type": "http.response.body", "body": body})
