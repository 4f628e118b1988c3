"""AuditEvent: the audit as auditors read it. Nothing else is done with it, by anybody.

https://hl7.org/fhir/R4/auditevent.html. A row of the audit is made an AuditEvent when it is read.
A search narrows the rows by time and by one agent, patient or entity where it names them, and
looks through so many of them for a page; where it did not come to the end, the next page goes on.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final
from urllib.parse import urlencode

from fhir_server.access.audit.events import TYPE, event_of
from fhir_server.access.session import AuditEntry, AuditQuery, Session, StoredVersion
from fhir_server.errors import FhirError, Kind
from fhir_server.fhir import json
from fhir_server.fhir.bundles import Entry, bundle
from fhir_server.fhir.references import parse_relative
from fhir_server.interactions import paging
from fhir_server.interactions.exchange import Answer, Request
from fhir_server.interactions.preconditions import is_unmodified
from fhir_server.interactions.read import asked_part
from fhir_server.search import match as meaning
from fhir_server.search.ast import (
    LAST_UPDATED,
    And,
    Chain,
    Contains,
    DateCompares,
    Has,
    InValueSet,
    Node,
    Not,
    Or,
    Prefix,
    ReferenceTo,
    SortKey,
    Subsumes,
)
from fhir_server.search.parameters import BUILT_IN
from fhir_server.search.parse import SearchRequest, parse

_AT_ONCE: Final = 250
"""Rows that are read at one time."""
_MOST: Final = 5_000
"""Rows that are looked through for one page."""
_MOST_COUNTED: Final = 20_000
_NAMING: Final = ("agent", "entity", "patient")
_PATIENTS: Final = "Patient/"
_TIMES: Final = ("date", LAST_UPDATED)
_FROM: Final = (Prefix.EQ, Prefix.GT, Prefix.GE, Prefix.SA, Prefix.AP)
_UNTIL: Final = (Prefix.EQ, Prefix.LT, Prefix.LE, Prefix.EB, Prefix.AP)


async def read(session: Session, request: Request) -> Answer:
    """Also of its one version.

    Raises:
        FhirError: NOT_FOUND; FORBIDDEN for whoever is no auditor.
    """
    number = _number(request.id)
    only = AuditQuery(after=number - 1, before=number + 1)
    found = await session.audited(only, 1)
    if not found or request.version not in ("", "1"):
        raise FhirError(Kind.NOT_FOUND, f"{TYPE}/{request.id} is not known")
    version = _version(found[0])
    session.shows((version,))
    if is_unmodified(request, version):
        return Answer(304, version)
    return Answer(200, version, asked_part(request, version))


def _number(text: str) -> int:
    """Of a row; 0, which none has, for what is no number."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0


def _version(entry: AuditEntry) -> StoredVersion:
    event = event_of(entry)
    return StoredVersion(TYPE, event["id"], 1, entry.link.at, "POST", json.encode(event))


async def search(session: Session, request: Request) -> Answer:
    """
    Raises:
        FhirError: INVALID or UNSUPPORTED; FORBIDDEN for whoever is no auditor.
    """
    token = paging.token(request)
    parameters, place = request.parameters, None
    if token is not None:
        told, place = paging.opened(request.server, session, TYPE, token)
        parameters = [(name, value) for name, value in told]
    asked = _parsed(request, parameters)
    total = await _total(session, asked) if asked.total else None
    found, after = await _Walk(session, asked).page(place, asked.count, _MOST)
    session.shows(found)
    entries = [_entry(request, asked, one) for one in found]
    links = _links(session, request, asked, after)
    return Answer(200, body=bundle("searchset", entries, links=links, total=total))


def _parsed(request: Request, parameters: Sequence[tuple[str, str]]) -> SearchRequest:
    server = request.server
    asked = parse(
        TYPE,
        parameters,
        base=server.base,
        now=server.clock(),
        limits=server.limits,
        lenient=request.preferences.lenient,
        known=BUILT_IN,
    )
    if asked.includes or asked.contained is not None:
        text = "A search of AuditEvent has no includes, and contains nothing; search for the others"
        raise FhirError.at(Kind.UNSUPPORTED, "http._include", text)
    if any(isinstance(node, _ELSEWHERE) for node in _nodes(asked.query.where)):
        text = "A search of AuditEvent has no chains and no value sets; its own parameters it has"
        raise FhirError(Kind.UNSUPPORTED, text)
    _require_by_date(asked.query.sort)
    return asked


