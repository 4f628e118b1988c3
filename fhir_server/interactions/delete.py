"""delete: the resource is gone, its history stays. What is not there is gone already.

https://hl7.org/fhir/R4/http.html#delete, conditional: #3.1.0.7.1
"""

from collections.abc import Sequence

from fhir_server.access.session import SessionUnit, StoredVersion
from fhir_server.errors import FhirError, Kind
from fhir_server.interactions.conditions import matches
from fhir_server.interactions.exchange import Answer, Request
from fhir_server.interactions.preconditions import refuse_unconditional, require_match


async def perform(unit: SessionUnit, request: Request) -> Answer:
    current = await unit.read(request.resource_type, request.id)
    require_match(request, current)
    if current is None or current.deleted:
        return Answer(204, current)
    return Answer(204, await unit.delete(current))


async def perform_conditional(unit: SessionUnit, request: Request) -> Answer:
    """What the criteria find: one resource or, where the server is set so, all of them."""
    if request.server.conditional_delete == "single":
        return await perform(unit, request) if request.id else Answer(204)
    most = request.server.max_entries
    found = await matches(unit, request, request.parameters, most + 1)
    if len(found) > most:
        raise FhirError(
            Kind.TOO_COSTLY, f"The criteria find more than the {most} that may be deleted at once"
        )
    if request.if_match is not None:
        _require_one(found)
        require_match(request, found[0] if found else None)
    elif found:
        refuse_unconditional(request)
    for version in found:
        await unit.delete(version)
    return Answer(204)


def _require_one(found: Sequence[StoredVersion]) -> None:
    """An ETag is of one resource: of several it cannot tell which is meant."""
    if len(found) > 1:
        raise FhirError.at(
            Kind.MULTIPLE_MATCHES,
            "http.If-Match",
            "If-Match is about one resource, and the criteria find several; give its id",
        )
