"""history of one resource: its versions, the newest first, deletions among them.

https://hl7.org/fhir/R4/http.html#history
"""

from itertools import zip_longest

from fhir_server.access.session import Data, StoredVersion
from fhir_server.errors import FhirError, Kind
from fhir_server.fhir.bundles import Entry, bundle
from fhir_server.fhir.dates import instant
from fhir_server.interactions import paging
from fhir_server.interactions.exchange import Answer, Request, Server
from fhir_server.interactions.preconditions import etag

_PARAMETERS = ("_count", "_page", "_format", "_pretty")


async def perform(data: Data, request: Request) -> Answer:
    address = f"{request.resource_type}/{request.id}/_history"
    count, before = _page_asked_for(request, address)
    found = await data.history(request.resource_type, request.id, count + 1, before)
    if not found and before is None:
        raise FhirError(Kind.NOT_FOUND, f"{request.resource_type}/{request.id} is not known")
    shown = found[:count]
    links = [("self", f"{request.server.base}/{address}?_count={count}")]
    if shown and len(found) > count:
        state = [count, shown[-1].version]
        links.append(("next", paging.link(request.server, address, state)))
    # The oldest on the page may have its predecessor beyond it, which was read for `next`.
    entries = [
        _entry(request.server, version, before_it)
        for version, before_it in zip_longest(shown, found[1 : count + 1])
    ]
    return Answer(200, body=bundle("history", entries, links=links))


def _page_asked_for(request: Request, address: str) -> tuple[int, int | None]:
    """How many versions, and the version before which the page begins."""
    named = dict(request.parameters)
    for name in named:
        if name not in _PARAMETERS:
            raise FhirError.at(
                Kind.INVALID,
                f"http.{name}",
                f"'{name}' is not a parameter of an instance's history; _count is",
            )
    if "_page" in named:
        count, before = paging.opened(request.server, address, named["_page"])
        return count, before
    limits = request.server.limits
    text = named.get("_count", str(limits.default_count))
    if not (text.isascii() and text.isdigit()) or not 0 < len(text) < 10:
        raise FhirError.at(Kind.INVALID, "http._count", f"'{text}' is not a page size")
    return max(1, min(int(text), limits.max_count)), None


def _entry(server: Server, version: StoredVersion, previous: StoredVersion | None) -> Entry:
    """https://hl7.org/fhir/R4/bundle.html#history"""
    address = f"{version.type}/{version.id}"
    url = version.type if version.method == "POST" else address
    created = previous is None or previous.deleted
    status = "204" if version.deleted else "201" if created else "200"
    return Entry(
        f"{server.base}/{address}",
        version.body,
        {
            "request": {"method": version.method, "url": url},
            "response": {
                "status": status,
                "etag": etag(version),
                "lastModified": instant(version.last_updated),
            },
        },
    )
