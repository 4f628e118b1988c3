"""One subscription at work in one process: what concerns it is numbered, sent, acknowledged.

An event has its number before it is sent and is acknowledged after, each in a commit. So it comes
at least once and in its order, whichever process is killed; another goes on once the hold has run
out. While nothing concerns a subscription, nothing is written.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final

from fhir_server.access.caller import Caller, Stands
from fhir_server.access.session import Session
from fhir_server.errors import FhirError
from fhir_server.events.asked import INBOX, WEBSOCKET
from fhir_server.events.feed import Change, Feed
from fhir_server.events.ledger import Ledger, Lost
from fhir_server.events.notification import HANDSHAKE, HEARTBEAT, NOTIFICATION, Told
from fhir_server.events.record import REQUESTED, Event, Record, events, find
from fhir_server.events.sending import Hook, Socket, Undelivered
from fhir_server.events.sockets import ELSEWHERE, ENDED, EXPIRED, Sockets
from fhir_server.events.terms import SECOND, OpenSession, Terms
from fhir_server.events.watching import Watch, seen

_log: Final = logging.getLogger(__name__)
_PAUSE: Final = 1.0
"""Seconds before a turn is tried again that the store refused."""
_PAGES: Final = 5
"""Of the outbox, that one turn looks through."""
_WITHDRAWN: Final = (
    "The client that wrote the subscription may not do any more what it might: it is removed, "
    "disabled or registered otherwise; or its token, of an issuer elsewhere, is revoked or expired "
    "long ago. Once that is put right, $resume goes on"
)
_FAR: Final = 1000
"""Changes that are looked at once more after a restart, at the most."""


class Ended(Exception):
    """The subscription is not at work any more."""


class Withdrawn(Exception):
    """Its writer may do nothing any more."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What the subscriptions of one process share."""

    terms: Terms
    feed: Feed
    ledger: Ledger
    open_session: OpenSession
    sockets: Sockets
    hook: Hook
    socket: Socket
    slots: asyncio.Semaphore
    """A notice is sent in one."""
    stands: Stands
    """What is left of a subscription's writer by now."""


