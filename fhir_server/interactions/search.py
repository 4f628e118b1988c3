"""search of one resource type, of all, and within a compartment.

https://hl7.org/fhir/R4/http.html#search, https://hl7.org/fhir/R4/search.html
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, TypedDict

from fhir_server.access.session import Data, Page, Position, StoredVersion
from fhir_server.errors import FhirError, Issue, Kind
from fhir_server.fhir import json
from fhir_server.fhir.bundles import AllFound, Entry, Found, Rendered, bundle
from fhir_server.fhir.compartments import memberships
from fhir_server.fhir.definitions import compartments, resource_types
from fhir_server.fhir.json import Resource
from fhir_server.fhir.outcomes import outcome
from fhir_server.fhir.queries import query_string
from fhir_server.fhir.summary import Subset
from fhir_server.interactions import paging
from fhir_server.interactions.contained import alone
from fhir_server.interactions.exchange import Answer, Request, Server
from fhir_server.interactions.include import Included, Place, included
from fhir_server.search.again import Read
from fhir_server.search.ast import ReferenceTo
from fhir_server.search.chains import forms
from fhir_server.search.limits import Limits
from fhir_server.search.parameters import ParameterSet
from fhir_server.search.parse import SearchRequest, parse_several

_read: Final = Read()


class _Begin(NamedTuple):
    """Where a page begins, as the link to it holds it."""

    after: Position | None = None
    """The end of the matches before."""
    until: Position | None = None
    """The end of the matches, where their page is over and more comes `beside` them."""
    beside: Place | None = None


async def perform(data: Data, request: Request) -> Answer:
    parameters, begin = _page_asked_for(data, request)
    search = _read.parse(request.resource_type, parameters, **await _reading(data, request))
    return await _answer(data, request, search, begin)


async def perform_on_all(data: Data, request: Request) -> Answer:
    """https://hl7.org/fhir/R4/http.html#vsearch"""
    parameters, begin = _page_asked_for(data, request)
    search = parse_several(resource_types(), parameters, **await _reading(data, request))
    return await _answer(data, request, search, begin)


async def perform_in_compartment(data: Data, request: Request) -> Answer:
    """https://hl7.org/fhir/R4/http.html#vsearch

    Raises:
        FhirError: NOT_FOUND where R4 has no such compartment, or no such type in it.
    """
    members = _members(request)
    parameters, begin = _page_asked_for(data, request)
    if request.member != "*" and any(name == "_type" for name, _ in parameters):
        raise FhirError.at(
            Kind.INVALID,
            "http._type",
            "'_type' has a meaning only where several types are searched",
        )
    within = ReferenceTo(
        f"{{{request.resource_type}}}",
        tuple(form + request.id for form in forms(request.resource_type, request.server.base)),
    )
    search = parse_several(members, parameters, **await _reading(data, request), within=within)
    return await _answer(data, request, search, begin)


def _members(request: Request) -> tuple[str, ...]:
    """The types that are searched in the compartment."""
    compartment = request.resource_type
    if compartment not in compartments():
        known = ", ".join(compartments())
        raise FhirError(Kind.NOT_FOUND, f"{compartment} is no compartment of R4; {known} are")
    members = tuple(
        name
        for name in resource_types()
        if any(place == compartment for place, _ in memberships(name))
    )
    if request.member == "*":
        return members
    if request.member not in members:
        raise FhirError(
            Kind.NOT_FOUND, f"No {request.member} is ever in the compartment of a {compartment}"
        )
    return (request.member,)


class _Reading(TypedDict):
    base: str
    now: int
    limits: Limits
    lenient: bool
    known: ParameterSet


async def _reading(data: Data, request: Request) -> _Reading:
    server = request.server
    return _Reading(
        base=server.base,
        now=server.clock(),
        limits=server.limits,
        lenient=request.preferences.lenient,
        known=await data.parameters(),
    )


def _address(request: Request) -> str:
    """Where the search stands, relative to the base."""
    parts = (request.resource_type, request.id, request.member)
    return "/".join(part for part in parts if part)


