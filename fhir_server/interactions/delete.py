"""delete: the resource is gone, its history stays. What is not there is gone already.

https://hl7.org/fhir/R4/http.html#delete
"""

from fhir_server.access.session import SessionUnit
from fhir_server.interactions.exchange import Answer, Request
from fhir_server.interactions.preconditions import require_match


async def perform(unit: SessionUnit, request: Request) -> Answer:
    current = await unit.read(request.resource_type, request.id)
    require_match(request.if_match, current)
    if current is None or current.deleted:
        return Answer(204, current)
    return Answer(204, await unit.delete(current))
