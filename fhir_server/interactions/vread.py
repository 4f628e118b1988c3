"""vread: one version of a resource.

https://hl7.org/fhir/R4/http.html#vread
"""

from fhir_server.access.session import Data
from fhir_server.errors import FhirError, Kind
from fhir_server.interactions.exchange import Answer, Request
from fhir_server.interactions.preconditions import is_unmodified
from fhir_server.interactions.read import asked_part


async def perform(data: Data, request: Request) -> Answer:
    name = f"{request.resource_type}/{request.id}/_history/{request.version}"
    found = None
    if request.version.isascii() and request.version.isdigit() and len(request.version) < 19:
        found = await data.vread(request.resource_type, request.id, int(request.version))
    if found is None:
        raise FhirError(Kind.NOT_FOUND, f"{name} is not known")
    if found.deleted:
        raise FhirError(Kind.GONE, f"{name} is a deletion")
    if is_unmodified(request, found):
        return Answer(304, found)
    return Answer(200, found, asked_part(request, found))
