"""history of a resource, a type or everything: versions, the newest first, deletions among them.

https://hl7.org/fhir/R4/http.html#history
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from urllib.parse import urlencode

from fhir_server.access.session import Data, HistoryEntry, HistoryOf
from fhir_server.errors import FhirError, Issue, Kind
from fhir_server.fhir.bundles import Entry, bundle
from fhir_server.fhir.dates import instant, interval
from fhir_server.fhir.summary import PARAMETERS as SUBSETTING
from fhir_server.fhir.summary import Subset, asked
from fhir_server.interactions import paging
from fhir_server.interactions.exchange import Answer, Request, Server
from fhir_server.interactions.preconditions import etag

_ONCE = ("_count", "_since", "_at")
_KEPT = (*_ONCE, *SUBSETTING)
"""What links to further pages hold."""
_PARAMETERS = (*_KEPT, "_page", "_format", "_pretty")
_COUNTED_AT_ONCE = 500
_MOST_COUNTED = 10_000


Past = Callable[[HistoryOf, int, int | None], Awaitable[Sequence[HistoryEntry]]]
"""As `Data.history`."""


async def perform(data: Data, request: Request) -> Answer:
    async def past(scope: HistoryOf, count: int, before: int | None) -> Sequence[HistoryEntry]:
        found = await data.history(scope, count, before)
        if not found and scope.id and await data.read(scope.resource_type, scope.id) is None:
            raise FhirError(Kind.NOT_FOUND, f"{scope.resource_type}/{scope.id} is not known")
        return found

    return await through(data, request, past)


async def through(data: Data, request: Request, past: Past) -> Answer:
    """The history that `past` gives."""
    parameters, before = _page_asked_for(data, request)
    scope, count = _scope(request, parameters), _count(request, parameters)
    subset = asked(parameters, request.resource_type)
    found = await past(scope, count + 1, before)
    if subset is not None and subset.counts:
        data.shows(())
        links = _links(data, request, parameters, (), more=False)
        return Answer(200, body=bundle("history", (), links=links, total=await _total(past, scope)))
    shown = found[:count]
    data.shows(entry.stored for entry in shown)
    entries = [_entry(request.server, entry, subset) for entry in shown]
    links = _links(data, request, parameters, shown, more=len(found) > count)
    return Answer(200, body=bundle("history", entries, links=links))


async def _total(past: Past, scope: HistoryOf) -> int:
    """How many versions, counted as they would be shown.

    Raises:
        FhirError: TOO_COSTLY above a bound.
    """
    total, before = 0, None
    while page := await past(scope, _COUNTED_AT_ONCE, before):
        total, before = total + len(page), page[-1].seq
        if total > _MOST_COUNTED:
            text = f"There are more than {_MOST_COUNTED} versions; narrow it with _since or _at"
            raise FhirError.at(Kind.TOO_COSTLY, "http._summary", text)
    return total


def _address(request: Request) -> str:
    parts = (request.resource_type, request.id, "_history")
    return "/".join(part for part in parts if part)


def _page_asked_for(data: Data, request: Request) -> tuple[Sequence[tuple[str, str]], int | None]:
    """The parameters of the whole, and the number below which the page begins."""
    issues = [
        Issue(f"'{name}' is not a parameter of history; {', '.join(_KEPT)} are", f"http.{name}")
        for name, _ in request.parameters
        if name not in _PARAMETERS
    ]
    names = [name for name, _ in request.parameters]
    issues += [
        Issue(f"'{name}' stands twice; it may stand once", f"http.{name}")
        for name in _ONCE
        if names.count(name) > 1
    ]
    if issues:
        raise FhirError.of(Kind.INVALID, issues)
    token = paging.token(request)
    if token is None:
        wanted = [pair for pair in request.parameters if pair[0] in _KEPT]
        return wanted, None
    parameters, before = paging.opened(request.server, data, _address(request), token)
    return [(name, value) for name, value in parameters], before


def _scope(request: Request, parameters: Sequence[tuple[str, str]]) -> HistoryOf:
    named = dict(parameters)
    scope = HistoryOf(request.resource_type, request.id)
    if "_since" in named:
        scope = replace(scope, since=_interval("_since", named["_since"])[0])
    if "_at" in named:
        scope = replace(scope, at=_interval("_at", named["_at"]))
    return scope


def _interval(name: str, text: str) -> tuple[int, int]:
    try:
        # The + of a zone arrives as a space where it was not percent-encoded.
        return interval(text.replace(" ", "+"))
    except ValueError:
        raise FhirError.at(
            Kind.INVALID,
            f"http.{name}",
            f"'{text}' is not a time; YYYY-MM-DDThh:mm:ssZ or a part of it is expected",
        ) from None


def _count(request: Request, parameters: Sequence[tuple[str, str]]) -> int:
    limits = request.server.limits
    text = dict(parameters).get("_count", str(limits.default_count))
    if not (text.isascii() and text.isdigit()) or not 0 < len(text) < 10:
        raise FhirError.at(Kind.INVALID, "http._count", f"'{text}' is not a page size")
    return max(1, min(int(text), limits.max_count))


def _links(
    data: Data,
    request: Request,
    parameters: Sequence[tuple[str, str]],
    shown: Sequence[HistoryEntry],
    *,
    more: bool,
) -> list[tuple[str, str]]:
    server, address = request.server, _address(request)
    query = urlencode(parameters)
    links = [("self", f"{server.base}/{address}" + (f"?{query}" if query else ""))]
    if more:
        links.append(("next", paging.link(server, data, address, [parameters, shown[-1].seq])))
    return links


def _entry(server: Server, entry: HistoryEntry, subset: Subset | None) -> Entry:
    """https://hl7.org/fhir/R4/bundle.html#history"""
    stored = entry.stored
    address = f"{stored.type}/{stored.id}"
    url = stored.type if stored.method == "POST" else address
    status = "204" if stored.deleted else "201" if entry.created else "200"
    return Entry(
        f"{server.base}/{address}",
        stored.body if subset is None else subset.of(stored.type, stored.body),
        {
            "request": {"method": stored.method, "url": url},
            "response": {
                "status": status,
                "etag": etag(stored),
                "lastModified": instant(stored.last_updated),
            },
        },
    )
