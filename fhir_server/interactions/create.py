"""create: a new resource under an id that the server gives.

https://hl7.org/fhir/R4/http.html#create, conditional: #ccreate
"""

from fhir_server.access.session import SessionUnit
from fhir_server.fhir.references import new_id
from fhir_server.interactions.content import checked, draft_of, drafted, require_one_person, written
from fhir_server.interactions.exchange import Answer, Request


def prepare(request: Request) -> Request:
    """Check the resource and give it its id, before the commit."""
    request = checked(request)
    resource_id = request.id or new_id()
    named = {**(request.resource or {}), "id": resource_id}
    return drafted(request.having(id=resource_id, resource=named))


async def perform(unit: SessionUnit, request: Request) -> Answer:
    existing = request.matched
    if existing is not None:
        return Answer(200, existing, existing.body, located=True)
    resource = request.resource
    assert resource is not None  # noqa: S101 - prepare saw to it
    draft = draft_of(request, resource)
    draft.is_new = True
    stored = await unit.put(resource, "POST", draft)
    await require_one_person(resource, unit, request.server)
    return written(stored, request, created=True)
