"""Pages of the audit: the server's rows, and the AuditEvents of clients among them.

Both come in the order of one time, the newest first unless a search says otherwise, and each has
its own place where the next page goes on. The rows are narrowed by number, time, and one name, and
so many of them are looked through for a page; AuditEvents that were received are found by the index
of the store. What is received is not shown before the rows that come before it have been looked at.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any, Final

from fhir_server.access.audit.events import TYPE, event_of
from fhir_server.access.session import AuditEntry, AuditQuery, Position, Session, StoredVersion
from fhir_server.errors import FhirError, Kind
from fhir_server.fhir import json
from fhir_server.fhir.dates import interval
from fhir_server.fhir.references import parse_relative
from fhir_server.search import match as meaning
from fhir_server.search.ast import (
    LAST_UPDATED,
    And,
    DateCompares,
    IdIn,
    Node,
    Prefix,
    Query,
    ReferenceTo,
    SortKey,
    TokenIs,
    UriIs,
)

_AT_ONCE: Final = 250
"""Rows that are read at one time."""
MOST: Final = 5_000
"""Rows that are looked through for one page."""
MOST_COUNTED: Final = 20_000
_NAMING: Final = ("agent", "entity", "patient")
_PATIENTS: Final = "Patient/"
TIMES: Final = ("date", LAST_UPDATED)
_FROM: Final = (Prefix.EQ, Prefix.GT, Prefix.GE, Prefix.SA, Prefix.AP)
_UNTIL: Final = (Prefix.EQ, Prefix.LT, Prefix.LE, Prefix.EB, Prefix.AP)
_NEWEST_FIRST: Final = SortKey(LAST_UPDATED, "date", descending=True)
_NO_ROW: Final = AuditQuery(before=0)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page begins; JSON values."""

    row: int | None = None
    """The number of the last row that was looked at; None for none, 0 where all were."""
    received: Sequence[Any] | None = None
    """The position of the last AuditEvent that was received; None for none, () where all were."""

    @property
    def is_end(self) -> bool:
        return self.row == 0 and self.received is not None and not self.received


def version_of(entry: AuditEntry) -> StoredVersion:
    """The AuditEvent that a row is read as."""
    event = event_of(entry)
    return StoredVersion(TYPE, event["id"], 1, entry.link.at, "POST", json.encode(event))


async def page(
    session: Session, query: Query, place: Place, count: int
) -> tuple[list[StoredVersion], Place]:
    """At most so many AuditEvents after the place, and where the next page begins."""
    if not count:
        return [], Place(0, ())
    sort = query.sort or (_NEWEST_FIRST,)
    walk = _Walk(session, replace(query, sort=sort))
    # One more than are shown: so it is known whether there is a next page.
    rows, reached = await walk.some(place.row, count + 1, MOST)
    received = await _Received.some(session, replace(query, sort=sort), place.received, count)
    return await _merged(sort[0], rows, reached, received, place, count)


async def total(session: Session, query: Query) -> int:
    """How many there are.

    Raises:
        FhirError: TOO_COSTLY where too many rows would have to be looked through.
    """
    walk = _Walk(session, replace(query, sort=(_NEWEST_FIRST,)))
    rows, reached = await walk.some(None, MOST_COUNTED + 1, MOST_COUNTED)
    if reached.row:
        text = f"More than {MOST_COUNTED} rows would have to be counted; narrow it with date"
        raise FhirError.at(Kind.TOO_COSTLY, "http._total", text)
    return len(rows) + await session.count_received(query)


@dataclass(frozen=True, slots=True)
class _Reached:
    """How far the rows were looked at: up to that one (0: to the end), made at that time."""

    row: int
    at: int = 0


async def _merged(
    key: SortKey,
    rows: Sequence[StoredVersion],
    reached: _Reached,
    received: "_Received",
    place: Place,
    count: int,
) -> tuple[list[StoredVersion], Place]:
    """The first of both by their time, as far as both are known."""
    sign = -1 if key.descending else 1
    timed = [(float(sign * one.last_updated), 0, one) for one in rows]
    for one in received.found:
        moment = _moment(key, one)
        if not reached.row or moment <= sign * reached.at:
            timed.append((moment, 1, one))
    timed.sort(key=lambda one: one[:2])
    shown = timed[:count]
    taken = [one for _, is_received, one in shown if not is_received]
    row: int | None = reached.row
    if len(taken) < len(rows):
        row = int(taken[-1].id) if taken else place.row
    return [one for *_, one in shown], Place(row, await received.after(len(shown) - len(taken)))


