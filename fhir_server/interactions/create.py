"""create: a new resource under an id that the server gives.

https://hl7.org/fhir/R4/http.html#create, conditional: #ccreate
"""

from dataclasses import replace
from urllib.parse import parse_qsl

from fhir_server.access.session import Data, Draft, SessionUnit, StoredVersion
from fhir_server.errors import FhirError, Kind
from fhir_server.fhir.references import new_id
from fhir_server.interactions.content import checked, written
from fhir_server.interactions.exchange import Answer, Request
from fhir_server.search.ast import Query
from fhir_server.search.parse import parse_criteria


def prepare(request: Request) -> Request:
    """Check the resource and give it its id, before the commit."""
    return replace(request, resource={**checked(request), "id": request.id or new_id()})


async def perform(unit: SessionUnit, request: Request) -> Answer:
    resource = request.resource
    assert resource is not None  # noqa: S101 - prepare saw to it
    existing = await match_of(unit, request)
    if existing is not None:
        return Answer(200, existing, existing.body, located=True)
    stored = await unit.put(resource, "POST", Draft(resource))
    return written(stored, request.preferences, created=True)


async def match_of(data: Data, request: Request) -> StoredVersion | None:
    """The one resource that `If-None-Exist` finds, None where it finds none or is not asked.

    Raises:
        FhirError: MULTIPLE_MATCHES.
    """
    if request.if_none_exist is None:
        return None
    criteria = parse_qsl(request.if_none_exist.lstrip("?"), keep_blank_values=True)
    server = request.server
    where = parse_criteria(request.resource_type, criteria, base=server.base, now=server.clock())
    page = await data.search(Query(request.resource_type, where), 2)
    if len(page.matches) > 1:
        raise FhirError.at(
            Kind.MULTIPLE_MATCHES,
            "http.If-None-Exist",
            f"More than one {request.resource_type} matches '{request.if_none_exist}'; "
            "criteria that find at most one are expected",
        )
    return page.matches[0] if page.matches else None
