"""Who asks in the short way (`direct`), and what is the same each time that they do."""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from fhir_server.access.audit.record import Record, teller
from fhir_server.access.audit.trail import Trail
from fhir_server.access.caller import Caller
from fhir_server.access.session import Session
from fhir_server.http.middleware import plain_id
from fhir_server.interactions.exchange import Server
from fhir_server.interactions.permission import may

Told = Mapping[bytes, bytes]
"""Headers by their names in small letters."""
Words = tuple[bytes, bytes | None, bytes | None, str, int]
"""Address and query, `Accept` and `Accept-Encoding` as they came, the server's own address, and
the number of the object that is kept of the caller."""
OpenSession = Callable[[Caller], Session]
FORWARDED: Final = frozenset(
    {b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"}
)


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


class Asking(NamedTuple):
    """One request."""

    kept: Kept
    request_id: str
    address: str
    asked: str
    server: Server

    def words(self, url: bytes, told: Told) -> Words:
        """In which the same caller asks for the same page."""
        taken = told.get(b"accept"), told.get(b"accept-encoding")
        return url, *taken, self.server.base, id(self.kept)

    def record(self, trail: Trail) -> Record:
        """What the audit will say of it."""
        record = Record(trail, self.asked, self.address)
        record.request_id, record.caller = self.request_id, self.kept.caller
        return record


def text_of(told: Told, name: bytes) -> str | None:
    value = told.get(name)
    return None if value is None else value.decode("latin-1")


def forwarded(told: Told) -> Mapping[str, str]:
    """What proxies say, whether they are believed or not."""
    if FORWARDED.isdisjoint(told):
        return {}
    return {one.decode(): told[one].decode("latin-1") for one in FORWARDED & told.keys()}


def id_in(told: Told, name: bytes) -> str:
    value = told.get(name)
    return "" if value is None else plain_id(value.decode("latin-1"))