async def _answer(data: Data, request: Request, search: SearchRequest, begin: _Begin) -> Answer:
    total = await data.total(search.asked) if search.total else None
    page = await _matches(data, request, search, begin)
    matches = page.matches if begin.beside is None else ()
    extra = await included(data, request.server, search, page.matches, begin.beside)
    data.shows([*matches, *extra.versions])
    entries: list[Rendered] = [
        *await _match_entries(data, request.server, search, matches),
        *_entries(request.server, extra.versions, "include", search.subset),
        *_notes([*search.ignored, *extra.notes]),
    ]
    links = _links(data, request, search, _next(begin, page, extra))
    return Answer(200, body=bundle("searchset", entries, links=links, total=total))


async def _matches(data: Data, request: Request, search: SearchRequest, begin: _Begin) -> Page:
    """The matches of a page, or again those that stood on it, where more comes beside them."""
    if not search.count:
        return Page((), None)
    if begin.beside is None:
        return await data.search(search.asked, search.count, begin.after)
    # What was written meanwhile may have come among them, and must not take their place.
    most = search.count + request.server.limits.max_count
    found = await data.search(search.asked, most, begin.after, begin.until)
    return Page(found.matches, begin.until)


def _next(begin: _Begin, page: Page, extra: Included) -> _Begin | None:
    """Where the next page begins: first with what else comes beside these matches."""
    if extra.further is not None:
        return _Begin(begin.after, page.after, extra.further)
    return None if page.after is None else _Begin(page.after)


def _page_asked_for(data: Data, request: Request) -> tuple[Sequence[tuple[str, str]], _Begin]:
    """The search's parameters, and where its page begins."""
    token = paging.token(request)
    if token is None:
        return request.parameters, _Begin()
    parameters, begin = paging.opened(request.server, data, _address(request), token)
    return [(name, value) for name, value in parameters], _Begin(*map(_place, begin))


def _place(sealed: list[Any] | None) -> tuple[Any, ...] | None:
    """As it was before it went through JSON."""
    return None if sealed is None else tuple(sealed)


def _links(
    data: Data, request: Request, search: SearchRequest, begin: _Begin | None
) -> list[tuple[str, str]]:
    server, address = request.server, _address(request)
    query = query_string(search.used)
    links = [("self", server.base + (address and f"/{address}") + (f"?{query}" if query else ""))]
    if begin is not None:
        links.append(("next", paging.link(server, data, address, [search.used, begin])))
    return links


def _entries(
    server: Server, versions: Sequence[StoredVersion], mode: str, subset: Subset | None
) -> list[Rendered]:
    if subset is not None:
        included = mode == "include"
        versions = [
            one._replace(body=subset.of(one.type, one.body, included=included)) for one in versions
        ]
    return [AllFound(server.base, versions, mode)] if versions else []


async def _match_entries(
    data: Data, server: Server, search: SearchRequest, matches: Sequence[StoredVersion]
) -> Sequence[Rendered]:
    """The matches, or in the place of containers the contained resources that were looked for."""
    if search.contained is None or not search.contained.alone:
        return _entries(server, matches, "match", search.subset)
    own = await alone(data, search, matches)
    entries: list[Rendered] = []
    for version in matches:
        if (version.type, version.id) in own.by_themselves:
            entries += _entries(server, [version], "match", search.subset)
        entries += [
            Found(
                f"{server.base}/{version.type}/{version.id}#{inner['id']}",
                _shown(inner, search.subset),
                "match",
            )
            for inner in own.within.get((version.type, version.id), ())
        ]
    return entries


def _shown(resource: Resource, subset: Subset | None) -> bytes:
    body = json.encode(resource)
    return body if subset is None else subset.of(resource["resourceType"], body)


def _notes(issues: Sequence[Issue]) -> list[Entry]:
    if not issues:
        return []
    body = json.encode(outcome(issues, default_code="informational"))
    return [Entry("", body, {"search": {"mode": "outcome"}})]
