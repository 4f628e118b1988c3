"""The commits by which a subscription moves: taken, numbered, acknowledged, suspended, ended.

Each begins by reading the record again: a process that was too slow writes nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from fhir_server.access.audit.record import name_of, of_caller, patients_of
from fhir_server.access.facts.kept import follow
from fhir_server.events import inbox
from fhir_server.events.asked import INBOX
from fhir_server.events.notification import Told
from fhir_server.events.record import (
    ACTIVE,
    ERROR,
    OFF,
    TYPE,
    Event,
    Record,
    find,
    forget_events,
    keep,
)
from fhir_server.events.terms import DAY, SECOND, Terms
from fhir_server.fhir import json
from fhir_server.fhir.dates import instant
from fhir_server.storage.audited import MOST_TARGETS, AuditRow
from fhir_server.storage.interface import Draft, Store, Unit

_MOST_SAID: Final = 500
Move = Callable[[Record], Record]


class Lost(Exception):
    """The record is not what it was: its caller wrote it, or another process has it."""


class Ledger:
    """Moves the records of subscriptions, in the name of one process."""

    def __init__(self, store: Store, terms: Terms, me: str) -> None:
        self.store: Final = store
        self._terms: Final = terms
        self.me: Final = me

    async def take(self, record: Record, events: Sequence[Event] = (), at: int = 0) -> Record:
        """Hold the record for one notice, with what was found up to `at` numbered.

        Raises:
            Lost.
        """
        patience = self._terms.patience_of(record.asked.timeout) + self._terms.lease
        until = self._terms.clock() + int(patience * SECOND)
        numbered = record.numbered + len(events)
        cursor = max(at, record.cursor)
        held = replace(record, holder=self.me, until=until, numbered=numbered, cursor=cursor)

        async def work(unit: Unit) -> Record:
            await _require_same(unit, record)
            for event in events:
                await unit.keep(event.memo(held))
            await unit.keep(held.memo())
            return held

        return await self.store.commit(work)

    async def skip(self, record: Record, at: int) -> Record:
        """Nothing up to `at` concerns it."""
        moved = replace(record, cursor=at)

        async def work(unit: Unit) -> Record:
            await _require_same(unit, record)
            await unit.keep(moved.memo())
            return moved

        return await self.store.commit(work)

    async def let_go(self, record: Record) -> Record:
        """Hold it no more, where nothing came of it."""
        return await self._finish(record, Record.released)

    async def taken(self, record: Record) -> Record:
        """The receiver has taken a handshake or heartbeat: it works."""

        def move(fresh: Record) -> Record:
            # A handshake with what the caller wants no more is none.
            begins = fresh.mark == record.mark
            return replace(_working(fresh, self._terms), status=ACTIVE if begins else fresh.status)

        return await self._finish(record, move)

    async def acknowledged(
        self, record: Record, told: Sequence[Told], *, sent: bool = True
    ) -> Record:
        """The receiver has all of these events, or may have none of them.

        An inbox gets them by this very commit.
        """
        acked = told[-1].event.number if told else record.numbered

        def move(fresh: Record) -> Record:
            working = _working(fresh, self._terms) if sent else fresh
            return replace(working, acked=max(fresh.acked, acked))

        async def also(unit: Unit) -> None:
            expires = self._terms.clock() + self._terms.event_days * DAY
            for one in told:
                await unit.keep(one.event.memo(record, expires))
            if record.asked.channel == INBOX:
                await self._post(unit, record, told)
            await self._audit(unit, record, told)

        return await self._finish(record, move, also)

    async def _post(self, unit: Unit, record: Record, told: Sequence[Told]) -> None:
        for one in told:
            if one.shown is not None and not inbox.is_masked(one.shown):
                message = inbox.communication(record, one, self._terms.clock())
                stored = await unit.put(Draft(message), "PUT")
                await follow(unit, stored, message)

    async def _audit(self, unit: Unit, record: Record, told: Sequence[Told]) -> None:
        """Who was told of whom, as of any answer."""
        shown = [one.shown for one in told if one.shown is not None]
        if not shown or record.asked.content == "empty":
            return
        row = AuditRow(
            action="notify",
            targets=tuple(map(name_of, shown[:MOST_TARGETS])),
            patients=tuple(patients_of(shown)),
            description=f"{TYPE}/{record.id}",
            **of_caller(record.caller),
        )
        await unit.audit(row)

    async def failed(self, record: Record, reason: str, *, for_good: bool) -> Record:
        """The receiver has not taken it: again later, or not without being asked to."""
        now = self._terms.clock()

        def move(fresh: Record) -> Record:
            if fresh.mark != record.mark:
                return fresh
            failures, failing = fresh.failures + 1, fresh.failing or now
            tried = replace(fresh, failures=failures, failing=failing, error=reason[:_MOST_SAID])
            if not for_good and now - failing < self._terms.retry_for * SECOND:
                return replace(tried, retry=now + self._terms.pause(failures))
            told = f"{reason}; {failures} attempts since {instant(failing)}. $resume goes on"
            return replace(tried, status=ERROR, error=told[:_MOST_SAID])

        return await self._finish(record, move)

    async def suspended(self, record: Record, reason: str) -> Record:
        """Nothing is sent any more, whoever would take it.

        Raises:
            Lost.
        """

        async def work(unit: Unit) -> Record:
            fresh = await find(unit, record.key)
            if fresh is None or fresh.mark != record.mark or not fresh.at_work:
                raise Lost
            moved = replace(fresh, status=ERROR, error=reason).released()
            await self._keep(unit, fresh, moved)
            return moved

        return await self.store.commit(work)

    async def ended(self, record: Record) -> Record:
        """Its time is over."""

        async def work(unit: Unit) -> Record:
            await _require_same(unit, record)
            off = replace(record, status=OFF).released()
            await forget_events(unit, off)
            await self._keep(unit, record, off)
            return off

        return await self.store.commit(work)

    async def _finish(
        self,
        record: Record,
        move: Move,
        also: Callable[[Unit], object] | None = None,
    ) -> Record:
        async def work(unit: Unit) -> Record:
            fresh = await find(unit, record.key)
            if fresh is None or fresh.holder != self.me or not fresh.at_work:
                raise Lost
            moved = move(fresh).released()
            await self._keep(unit, fresh, moved)
            if also is not None:
                await also(unit)  # type: ignore[misc]
            return moved

        return await self.store.commit(work)

    async def _keep(self, unit: Unit, before: Record, after: Record) -> None:
        """Keep the record, and tell its status in the Subscription."""
        await keep(unit, after)
        if after.status == before.status:
            return
        found = await unit.read(TYPE, after.id)
        if found is None or found.deleted:
            raise Lost
        resource = json.decode_resource(found.body)
        resource["status"] = after.status
        resource.pop("error", None)
        if after.status == ERROR:
            resource["error"] = after.error
        stored = await unit.put(Draft(resource), "PUT")
        row = AuditRow(action="subscription", targets=(name_of(stored),), **of_caller(after.caller))
        await unit.audit(row)


async def _require_same(unit: Unit, record: Record) -> None:
    if await find(unit, record.key) != record:
        raise Lost


def _working(record: Record, terms: Terms) -> Record:
    return replace(record, failures=0, failing=0, retry=0, error="", told=terms.clock())