class Worker:
    """Works for one subscription."""

    def __init__(self, tools: Tools, key: str, mark: str) -> None:
        self._tools = tools
        self._terms = tools.terms
        self._key: Final = key
        self.mark = mark
        self._record: Record | None = None
        self._loaded = 0
        self._watch: Watch | None = None
        self._at = 0
        """Changes up to this number were looked at."""
        self.woken: Final = asyncio.Event()

    def reload(self, mark: str) -> None:
        """Its caller wrote it."""
        self.mark = mark
        self._record = None
        self.woken.set()

    async def run(self) -> None:
        while True:
            self.woken.clear()
            try:
                pause = await self.turn()
            except Ended:
                return
            except Lost:
                self._record, pause = None, 0.0
            except FhirError as error:
                _log.warning("A subscription waits for the store: %s", error)
                pause = _PAUSE
            except Exception:
                _log.exception("A subscription could not be worked at")
                self._record, pause = None, _PAUSE
            await self._wait(pause)

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self.woken.wait()
        except TimeoutError:
            return

    async def release(self) -> None:
        """Let another process go on at once, where this one was sending."""
        record = self._record
        if record is not None and record.holder == self._tools.ledger.me:
            try:
                await self._tools.ledger.let_go(record)
            except (Lost, FhirError):
                return

    async def turn(self) -> float:
        """Do what is to be done; the seconds until there may be more.

        Raises:
            Ended, Lost, FhirError.
        """
        record = await self._current()
        try:
            return await self._done(record)
        except Withdrawn:
            await self._tools.ledger.suspended(record, _WITHDRAWN)
            raise Ended from None

    async def _done(self, record: Record) -> float:
        wait = await self._wait_of(record)
        if wait > 0:
            return min(wait, self._terms.lease)
        if record.status == REQUESTED:
            return await self._sending(record, self._shake_hands)
        if record.pending:
            return await self._sending(record, self._deliver)
        if await self._look(record):
            return 0.0
        return await self._beat(record)

    async def _current(self) -> Record:
        """The record, read anew now and then: another process may have been killed with it."""
        now = self._terms.clock()
        known = self._record
        is_old = now - self._loaded > self._terms.lease * SECOND
        if known is None or is_old or known.asked.channel == WEBSOCKET:
            found = await find(self._tools.feed.store, self._key)
            if found is None:
                raise Ended
            if known is None or found.asked != known.asked or self._watch is None:
                self._watch = Watch(found.asked, self._terms, self._tools.feed.store)
            if known is None or found.cursor != known.cursor:
                self._at = found.cursor
            self._record, self._loaded = found, now
        assert self._record is not None  # noqa: S101 - it was read
        if not self._record.at_work:
            raise Ended
        return self._record

    async def _wait_of(self, record: Record) -> float:
        """Seconds for which there is nothing to do here.

        Raises:
            Ended: also where its time is over, which is written down.
        """
        now = self._terms.clock()
        if record.end <= now:
            await self._tools.ledger.ended(record)
            raise Ended
        if record.asked.channel == WEBSOCKET and not await self._is_bound(record):
            return self._terms.lease
        is_held = record.until > now and record.holder not in ("", self._tools.ledger.me)
        until = max(record.retry, record.until if is_held else 0)
        if is_held:
            self._record = None  # what comes of it is another's to say
        return max(0.0, (until - now) / SECOND)

    async def _is_bound(self, record: Record) -> bool:
        """Whether its websocket is here; where it was bound elsewhere since, it is closed here."""
        for by in self._tools.sockets.tokens(record.key):
            if 0 < by.expires * SECOND <= self._terms.clock():
                await self._tools.sockets.drop(record.key, EXPIRED, by)
            elif await self._tools.stands(replace(record.caller, token=by.token)) is None:
                await self._tools.sockets.drop(record.key, ENDED, by)
                await self._standing(record)
        here = self._tools.sockets.has(record.key)
        if here and record.bound != self._tools.ledger.me:
            await self._tools.sockets.drop(record.key, ELSEWHERE)
            return False
        return here

    async def _look(self, record: Record) -> bool:
        """Number what concerns it; whether there may be more to do at once."""
        found, at = await self._found(record)
        # Where a commit fails, the same is looked at again.
        if found:
            self._record = await self._tools.ledger.take(record, found, at)
        elif at - record.cursor >= _FAR:
            self._record = await self._tools.ledger.skip(record, at)
        self._at = at
        return bool(found) or self._record is not record

    async def _found(self, record: Record) -> tuple[list[Event], int]:
        """The next events, no more than a notice holds, and how far that is."""
        session: Session | None = None
        found: list[Event] = []
        at = self._at
        for _ in range(_PAGES):
            page = await self._tools.feed.after(at)
            if page and session is None:
                session = await self._session(record)
            for change in page:
                assert session is not None  # noqa: S101 - it is made for the first page
                if await self._concerns(session, change):
                    found.append(_event(change, record.numbered + len(found) + 1))
                at = change.seq
                if len(found) == record.asked.at_once:
                    return found, at
            if not page:
                break
        return found, at

    async def _concerns(self, session: Session, change: Change) -> bool:
        assert self._watch is not None  # noqa: S101 - `_current` made it
        return await self._watch.concerns(session, change)

    async def _session(self, record: Record) -> Session:
        """Of its writer, with what they may do by now.

        Raises:
            Withdrawn.
        """
        return self._tools.open_session(await self._standing(record))

    async def _standing(self, record: Record) -> Caller:
        caller = await self._tools.stands(record.caller)
        if caller is None:
            raise Withdrawn
        return caller

    async def _sending(self, record: Record, send: Callable[[Record], Awaitable[Record]]) -> float:
        """In a slot, with the record held; whoever fails waits."""
        ledger = self._tools.ledger
        await self._standing(record)
        async with self._tools.slots:
            if record.holder != ledger.me or record.until <= self._terms.clock():
                record = self._record = await ledger.take(record)
            try:
                self._record = await send(record)
            except Undelivered as error:
                if record.asked.channel == WEBSOCKET:  # it comes with the next one
                    self._record = await ledger.let_go(record)
                else:
                    told, final = str(error), error.for_good
                    self._record = await ledger.failed(record, told, for_good=final)
        return 0.0

    async def _shake_hands(self, record: Record) -> Record:
        await self._send(record, HANDSHAKE, [])
        return await self._tools.ledger.taken(record)

    async def _deliver(self, record: Record) -> Record:
        """What it holds is decided now, when it goes."""
        asked = record.asked
        session = await self._session(record)
        waiting = await events(self._tools.feed.store, record, record.acked, asked.at_once)
        told = [Told(event, await seen(session, event)) for event in waiting]
        is_shown = any(one.shown is not None for one in told)
        if is_shown and asked.channel != INBOX:
            await self._send(record, NOTIFICATION, told)
        return await self._tools.ledger.acknowledged(record, told, sent=is_shown)

    async def _beat(self, record: Record) -> float:
        """A heartbeat, where one is due; the seconds until one may be."""
        if not record.asked.heartbeat:
            return self._terms.lease
        due = record.told + record.asked.heartbeat * SECOND
        now = self._terms.clock()
        if due > now:
            return min((due - now) / SECOND, self._terms.lease)
        return await self._sending(record, self._say_it_lives)

    async def _say_it_lives(self, record: Record) -> Record:
        await self._send(record, HEARTBEAT, [])
        return await self._tools.ledger.taken(record)

    async def _send(self, record: Record, kind: str, told: list[Told]) -> None:
        channel = self._tools.socket if record.asked.channel == WEBSOCKET else self._tools.hook
        await channel.send(record, kind, told)


def _event(change: Change, number: int) -> Event:
    stored = change.stored
    name = (stored.type, stored.id, stored.version)
    return Event(number, stored.last_updated, *name, stored.deleted)
