"""The short way for what is asked most: one resource by its id, asked in plain words.

The general way (`endpoint`) makes a task, a scope and a request, and passes each middleware, which
costs more than the read itself. Here the answer is written as soon as the headers are read. What is
not plain takes the general way, as if it had not been looked at: any header, form, address or
answer but the commonest, a token that is not known again, and whatever would have to be waited
for. Who asks, what they see and what the audit says is told by the same session on both ways; a
test compares what they send, byte by byte, and the rows that they leave.
"""

import logging
import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import lru_cache
from itertools import product
from typing import Any, Final, NamedTuple, TypeVar

from fhir_server.access.audit.record import Record, of_read, teller
from fhir_server.access.caller import ANONYMOUS, Caller
from fhir_server.access.session import Session, StoredVersion, current
from fhir_server.errors import FhirError, Kind
from fhir_server.fhir.definitions import resource_types
from fhir_server.fhir.references import new_id
from fhir_server.http import render
from fhir_server.http.edge import Edge
from fhir_server.http.endpoint import FhirEndpoint
from fhir_server.http.gzip import compressed
from fhir_server.http.middleware import (
    CACHE_CONTROL,
    VARY,
    is_compressed,
    plain_id,
    requests_log,
)
from fhir_server.http.negotiate import Format, accepted
from fhir_server.http.render import http_time
from fhir_server.interactions.exchange import Server
from fhir_server.interactions.permission import may_read
from fhir_server.interactions.routing import Router
from fhir_server.interactions.table import READ

T = TypeVar("T")
Headers = Sequence[tuple[bytes, bytes]]
"""As ASGI has them: names in small letters."""
Told = Mapping[bytes, bytes]
Known = Callable[[bytes], Awaitable[Caller | None]]
"""From `Authorization` to who sent the same before; None where that has to be looked into."""
Written = tuple[int, bytes]
Answers = Callable[[bytes, Headers, int, str], Written | None]
"""As `Direct.answer`."""
OpenSession = Callable[[Caller], Session]

