"""Who asks in the short way (`direct`), and what is the same each time that they do."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from fhir_server.access.audit.record import Record, teller
from fhir_server.access.audit.trail import Trail
from fhir_server.access.caller import Caller
from fhir_server.access.session import Session
from fhir_server.access.tokens.authentication import Proven
from fhir_server.http.middleware import plain_id
from fhir_server.interactions.exchange import Server
from fhir_server.interactions.permission import may

Headers = Sequence[tuple[bytes, bytes]]
"""As ASGI has them: names in small letters."""
Words = tuple[bytes, str | None, str | None, str, int]
"""Address and query, `Accept` and `Accept-Encoding`, the server's own address, and the number of
the object that is kept of the caller."""
OpenSession = Callable[[Caller], Session]
_FORWARDED: Final = frozenset(
    {b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"}
)

TAKEN: Final = frozenset(
    {
        *(b"accept", b"accept-encoding", b"authorization", b"x-correlation-id", b"x-request-id"),
        *_FORWARDED,
        # Of these a read takes no notice.
        *(b"accept-charset", b"accept-language", b"cache-control", b"connection", b"content-type"),
        *(b"cookie", b"dnt", b"host", b"keep-alive", b"pragma", b"priority", b"referer", b"te"),
        *(b"traceparent", b"tracestate", b"user-agent", b"via", b"x-real-ip"),
    }
)
"""Headers that a request for the short way may have."""


_MOST_CALLERS: Final = 32
"""Whose headers a connection keeps: as many as a proxy may have behind each of its own."""


class Place(Protocol):
    """Where the server is, and its clients."""

    def address_of(self, peer: str, headers: Mapping[str, str]) -> str: ...

    def server_of(self, peer: str, headers: Mapping[str, str]) -> Server: ...


class Kept:
    """What is the same for each read of a caller, as long as a token is known by that very object.

    One read ends before the next begins, so the session has one record at a time.
    """

    __slots__ = ("_granted", "_search", "caller", "session", "told")

    def __init__(self, caller: Caller, session: Session) -> None:
        self.caller: Final = caller
        self.session: Final = session
        self.told: Final = teller(caller)
        self._search: Session | None = None
        self._granted: Final[dict[tuple[str, str], Server]] = {}

    def may(self, code: str, server: Server, resource_type: str) -> bool:
        """As `permission.may`: at one address, scopes come to the same each time."""
        if self._granted.get((code, resource_type)) is server:
            return True
        found = may(server, self.caller, code, resource_type)
        if found:
            self._granted[code, resource_type] = server
        return found

    def searching(self, open_session: OpenSession) -> Session:
        """The session of searches, which is made for the first."""
        found = self._search
        if found is None:
            found = self._search = open_session(self.caller)
        return found


class Said:
    """What the headers of a request say, each of which stands there once."""

    __slots__ = (
        *("accept", "accept_encoding", "address", "authorization", "correlation", "headers"),
        *("kept", "proven", "request_id", "server"),
    )

    def __init__(self, headers: Headers, told: Mapping[bytes, bytes], peer: str, by: Place) -> None:
        forwarded = _forwarded(told)
        self.headers: Final = [*headers]
        self.accept: Final = _text(told, b"accept")
        self.accept_encoding: Final = _text(told, b"accept-encoding")
        self.authorization: Final = told.get(b"authorization", b"")
        self.request_id: Final = plain_id(_text(told, b"x-request-id"))
        self.correlation: Final = plain_id(_text(told, b"x-correlation-id"))
        self.address: Final = by.address_of(peer, forwarded)
        self.server: Final = by.server_of(peer, forwarded)
        self.proven: Proven | None = None
        """Its token, once it was found among those that are known again."""
        self.kept: Kept | None = None
        """Of who asked so last."""


class Line:
    """A connection. What was said on it is mostly said again, and need not be read again.

    Behind a proxy several callers take turns on one. It keeps what the last of them said, tokens
    among it, for no longer than it is open.
    """

    __slots__ = ("_of_others", "_said", "peer")

    def __init__(self, peer: str) -> None:
        self.peer: Final = peer
        self._said: Said | None = None
        self._of_others: Final[dict[bytes, Said]] = {}
        """By the token."""

    def said(self, headers: Headers) -> Said | None:
        """What the very same headers said before."""
        said = self._said
        if said is not None and said.headers == headers:
            return said
        said = self._of_others.get(_token(headers))
        if said is None or said.headers != headers:
            return None
        self._said = said
        return said

    def keep(self, said: Said) -> None:
        self._said = said
        if len(self._of_others) >= _MOST_CALLERS:
            self._of_others.clear()
        self._of_others[said.authorization] = said


class Asking(NamedTuple):
    """One request."""

    kept: Kept
    request_id: str
    address: str
    asked: str
    said: Said

    def words(self, url: bytes) -> Words:
        """In which the same caller asks for the same page."""
        said = self.said
        return url, said.accept, said.accept_encoding, said.server.base, id(self.kept)

    def record(self, trail: Trail) -> Record:
        """What the audit will say of it."""
        record = Record(trail, self.asked, self.address)
        record.request_id, record.caller = self.request_id, self.kept.caller
        return record


def _token(headers: Headers) -> bytes:
    return next((value for name, value in headers if name == b"authorization"), b"")


def _text(told: Mapping[bytes, bytes], name: bytes) -> str | None:
    value = told.get(name)
    return None if value is None else value.decode("latin-1")


def _forwarded(told: Mapping[bytes, bytes]) -> Mapping[str, str]:
    """What proxies say, whether they are believed or not."""
    if _FORWARDED.isdisjoint(told):
        return {}
    return {one.decode(): told[one].decode("latin-1") for one in _FORWARDED & told.keys()}
