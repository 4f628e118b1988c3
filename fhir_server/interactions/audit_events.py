"""AuditEvent: the audit as auditors read it, and what clients add to it.

https://hl7.org/fhir/R4/auditevent.html. A row of the audit is made an AuditEvent when it is read;
one that a client sent is stored as it is, and found among them. Neither is ever changed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final
from urllib.parse import parse_qsl, urlencode

from fhir_server.access.audit.events import TYPE
from fhir_server.access.audit.received import never_changed
from fhir_server.access.session import (
    AuditQuery,
    HistoryEntry,
    HistoryOf,
    Session,
    SessionUnit,
    StoredVersion,
)
from fhir_server.errors import FhirError, Kind
from fhir_server.fhir.bundles import Entry, bundle
from fhir_server.fhir.references import localised
from fhir_server.interactions import audit_pages, paging
from fhir_server.interactions import history as versions
from fhir_server.interactions.audit_pages import Place, number_of, version_of
from fhir_server.interactions.content import written
from fhir_server.interactions.exchange import Answer, Request
from fhir_server.interactions.preconditions import is_unmodified, require_match
from fhir_server.interactions.read import asked_part
from fhir_server.search.ast import (
    And,
    Chain,
    Contains,
    Has,
    IdIn,
    InValueSet,
    Node,
    Not,
    Or,
    Query,
    SortKey,
    Subsumes,
)
from fhir_server.search.parameters import BUILT_IN
from fhir_server.search.parse import SearchRequest, parse, parse_criteria


async def read(session: Session, request: Request) -> Answer:
    """Also of its one version.

    Raises:
        FhirError: NOT_FOUND; FORBIDDEN for whoever is no auditor.
    """
    version = await _one(session, request)
    session.shows((version,))
    if is_unmodified(request, version):
        return Answer(304, version)
    return Answer(200, version, asked_part(request, version))


async def _one(session: Session, request: Request) -> StoredVersion:
    """A row by its number, or what was received by its id."""
    number = number_of(request.id)
    if number:
        rows = await session.audited(AuditQuery(after=number - 1, before=number + 1), 1)
        found = [*map(version_of, rows)]
    else:
        page = await session.received(Query(TYPE, IdIn((request.id,))), 1)
        found = [*page.matches]
    if not found or request.version not in ("", "1"):
        raise FhirError(Kind.NOT_FOUND, f"{TYPE}/{request.id} is not known")
    return found[0]


async def history(session: Session, request: Request) -> Answer:
    """The one version that there is; raises as `read`."""

    async def past(scope: HistoryOf, count: int, before: int | None) -> Sequence[HistoryEntry]:
        version = await _one(session, request)
        high = None if scope.at is None else scope.at[1]
        begun = high is None or version.last_updated < high
        is_asked = begun and version.last_updated >= (scope.since or 0)
        is_first = count > 0 and before is None
        return [HistoryEntry(version, 1, created=True)] if is_asked and is_first else []

    return await versions.through(session, request, past)


async def create(unit: SessionUnit, request: Request) -> Answer:
    """Raises FhirError FORBIDDEN; BUSINESS_RULE for one that calls itself the server's."""
    existing = request.matched
    if existing is not None:
        return Answer(200, existing, existing.body, located=True)
    return await _received(unit, request, "POST")


async def update(unit: SessionUnit, request: Request) -> Answer:
    """A create under an id that the client gives, where that tells nobody what is there.

    Raises:
        FhirError: METHOD_NOT_ALLOWED for any other update; PRECONDITION_FAILED.
    """
    if not unit.is_open:
        raise never_changed(request.id)
    require_match(request, None)
    return await _received(unit, request, "PUT")


async def _received(unit: SessionUnit, request: Request, method: str) -> Answer:
    assert request.resource is not None  # noqa: S101 - prepare saw to it
    resource = localised(request.resource, request.server.base)
    return written(await unit.receive(dict(resource), method), request, created=True)


async def resolve_create(unit: SessionUnit, request: Request) -> Request:
    """With what `If-None-Exist` finds among what the same client has sent.

    Raises:
        FhirError: MULTIPLE_MATCHES; INVALID or UNSUPPORTED for criteria that cannot be asked.
    """
    if request.if_none_exist is None:
        return request
    server, place = request.server, "http.If-None-Exist"
    criteria = parse_qsl(request.if_none_exist.lstrip("?"), keep_blank_values=True)
    where = parse_criteria(
        TYPE,
        criteria,
        base=server.base,
        now=server.clock(),
        limits=server.limits,
        known=BUILT_IN,
    )
    _refuse_elsewhere(where)
    found = await unit.sent(Query(TYPE, where), 2)
    if len(found) > 1:
        text = f"More than one {TYPE} matches the criteria; criteria that find at most one are"
        raise FhirError.at(Kind.MULTIPLE_MATCHES, place, f"{text} expected")
    return replace(request, matched=found[0] if found else None)


async def search(session: Session, request: Request) -> Answer:
    """
    Raises:
        FhirError: INVALID or UNSUPPORTED; FORBIDDEN for whoever is no auditor.
    """
    token = paging.token(request)
    parameters, place = request.parameters, Place()
    if token is not None:
        told, *sealed = paging.opened(request.server, session, TYPE, token)
        parameters, place = [(name, value) for name, value in told], Place(*sealed)
    asked = _parsed(request, parameters)
    total = await audit_pages.total(session, asked.query) if asked.total else None
    found, after = await audit_pages.page(session, asked.query, place, asked.count)
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
    _refuse_elsewhere(asked.query.where)
    _require_by_date(asked.query.sort)
    return asked


_ELSEWHERE: Final = (Chain, Has, Contains, InValueSet, Subsumes)
"""What is not decided by the AuditEvent alone."""


def _refuse_elsewhere(where: Node) -> None:
    if any(isinstance(node, _ELSEWHERE) for node in _nodes(where)):
        text = "A search of AuditEvent has no chains and no value sets; its own parameters it has"
        raise FhirError(Kind.UNSUPPORTED, text)


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
    if len(sort) > 1 or any(key.code not in audit_pages.TIMES for key in sort):
        text = "AuditEvents are sorted by date alone: _sort=date, or _sort=-date as by default"
        raise FhirError.at(Kind.UNSUPPORTED, "http._sort", text)


def _entry(request: Request, asked: SearchRequest, version: StoredVersion) -> Entry:
    body = version.body if asked.subset is None else asked.subset.of(TYPE, version.body)
    url = f"{request.server.base}/{TYPE}/{version.id}"
    return Entry(url, body, {"search": {"mode": "match"}})


def _links(
    session: Session, request: Request, asked: SearchRequest, after: Place
) -> list[tuple[str, str]]:
    query = urlencode(asked.used)
    links = [("self", f"{request.server.base}/{TYPE}" + (f"?{query}" if query else ""))]
    if not after.is_end:
        state = [asked.used, after.row, after.received]
        links.append(("next", paging.link(request.server, session, TYPE, state)))
    return links
