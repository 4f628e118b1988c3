"""search of one resource type.

https://hl7.org/fhir/R4/http.html#search, https://hl7.org/fhir/R4/search.html
"""

from collections.abc import Sequence
from urllib.parse import urlencode

from fhir_server.access.session import Data, Page, StoredVersion
from fhir_server.errors import FhirError, Issue, Kind
from fhir_server.fhir import json
from fhir_server.fhir.bundles import Entry, bundle
from fhir_server.fhir.outcomes import outcome
from fhir_server.interactions import paging
from fhir_server.interactions.exchange import Answer, Request, Server
from fhir_server.interactions.include import included
from fhir_server.search.parse import SearchRequest, parse


async def perform(data: Data, request: Request) -> Answer:
    parameters, after = _page_asked_for(request)
    search = parse(
        request.resource_type,
        parameters,
        base=request.server.base,
        now=request.server.clock(),
        limits=request.server.limits,
        lenient=request.preferences.lenient,
    )
    total = await data.total(search.query) if search.total else None
    page = Page((), None)
    if search.count:
        page = await data.search(search.query, search.count, after)
    extra = await included(data, request.server, search.includes, page.matches)
    entries = [
        *_entries(request.server, page.matches, "match"),
        *_entries(request.server, extra.versions, "include"),
        *_notes([*search.ignored, *extra.notes]),
    ]
    links = _links(request, search, page)
    return Answer(200, body=bundle("searchset", entries, links=links, total=total))


def _page_asked_for(
    request: Request,
) -> tuple[Sequence[tuple[str, str]], tuple[object, ...] | None]:
    """The search's parameters, and where its page begins."""
    sealed = [value for name, value in request.parameters if name == "_page"]
    if not sealed:
        return request.parameters, None
    others = {name for name, _ in request.parameters} - {"_page", "_format", "_pretty"}
    if len(sealed) > 1 or others:
        raise FhirError.at(
            Kind.INVALID, "http._page", "A link to a further page takes no other parameters"
        )
    parameters, after = paging.opened(request.server, request.resource_type, sealed[0])
    return [(name, value) for name, value in parameters], tuple(after)


def _links(request: Request, search: SearchRequest, page: Page) -> list[tuple[str, str]]:
    server, address = request.server, request.resource_type
    query = urlencode(search.used)
    links = [("self", f"{server.base}/{address}" + (f"?{query}" if query else ""))]
    if page.after is not None:
        state = [search.used, page.after]
        links.append(("next", paging.link(server, address, state)))
    return links


def _entries(server: Server, versions: Sequence[StoredVersion], mode: str) -> list[Entry]:
    return [
        Entry(
            f"{server.base}/{version.type}/{version.id}", version.body, {"search": {"mode": mode}}
        )
        for version in versions
    ]


def _notes(issues: Sequence[Issue]) -> list[Entry]:
    if not issues:
        return []
    body = json.encode(outcome(issues, default_code="informational"))
    return [Entry("", body, {"search": {"mode": "outcome"}})]
