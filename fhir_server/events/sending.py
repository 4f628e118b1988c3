"""The ways that a notice goes: a request to a rest-hook, or a text over a bound websocket.

Whoever does not take it in time, or refuses, is told of by `Undelivered`, with a reason that the
subscription's owner may read: no secrets, and nothing of what was sent.
"""

from collections.abc import Mapping
from typing import Final

from fhir_server.errors import FhirError
from fhir_server.events.asked import JSON_TYPES, XML_TYPES, Asked
from fhir_server.events.notification import NOTIFICATION, Told, as_sent, notice
from fhir_server.events.record import Record
from fhir_server.events.sockets import Sockets
from fhir_server.events.terms import Terms
from fhir_server.outgoing import Question, Unreachable


class Undelivered(Exception):
    """The receiver did not take it.

    Args:
        for_good: there is no point in trying again.
    """

    def __init__(self, reason: str, *, for_good: bool = False) -> None:
        super().__init__(reason)
        self.for_good: Final = for_good


class Hook:
    """Sends to the endpoint of a rest-hook."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms

    async def send(self, record: Record, kind: str, told: list[Told]) -> None:
        """Raises Undelivered."""
        asked = record.asked
        if not asked.is_plain:
            now = self._terms.clock()
            content = as_sent(record, notice(self._terms.base, record, kind, told, now))
            await self._ask(record, "POST", asked.endpoint, content)
        elif asked.payload and kind == NOTIFICATION:
            await self._send_plainly(record, told)
        else:
            await self._ask(record, "POST", asked.endpoint)

    async def _send_plainly(self, record: Record, told: list[Told]) -> None:
        """As an update at the receiver: https://hl7.org/fhir/R4/subscription.html#2.46.7.1"""
        for one in told:
            if one.shown is not None:
                address = f"{record.asked.endpoint.rstrip('/')}/{one.event.focus}"
                await self._ask(record, "PUT", address, as_sent(record, one.shown.body))

    async def _ask(self, record: Record, method: str, url: str, content: bytes = b"") -> None:
        seconds = self._terms.patience_of(record.asked.timeout)
        headers = _headers(record.asked, content)
        question = Question(method, url, headers, content, seconds=seconds)
        try:
            async with self._terms.endpoints.asking(question) as reply:
                status = reply.status
        except FhirError as error:  # the settings name it no more
            raise Undelivered("The endpoint is not allowed any more") from error
        except Unreachable as error:
            raise Undelivered(f"The endpoint could not be reached: {error}") from error
        if not 200 <= status < 300:
            raise Undelivered(f"The endpoint answered {status}", for_good=status == 410)


def _headers(asked: Asked, content: bytes) -> Mapping[str, str]:
    """Several of one name are one, as RFC 9110 section 5.3 joins them."""
    found: dict[str, str] = {}
    for text in asked.headers:
        name, _, value = text.partition(":")
        before = found.get(name)
        found[name] = value.strip() if before is None else f"{before}, {value.strip()}"
    kind = XML_TYPES[0] if asked.xml else JSON_TYPES[0]
    return {**found, **({"content-type": kind} if content else {})}


class Socket:
    """Sends over the websockets that are bound in this process."""

    def __init__(self, terms: Terms, sockets: Sockets) -> None:
        self._terms = terms
        self._sockets = sockets

    async def send(self, record: Record, kind: str, told: list[Told]) -> None:
        """Raises Undelivered."""
        if record.asked.is_plain:
            # https://hl7.org/fhir/R4/subscription.html#websockets: that there is something.
            texts = [f"ping {record.id}"] if kind == NOTIFICATION else []
        else:
            now = self._terms.clock()
            made = notice(self._terms.base, record, kind, told, now)
            texts = [as_sent(record, made).decode()]
        seconds = self._terms.patience_of(record.asked.timeout)
        for text in texts:
            if not await self._sockets.send(record.key, text, seconds):
                raise Undelivered("No websocket took it")