def _moment(key: SortKey, version: StoredVersion) -> float:
    """What it is sorted by, of a time that is not known the last in either direction."""
    sign = -1 if key.descending else 1
    if key.code == LAST_UPDATED:
        return sign * version.last_updated
    recorded = json.decode_own(version.body).get("recorded")
    if recorded is None:  # R4 takes an extension in its place
        return inf
    within = interval(recorded)
    return sign * (within.high - 1 if key.descending else within.low)


@dataclass(frozen=True, slots=True)
class _Received:
    """AuditEvents of clients after a place, in their order."""

    session: Session
    query: Query
    place: Sequence[Any] | None
    found: Sequence[StoredVersion]
    next: Position | None

    @staticmethod
    async def some(
        session: Session, query: Query, place: Sequence[Any] | None, count: int
    ) -> "_Received":
        if place is not None and not place:
            return _Received(session, query, place, (), None)
        found = await session.received(query, count, tuple(place) if place else None)
        return _Received(session, query, place, found.matches, found.after)

    async def after(self, taken: int) -> Sequence[Any] | None:
        """The place after so many of them."""
        if taken == len(self.found):
            return self.next or ()
        if not taken:
            return self.place
        begin = tuple(self.place) if self.place else None
        return (await self.session.received(self.query, taken, begin)).after


class _Walk:
    """Through the rows that a search is about."""

    def __init__(self, session: Session, query: Query) -> None:
        self._session = session
        self._where = query.where
        self._backwards = query.sort[0].descending
        self._rows = replace(narrowed(query.where), backwards=self._backwards)

    async def some(
        self, place: int | None, room: int, most: int
    ) -> tuple[list[StoredVersion], _Reached]:
        """At most so many matches among so many rows after the place."""
        found: list[StoredVersion] = []
        reached = _Reached(place or 0)
        if place == 0 or self._rows == replace(_NO_ROW, backwards=self._backwards):
            return found, _Reached(0)
        looked = 0
        while looked < most:
            entries = await self._session.audited(self._after(reached.row), _AT_ONCE)
            for entry, matches in await asyncio.to_thread(self._matching, entries):
                reached = _Reached(entry.link.number, entry.link.at)
                found += [] if matches is None else [matches]
                if len(found) == room:
                    return found, reached
            looked += len(entries)
            if len(entries) < _AT_ONCE:
                return found, _Reached(0)
        return found, reached

    def _after(self, number: int) -> AuditQuery:
        if not number:
            return self._rows
        if self._backwards:
            return replace(self._rows, before=min(number, self._rows.before or number))
        return replace(self._rows, after=max(number, self._rows.after))

    def _matching(
        self, entries: Sequence[AuditEntry]
    ) -> list[tuple[AuditEntry, StoredVersion | None]]:
        return [
            (entry, version_of(entry) if meaning.match(self._where, event_of(entry)) else None)
            for entry in entries
        ]


def narrowed(where: Node) -> AuditQuery:
    """The rows among which all matches are: no more than is said of all of them."""
    asked = AuditQuery()
    for node in where.nodes if isinstance(where, And) else (where,):
        match node:
            case ReferenceTo(code, targets) if code in _NAMING:
                asked = replace(asked, name=_name(code, targets) or asked.name)
            case DateCompares(code, prefix, low, high) if code in TIMES:
                if prefix in _FROM:
                    asked = replace(asked, low=max(low, asked.low or low))
                if prefix in _UNTIL:
                    asked = replace(asked, high=min(high, asked.high or high))
            case IdIn(ids):
                asked = _numbered(asked, ids)
            case TokenIs("_tag", _, _) | UriIs("_source", _):
                return _NO_ROW  # which only what was received has
            case _:
                pass
    return asked


def _numbered(asked: AuditQuery, ids: Sequence[str]) -> AuditQuery:
    numbers = [number for number in map(number_of, ids) if number]
    if not numbers:
        return _NO_ROW
    return replace(asked, after=min(numbers) - 1, before=max(numbers) + 1)


def number_of(text: str) -> int:
    """Of a row; 0, which none has, for what is no number."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0


def _name(code: str, targets: Sequence[str]) -> str:
    """The resource of this server that they name, where it is one that rows are found by."""
    local = {f"{one.type}/{one.id}" for one in map(parse_relative, targets) if one is not None}
    name = local.pop() if len(local) == 1 else ""
    return name if code == "agent" or name.startswith(_PATIENTS) else ""
