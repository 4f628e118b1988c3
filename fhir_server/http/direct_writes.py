"""The short way of plain creates and updates: a small resource in JSON, and no word beside it.

The general way (`endpoint`) passes each middleware, on the way in and on the way out, and looks for
whatever may stand in a request; that costs a fifth of a write. What is not plain takes it, as if it
had not been looked at: any header, form, address or length but the commonest, and a token that is
not known again. So does every refusal, from the moment at which it is known: it passes the same
middlewares as any other. A test compares what both ways send, byte by byte, the rows that they
leave, and what is stored.
"""

import logging
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from fhir_server.access.caller import ANONYMOUS
from fhir_server.errors import FhirError
from fhir_server.fhir.definitions import resource_types
from fhir_server.fhir.json import decode_resource
from fhir_server.fhir.references import new_id
from fhir_server.http import render
from fhir_server.http.asking import TAKEN
from fhir_server.http.direct import Known
from fhir_server.http.endpoint import FhirEndpoint, Scope, Send, send_answer
from fhir_server.http.gzip import compressed
from fhir_server.http.messages import HttpAnswer, HttpRequest, Receive
from fhir_server.http.middleware import (
    CACHE_CONTROL,
    VARY,
    is_compressed,
    plain_id,
    requests_log,
)
from fhir_server.http.negotiate import PLAIN, Format, presentation, sent
from fhir_server.interactions.exchange import LARGE, Answer, Request, Server
from fhir_server.interactions.permission import require_scopes
from fhir_server.interactions.routing import Match, Router, run
from fhir_server.interactions.table import CREATE, UPDATE

_METHODS: Final = ("POST", "PUT")
_ADDRESS: Final = rb"/([A-Za-z]{1,64})(?:/([A-Za-z0-9.-]{1,64}))?"
_LENGTH: Final = re.compile(r"[0-9]{1,5}")
_TAKEN: Final = frozenset({name.decode() for name in TAKEN} | {"content-length", "if-match"})


class DirectWrites:
    """Answers plain creates and updates.

    Args:
        endpoint: the general way.
        known: says whose a token is that was verified before; None where nobody is asked.
    """

    def __init__(self, endpoint: FhirEndpoint, known: Known | None = None) -> None:
        self._endpoint: Final = endpoint
        self._known: Final = known
        self._address: Final = re.compile(re.escape(endpoint.path.encode()) + _ADDRESS)
        self._places: Final = _places(endpoint.server.router)

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> bool:
        """Whether the request is answered; nothing was done and nothing read where it is not."""
        match = self._match(scope)
        if match is None or self._endpoint.turns.is_hopeless:
            return False
        http = self._endpoint.request(scope, receive)
        if not (self._is_plain(http) and await self._is_known(http)):
            return False
        try:
            answered = await self._answered(http, match)
        except BaseException as error:  # a row in the audit is due, whatever has happened
            answered = await self._endpoint.refused(http, error)
        await send_answer(answered, send)
        return True

    def _match(self, scope: Scope) -> Match | None:
        """What is asked for, by method and address; None where that is not for here."""
        method = scope["method"]
        if (
            method not in _METHODS
            or scope["query_string"]
            or requests_log.isEnabledFor(logging.INFO)
        ):
            return None
        found = self._address.fullmatch(scope["raw_path"])
        place = None if found is None else self._places.get((method, found[1]))
        if found is None or place is None or (found[2] is None) is not (method == "POST"):
            return None
        return Match(place.interaction, place.resource_type, (found[2] or b"").decode())

    def _is_plain(self, http: HttpRequest) -> bool:
        """Whether headers and length are such as most have, and allowed."""
        received, headers, limits = http.received, http.headers, http.limits
        if received.repeated or not headers.keys() <= _TAKEN:
            return False
        if received.number > limits.max_headers or received.size > limits.max_header_bytes:
            return False
        length = headers.get("content-length", "")
        if not _LENGTH.fullmatch(length) or int(length) >= min(LARGE, limits.max_body):
            return False
        if http.method == "POST" and "x-request-id" in headers:
            return False  # it may be sent again
        try:
            return sent(headers) is Format.JSON and presentation(headers, ()) is PLAIN
        except FhirError:
            return False

    async def _is_known(self, http: HttpRequest) -> bool:
        if self._known is None:
            http.caller = ANONYMOUS
            return True
        token = self._known.find(http.headers.get("authorization", "").encode("latin-1"))
        caller = None if token is None else await self._known.caller_by(token)
        if caller is not None:
            http.caller = caller
        return caller is not None

    async def _answered(self, http: HttpRequest, match: Match) -> HttpAnswer:
        """The answer, with what each middleware would add to it, in their order."""
        http.request_id = plain_id(http.headers.get("x-request-id")) or new_id()
        http.caller = http.caller.asking(http.request_id)
        record = http.record
        if record is not None:
            record.request_id, record.caller = http.request_id, http.caller
            record.trail.require_open()
        http.rates.admit(http.caller.client, http.address)
        server = self._endpoint.server_of(http.peer, http.headers)
        answer = await self._carried_out(http, match, server)
        if record is not None:
            record.close(answer.status, body=answer.body)
            await record.settle()
        return await _rendered(answer, server.base, http)

    async def _carried_out(self, http: HttpRequest, match: Match, server: Server) -> Answer:
        session = self._endpoint.session(http, match)
        request = Request(
            server=server,
            resource_type=match.resource_type,
            id=match.id,
            method=http.method,
            if_match=http.headers.get("if-match"),
        )
        require_scopes(http.caller, match.interaction.code, request)
        raw = await http.body()
        resource = decode_resource(raw, http.limits.max_depth)
        whole = request.having(resource=resource, size=len(raw))
        return await self._endpoint.turns.in_turn(lambda: run(session, match.interaction, whole))


async def _rendered(answer: Answer, base: str, http: HttpRequest) -> HttpAnswer:
    answered = render.answer(answer, base)
    headers = answered.headers
    headers["vary"] = VARY
    if is_compressed(http.headers.get("accept-encoding"), answered.body):
        answered.body = await compressed(answered.body)
        headers["content-encoding"] = "gzip"
    headers["cache-control"] = CACHE_CONTROL
    headers["x-request-id"] = http.request_id
    correlation = plain_id(http.headers.get("x-correlation-id"))
    if correlation:
        headers["x-correlation-id"] = correlation
    return answered


@lru_cache(8)
def _places(router: Router) -> Mapping[tuple[str, bytes], Match]:
    """By method and type, where any of them is created or updated as any other: no AuditEvent, and
    no Binary, which has forms."""
    asked = (("POST", "/{}", CREATE), ("PUT", "/{}/1", UPDATE))
    found = {
        (method, name.encode()): router.match(method, place.format(name))
        for name in resource_types()
        if name != "Binary"
        for method, place, _ in asked
    }
    wanted = {method: interaction for method, _, interaction in asked}
    return {key: one for key, one in found.items() if one.interaction is wanted[key[0]]}