_ELSEWHERE: Final = (Chain, Has, Contains, InValueSet, Subsumes)
"""What is not decided by the AuditEvent alone."""


def _nodes(node: Node) -> Iterator[Node]:
    yield node
    match node:
        case And(nodes) | Or(nodes):
            for inner in nodes:
                yield from _nodes(inner)
        case Not(inner):
            yield from _nodes(inner)
        case _:
            return


def _require_by_date(sort: Sequence[SortKey]) -> None:
    if len(sort) > 1 or any(key.code not in _TIMES for key in sort):
        text = "AuditEvents are sorted by date alone: _sort=date, or _sort=-date as by default"
        raise FhirError.at(Kind.UNSUPPORTED, "http._sort", text)


async def _total(session: Session, asked: SearchRequest) -> int:
    walk = _Walk(session, asked)
    found, after = await walk.page(None, _MOST_COUNTED, _MOST_COUNTED)
    if after is not None:
        text = f"More than {_MOST_COUNTED} rows would have to be counted; narrow it with date"
        raise FhirError.at(Kind.TOO_COSTLY, "http._total", text)
    return len(found)


class _Walk:
    """Through the rows that a search is about, the newest first unless it says otherwise."""

    def __init__(self, session: Session, asked: SearchRequest) -> None:
        self._session = session
        self._asked = asked
        sort = asked.query.sort
        self._backwards = not sort or sort[0].descending
        self._rows = replace(narrowed(asked.query.where), backwards=self._backwards)

    async def page(
        self, place: int | None, room: int, most: int
    ) -> tuple[list[StoredVersion], int | None]:
        """At most so many matches among so many rows after the place; where more may follow."""
        found: list[StoredVersion] = []
        looked = 0
        while looked < most and room:
            entries = await self._session.audited(self._after(place), _AT_ONCE)
            for entry, matches in await asyncio.to_thread(self._matching, entries):
                if matches is not None and len(found) == room:
                    return found, place
                place = entry.link.number
                if matches is not None:
                    found.append(matches)
            looked += len(entries)
            if len(entries) < _AT_ONCE:
                return found, None
        return found, place

    def _after(self, place: int | None) -> AuditQuery:
        if place is None:
            return self._rows
        if self._backwards:
            return replace(self._rows, before=place)
        return replace(self._rows, after=place)

    def _matching(
        self, entries: Sequence[AuditEntry]
    ) -> list[tuple[AuditEntry, StoredVersion | None]]:
        where = self._asked.query.where
        return [
            (entry, _version(entry) if meaning.match(where, event_of(entry)) else None)
            for entry in entries
        ]


def narrowed(where: Node) -> AuditQuery:
    """The rows among which all matches are: no more than is said of all of them."""
    asked = AuditQuery()
    for node in where.nodes if isinstance(where, And) else (where,):
        match node:
            case ReferenceTo(code, targets) if code in _NAMING:
                asked = replace(asked, name=_name(code, targets) or asked.name)
            case DateCompares(code, prefix, low, high) if code in _TIMES:
                if prefix in _FROM:
                    asked = replace(asked, low=max(low, asked.low or low))
                if prefix in _UNTIL:
                    asked = replace(asked, high=min(high, asked.high or high))
            case _:
                pass
    return asked


def _name(code: str, targets: Sequence[str]) -> str:
    """The resource of this server that they name, where it is one that rows are found by."""
    local = {f"{one.type}/{one.id}" for one in map(parse_relative, targets) if one is not None}
    name = local.pop() if len(local) == 1 else ""
    return name if code == "agent" or name.startswith(_PATIENTS) else ""


def _entry(request: Request, asked: SearchRequest, version: StoredVersion) -> Entry:
    body = version.body if asked.subset is None else asked.subset.of(TYPE, version.body)
    url = f"{request.server.base}/{TYPE}/{version.id}"
    return Entry(url, body, {"search": {"mode": "match"}})


def _links(
    session: Session, request: Request, asked: SearchRequest, after: int | None
) -> list[tuple[str, str]]:
    query = urlencode(asked.used)
    links = [("self", f"{request.server.base}/{TYPE}" + (f"?{query}" if query else ""))]
    if after is not None:
        state = [asked.used, after]
        links.append(("next", paging.link(request.server, session, TYPE, state)))
    return links
