"""read: the current version of a resource.

https://hl7.org/fhir/R4/http.html#read
"""

from fhir_server.access.session import Data, StoredVersion, current
from fhir_server.errors import FhirError, Kind
from fhir_server.fhir.summary import asked
from fhir_server.interactions.exchange import Answer, Request
from fhir_server.interactions.preconditions import is_unmodified


async def perform(data: Data, request: Request) -> Answer:
    found = await current(data, request.resource_type, request.id)
    data.shows((found,))
    if is_unmodified(request, found):
        return Answer(304, found)
    return Answer(200, found, asked_part(request, found))


def asked_part(request: Request, version: StoredVersion) -> bytes:
    """The resource as it is stored, or what `_summary` or `_elements` ask of it.

    Raises:
        FhirError: INVALID.
    """
    if not request.parameters:
        return version.body
    subset = asked(request.parameters, version.type)
    if subset is None:
        return version.body
    if subset.counts:
        text = "'_summary=count' counts what a search or history finds; here is one resource"
        raise FhirError.at(Kind.INVALID, "http._summary", text)
    return subset.of(version.type, version.body)
