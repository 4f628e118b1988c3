"""update: the next version of a resource, or its first under an id that the client gives.

https://hl7.org/fhir/R4/http.html#update, create-by-update: #upsert, conditional: #cond-update
"""

from fhir_server.access.session import SessionUnit
from fhir_server.errors import FhirError, Kind
from fhir_server.interactions.content import checked, draft_of, drafted, require_one_person, written
from fhir_server.interactions.exchange import Answer, Request
from fhir_server.interactions.preconditions import require_match, require_no_match


def prepare(request: Request) -> Request:
    """Check the resource and its id, before the commit."""
    request = checked(request)
    resource = request.resource or {}
    if resource.get("id") != request.id:
        raise FhirError.at(
            Kind.INVALID,
            f"{request.resource_type}.id",
            f"The resource has the id {resource.get('id')!r}; the address says '{request.id}'"
            if "id" in resource
            else f"The resource has no id; '{request.id}' as in the address is expected",
        )
    return drafted(request)


def prepare_conditional(request: Request) -> Request:
    """Check the resource; which one it is, the criteria say in the commit."""
    return checked(request)


async def perform(unit: SessionUnit, request: Request) -> Answer:
    resource = request.resource
    assert resource is not None  # noqa: S101 - prepare saw to it
    current = await unit.read(request.resource_type, request.id)
    require_match(request, current)
    require_no_match(request.if_none_match, current)
    stored = await unit.put(resource, "PUT", draft_of(request, resource))
    await require_one_person(resource, unit, request.server)
    return written(stored, request, created=current is None or current.deleted)
