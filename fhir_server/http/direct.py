"""The short way for what is asked most: one resource by its id, or a search of one type, in plain
words.

The general way (`endpoint`) makes a task, a scope and a request, and passes each middleware, which
costs more than the read itself. Here the answer is written as soon as the headers are read. What is
not plain takes the general way, as if it had not been looked at: any header, form, address or
answer but the commonest, a token that is not known again, and whatever would have to be waited
for. Who asks, what they see and what the audit says is told by the same session on both ways; a
test compares what they send, byte by byte, and the rows that they leave.
"""

import logging
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import lru_cache
from itertools import product
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from fhir_server.access.audit.record import of_again, of_read
from fhir_server.access.caller import ANONYMOUS, Caller
from fhir_server.access.session import StoredVersion, current
from fhir_server.access.tokens.authentication import Proven
from fhir_server.errors import FhirError, Kind
from fhir_server.fhir.definitions import resource_types
from fhir_server.fhir.references import new_id
from fhir_server.http import render
from fhir_server.http.asking import (
    TAKEN,
    Asking,
    Headers,
    Kept,
    Line,
    OpenSession,
    Said,
    Words,
)
from fhir_server.http.edge import Edge
from fhir_server.http.endpoint import FhirEndpoint
from fhir_server.http.gzip import compressed
from fhir_server.http.middleware import (
    CACHE_CONTROL,
    VARY,
    is_compressed,
    requests_log,
)
from fhir_server.http.negotiate import PLAIN, Format, accepted, presentation
from fhir_server.http.pages import Page, Pages
from fhir_server.http.query import names_token, parameters_of
from fhir_server.http.render import http_time
from fhir_server.interactions.exchange import Request
from fhir_server.interactions.routing import Interaction, Router
from fhir_server.interactions.table import READ, SEARCH

T = TypeVar("T")


class Known(Protocol):
    """Tokens that were verified before."""

    def find(self, authorization: bytes) -> Proven | None:
        """The token in that header; None for any that has to be looked into."""

    async def caller_by(self, token: Proven) -> Caller | None:
        """Whose it is, while it is good."""


class Written(NamedTuple):
    """An answer: its status, what is sent behind the HTTP server's own headers, and what it cost,
    as a number of plain reads."""

    status: int
    rest: bytes
    cost: int = 1


Answers = Callable[[bytes, Headers, int, Line], Written | None]
"""As `Direct.answer`."""

_log: Final = logging.getLogger(__name__)
_NOT_THERE: Final = (Kind.NOT_FOUND, Kind.GONE)
_LARGE: Final = 64 * 1024
"""Bytes of a body that is better sent, or compressed, while the loop goes on."""
_SEARCH: Final = 8
"""What a search costs, in reads; and a page that is given again."""
_AGAIN: Final = 2
_MOST_WAITED: Final = 1000
"""Searches that are known to take the general way."""
_TWICE: Final = 2
_ONCE_IN: Final = 16
"""Times that such a search is asked for, for each time that it is begun here again."""
_MOST_CALLERS: Final = 1000
"""Whose sessions are kept."""
_QUERY: Final = rb"[A-Za-z0-9_.~%&=:,|*+!$'()@/;-]+"
_LARGEST: Final = 1024 * 1024
"""Bytes of a page that is written at once, where it is not compressed."""
_TERMINOLOGY: Final = (":in", ":not-in", ":above", ":below", "_filter")
"""Ends of parameters for which another server may have to be asked."""