_log: Final = logging.getLogger(__name__)
_FORWARDED: Final = frozenset(
    {b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"}
)
_TAKEN: Final = frozenset(
    {
        *(b"accept", b"accept-encoding", b"authorization", b"x-correlation-id", b"x-request-id"),
        *_FORWARDED,
        # Of these a read takes no notice.
        *(b"accept-charset", b"accept-language", b"cache-control", b"connection", b"content-type"),
        *(b"cookie", b"dnt", b"host", b"keep-alive", b"pragma", b"priority", b"referer", b"te"),
        *(b"traceparent", b"tracestate", b"user-agent", b"via", b"x-real-ip"),
    }
)
_NOT_THERE: Final = (Kind.NOT_FOUND, Kind.GONE)
_LARGE: Final = 64 * 1024
"""Bytes of a body that is better sent, or compressed, while the loop goes on."""
_MOST_CALLERS: Final = 1000
"""Whose sessions are kept."""


class Direct:
    """Answers plain reads.

    Args:
        endpoint: the general way.
        open_session: makes the session of a caller, which is kept as long as the caller is known.
        known: says whose a token is that was verified before; None where nobody is asked.
        edge: what stands on every answer.
    """

    def __init__(
        self,
        endpoint: FhirEndpoint,
        open_session: OpenSession,
        known: Known | None = None,
        edge: Edge | None = None,
    ) -> None:
        self._endpoint: Final = endpoint
        self._open_session: Final = open_session
        self._known: Final = known
        self._callers: Final[dict[int, _Kept]] = {}
        self._address: Final = re.compile(
            rb"%b(/([A-Za-z]{1,64})/([A-Za-z0-9.-]{1,64}))" % re.escape(endpoint.path.encode())
        )
        self._types: Final = _read_types(endpoint.server.router)
        made = edge or Edge()
        self._heads: Final = {
            one: _head(made, shown=one[0], encoded=one[1], correlated=one[2])
            for one in product((False, True), repeat=3)
        }

    def answer(self, url: bytes, headers: Headers, size: int, peer: str) -> Written | None:
        """The status, and what is sent behind the HTTP server's own headers.

        None where it is not for here.

        Args:
            url: as it came.
            size: bytes of all headers.
            peer: the address that the connection comes from.
        """
        address, told = self._address.fullmatch(url), dict(headers)
        if address is None or len(told) != len(headers) or not told.keys() <= _TAKEN:
            return None
        limits = self._endpoint.limits
        if len(told) > limits.max_headers or size > limits.max_header_bytes:
            return None
        if requests_log.isEnabledFor(logging.INFO):
            return None
        try:
            return at_once(self._read(address, told, peer))
        except FhirError:
            return None
        except Exception:
            _log.exception("A read took the general way")
            return None

    async def _read(self, asked: re.Match[bytes], told: Told, peer: str) -> Written | None:
        endpoint, resource_type = self._endpoint, self._types.get(asked[2])
        if resource_type is None or not _takes_json(told):
            return None
        known = self._known
        caller = ANONYMOUS if known is None else await known(told.get(b"authorization", b""))
        if caller is None:
            return None
        headers, kept = _forwarded(told), self._kept(caller)
        address, server = endpoint.address_of(peer, headers), endpoint.server_of(peer, headers)
        if not kept.may_read(server, resource_type):
            return None
        if endpoint.trail is not None:
            endpoint.trail.require_open()
        endpoint.rates.require_turn(caller.client, address)  # which is taken with the answer
        request_id = _id_in(told, b"x-request-id") or new_id()
        asking = _Asking(kept, request_id, address, f"GET {asked[1].decode()}")
        kept.session.begin()
        try:
            found = await current(kept.session, resource_type, asked[3].decode())
        except FhirError as error:
            if error.kind not in _NOT_THERE:
                raise
            name = (resource_type, asked[3].decode())
            return await self._refused(error, name, told, asking)
        return await self._shown(found, told, asking)

    async def _shown(self, found: StoredVersion, told: Told, asking: "_Asking") -> Written | None:
        if len(found.body) > _LARGE or asking.kept.session.glass:
            return None
        changed = http_time(found.last_updated // 1_000_000).encode()
        answer = await self._written(found.body, (found.version, changed), told, asking)
        trail = self._endpoint.trail
        self._endpoint.rates.admit(asking.kept.caller.client, asking.address)
        if trail is not None:
            trail.put(of_read(asking.kept.told, *asking[1:], found))
        return 200, answer

    async def _refused(
        self, error: FhirError, name: tuple[str, str], told: Told, asking: "_Asking"
    ) -> Written | None:
        """What is not there, or hidden: in the same way, so that it takes the same time."""
        kept, request_id, address, asked = asking
        if kept.session.glass:
            return None
        status, trail = error.kind.status, self._endpoint.trail
        answer = await self._written(render.error(error).body, (), told, asking)
        self._endpoint.rates.admit(kept.caller.client, address)
        if trail is not None:
            record = Record(trail, asked, address)
            record.request_id, record.caller = request_id, kept.caller
            record.begin(READ.code, *name)
            record.close(status, str(error))
        return status, answer

    def _kept(self, caller: Caller) -> "_Kept":
        kept = self._callers.get(id(caller))
        if kept is None or kept.caller is not caller:
            if len(self._callers) >= _MOST_CALLERS:
                self._callers.clear()
            kept = self._callers[id(caller)] = _Kept(caller, self._open_session(caller))
        return kept

    async def _written(
        self, body: bytes, about: tuple[Any, ...], told: Told, asking: "_Asking"
    ) -> bytes:
        """Headers and body; `about` are version and time of what is shown."""
        encoded = is_compressed(_text(told, b"accept-encoding"), body)
        if encoded:
            body = await compressed(body)
        correlation = _id_in(told, b"x-correlation-id")
        ids = [asking.request_id.encode(), *([correlation.encode()] if correlation else [])]
        head = self._heads[bool(about), encoded, bool(correlation)]
        return head % (*about, *ids, len(body)) + body


class _Kept:
    """What is the same for each read of a caller, as long as a token is known by that very object.

    One read ends before the next begins, so the session has one record at a time.
    """

    __slots__ = ("_readable", "caller", "session", "told")

    def __init__(self, caller: Caller, session: Session) -> None:
        self.caller: Final = caller
        self.session: Final = session
        self.told: Final = teller(caller)
        self._readable: Final[dict[str, Server]] = {}

    def may_read(self, server: Server, resource_type: str) -> bool:
        """As `permission.may_read`: at one address, scopes come to the same each time."""
        if self._readable.get(resource_type) is server:
            return True
        found = may_read(server, self.caller, resource_type)
        if found:
            self._readable[resource_type] = server
        return found


class _Asking(NamedTuple):
    """One request."""

    kept: _Kept
    request_id: str
    address: str
    asked: str


def at_once(work: Coroutine[Any, Any, T]) -> T | None:
    """What it comes to; None where it would have to wait, which ends it."""
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    work.close()
    return None


def _text(told: Told, name: bytes) -> str | None:
    value = told.get(name)
    return None if value is None else value.decode("latin-1")


def _forwarded(told: Told) -> Mapping[str, str]:
    """What proxies say, whether they are believed or not."""
    if _FORWARDED.isdisjoint(told):
        return {}
    return {one.decode(): told[one].decode("latin-1") for one in _FORWARDED & told.keys()}


def _id_in(told: Told, name: bytes) -> str:
    value = told.get(name)
    return "" if value is None else plain_id(value.decode("latin-1"))


def _takes_json(told: Told) -> bool:
    accept = _text(told, b"accept")
    return accept is None or accepted(accept) is Format.JSON


@lru_cache(4)
def _read_types(router: Router) -> Mapping[bytes, str]:
    """The types that are read as any other: not the audit, and no Binary, which has forms."""
    return {
        name.encode(): name
        for name in resource_types()
        if name != "Binary" and router.match("GET", f"/{name}/1").interaction is READ
    }


def _head(edge: Edge, *, shown: bool, encoded: bool, correlated: bool) -> bytes:
    """The headers in the order in which the middlewares add them, with places for what differs."""
    headers = [
        *([(b"etag", b'W/"%d"'), (b"last-modified", b"%b")] if shown else []),
        (b"content-type", Format.JSON.content_type.encode()),
        (b"vary", VARY.encode()),
        *([(b"content-encoding", b"gzip")] if encoded else []),
        (b"cache-control", CACHE_CONTROL.encode()),
        (b"x-request-id", b"%b"),
        *([(b"x-correlation-id", b"%b")] if correlated else []),
        (b"content-length", b"%d"),
    ]
    return b"".join(b"%b: %b\r\n" % pair for pair in edge.complete(headers)) + b"\r\n"