class Direct:
    """Answers plain reads and searches.

    Args:
        endpoint: the general way.
        open_session: makes the session of a caller, which is kept as long as the caller is known.
        open_search: the same of one that searches.
        known: says whose a token is that was verified before; None where nobody is asked.
        edge: what stands on every answer.
    """

    def __init__(
        self,
        endpoint: FhirEndpoint,
        open_session: OpenSession,
        open_search: OpenSession,
        known: Known | None = None,
        edge: Edge | None = None,
    ) -> None:
        self._endpoint: Final = endpoint
        self._open_session: Final = open_session
        self._open_search: Final = open_search
        self._known: Final = known
        self._callers: Final[dict[int, Kept]] = {}
        self._address: Final = re.compile(
            rb"%b(/([A-Za-z]{1,64})(?:/([A-Za-z0-9.-]{1,64})|\?(%b)))"
            % (re.escape(endpoint.path.encode()), _QUERY)
        )
        self._types: Final = _types(endpoint.server.router, "/{}/1", READ)
        self._searched: Final = _types(endpoint.server.router, "/{}", SEARCH)
        self._waited: Final[dict[int, int]] = {}
        """How often searches, by their hashes, were asked for since they were answered here."""
        self._pages: Final = Pages()
        made = edge or Edge()
        self._heads: Final = {
            one: _head(made, shown=one[0], encoded=one[1], correlated=one[2])
            for one in product((False, True), repeat=3)
        }

    def answer(self, url: bytes, headers: Headers, size: int, line: Line) -> Written | None:
        """The status, and what is sent behind the HTTP server's own headers.

        None where it is not for here.

        Args:
            url: as it came.
            size: bytes of all headers.
            line: the connection that it came on.
        """
        address = self._address.fullmatch(url)
        if address is None or requests_log.isEnabledFor(logging.INFO):
            return None
        try:
            said = line.said(headers)
            if said is None:
                said = self._said(headers, size, line.peer)
                if said is None:
                    return None
                line.keep(said)
            if address[4] is None:
                return at_once(self._read(address, said))
            return at_once(self._search(address, said))
        except FhirError:
            return None
        except Exception:
            _log.exception("A read or search took the general way")
            return None

    def _said(self, headers: Headers, size: int, peer: str) -> Said | None:
        """None where the headers are not for here."""
        told, limits = dict(headers), self._endpoint.limits
        if len(told) != len(headers) or not told.keys() <= TAKEN:
            return None
        if len(told) > limits.max_headers or size > limits.max_header_bytes:
            return None
        return Said(headers, told, peer, self._endpoint)

    async def _asking(self, asked: re.Match[bytes], said: Said) -> Asking | None:
        """Who asks, who has a turn; None for who is not known."""
        caller = ANONYMOUS if self._known is None else await self._caller(said, self._known)
        if caller is None:
            return None
        kept, endpoint = said.kept, self._endpoint
        if kept is None or kept.caller is not caller:
            kept = said.kept = self._kept(caller)
        if endpoint.trail is not None:
            endpoint.trail.require_open()
        endpoint.rates.require_turn(caller.client, said.address)  # which is taken with the answer
        request_id = said.request_id or new_id()
        return Asking(kept, request_id, said.address, f"GET {asked[1].decode()}", said)

    @staticmethod
    async def _caller(said: Said, known: Known) -> Caller | None:
        """By a token that was found before on this line, or is known by its digest."""
        if said.proven is None:
            said.proven = known.find(said.authorization)
        caller = None if said.proven is None else await known.caller_by(said.proven)
        if caller is None:
            said.proven = None
        return caller

    async def _read(self, asked: re.Match[bytes], said: Said) -> Written | None:
        resource_type = self._types.get(asked[2])
        if resource_type is None or not _takes_json(said.accept):
            return None
        asking = await self._asking(asked, said)
        if asking is None or not asking.kept.may(READ.code, said.server, resource_type):
            return None
        kept = asking.kept
        kept.session.begin()
        try:
            found = await current(kept.session, resource_type, asked[3].decode())
        except FhirError as error:
            if error.kind not in _NOT_THERE:
                raise
            name = (resource_type, asked[3].decode())
            return await self._refused(error, name, asking)
        return await self._shown(found, asking)

    async def _shown(self, found: StoredVersion, asking: Asking) -> Written | None:
        if len(found.body) > _LARGE or asking.kept.session.glass:
            return None
        changed = http_time(found.last_updated // 1_000_000).encode()
        about, taken = (found.version, changed), await _as_taken(found.body, asking.said)
        trail = self._endpoint.trail
        self._endpoint.rates.admit(asking.kept.caller.client, asking.address)
        if trail is not None:
            trail.put(of_read(asking.kept.told, *asking[1:4], found))
        return Written(200, self._written(taken[0], about, taken[1], asking))

    async def _refused(
        self, error: FhirError, name: tuple[str, str], asking: Asking
    ) -> Written | None:
        """What is not there, or hidden: in the same way, so that it takes the same time."""
        if asking.kept.session.glass:
            return None
        status, trail = error.kind.status, self._endpoint.trail
        body, encoded = await _as_taken(render.error(error).body, asking.said)
        self._endpoint.rates.admit(asking.kept.caller.client, asking.address)
        if trail is not None:
            record = asking.record(trail)
            record.begin(READ.code, *name)
            record.close(status, str(error))
        return Written(status, self._written(body, (), encoded, asking))

    async def _search(self, asked: re.Match[bytes], said: Said) -> Written | None:
        resource_type = self._searched.get(asked[2])
        if resource_type is None or not self._endpoint.has_turn:
            return None
        asking = await self._asking(asked, said)
        if asking is None or not asking.kept.may(SEARCH.code, said.server, resource_type):
            return None
        words = asking.words(asked[0])
        page = await self._pages.find(words, asking.kept, self._endpoint.server.clock())
        if page is not None:
            return self._given(page, asking)
        parameters = self._parameters(asked[4].decode(), said.accept)
        if parameters is None or self._is_long(hash(asked[0])):
            return None
        request = Request(said.server, resource_type, parameters=parameters)
        written = await self._found(request, words, asking)
        if written is not None:
            self._waited.pop(hash(asked[0]), None)
        return written

    def _parameters(self, query: str, accept: str | None) -> Sequence[tuple[str, str]] | None:
        """None where they are not for here."""
        if self._known is not None and names_token(query):
            return None
        parameters = parameters_of(query, self._endpoint.limits)
        look = presentation({} if accept is None else {"accept": accept}, parameters)
        if look is not PLAIN or any(name.endswith(_TERMINOLOGY) for name, _ in parameters):
            return None
        return parameters

    def _is_long(self, search: int) -> bool:
        """Whether it was begun here before, in vain: it is tried twice, and then once in a while.

        It counts as in vain until it is answered.
        """
        if len(self._waited) >= _MOST_WAITED:
            self._waited.clear()
        times = self._waited[search] = self._waited.get(search, 0) + 1
        return times > _TWICE and times % _ONCE_IN != 0

    async def _found(self, request: Request, words: Words, asking: Asking) -> Written | None:
        """The page that a search finds."""
        session, trail = asking.kept.searching(self._open_search), self._endpoint.trail
        session.begin()
        basis = await session.basis() if self._pages.takes(words, request.parameters) else None
        record = session.record = None if trail is None else asking.record(trail)
        try:
            answer = await SEARCH.perform(session.answering(), request)
        finally:
            session.record = None
        if session.glass or len(answer.body) > _LARGEST:
            return None
        body, encoded = await _as_taken(answer.body, asking.said)
        self._endpoint.rates.admit(asking.kept.caller.client, asking.address)
        row = None
        if record is not None:
            record.begin(SEARCH.code, request.resource_type)
            row = record.close(answer.status)
        if basis is not None and await basis.complete():
            until = self._pages.until(request.server)
            self._pages.keep(words, Page(asking.kept, basis, until, body, encoded, row))
        return Written(answer.status, self._written(body, (), encoded, asking), _SEARCH)

    def _given(self, page: Page, asking: Asking) -> Written:
        """A page that was made before."""
        self._endpoint.rates.admit(asking.kept.caller.client, asking.address)
        if page.row is not None and self._endpoint.trail is not None:
            self._endpoint.trail.put(of_again(page.row, asking.request_id, asking.address))
        return Written(200, self._written(page.body, (), page.encoded, asking), _AGAIN)

    def _kept(self, caller: Caller) -> Kept:
        kept = self._callers.get(id(caller))
        if kept is None or kept.caller is not caller:
            if len(self._callers) >= _MOST_CALLERS:
                self._callers.clear()
            kept = self._callers[id(caller)] = Kept(caller, self._open_session(caller))
        return kept

    def _written(self, body: bytes, about: tuple[Any, ...], encoded: bool, asking: Asking) -> bytes:
        """Headers and body; `about` are version and time of what is shown."""
        correlation = asking.said.correlation
        ids = [asking.request_id.encode(), *([correlation.encode()] if correlation else [])]
        head = self._heads[bool(about), encoded, bool(correlation)]
        return head % (*about, *ids, len(body)) + body


async def _as_taken(body: bytes, said: Said) -> tuple[bytes, bool]:
    """The body as it goes out, and whether it is compressed."""
    encoded = is_compressed(said.accept_encoding, body)
    return (await compressed(body), True) if encoded else (body, False)


def at_once(work: Coroutine[Any, Any, T]) -> T | None:
    """What it comes to; None where it would have to wait, which ends it."""
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    work.close()
    return None


def _takes_json(accept: str | None) -> bool:
    return accept is None or accepted(accept) is Format.JSON


@lru_cache(8)
def _types(router: Router, place: str, wanted: Interaction) -> Mapping[bytes, str]:
    """The types of which that is at such a place, as of any other: not the audit, and no Binary,
    which has forms."""
    return {
        name.encode(): name
        for name in resource_types()
        if name != "Binary" and router.match("GET", place.format(name)).interaction is wanted
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
