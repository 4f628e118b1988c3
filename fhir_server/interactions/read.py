"""read: the current version of a resource.

https://hl7.org/fhir/R4/http.html#read
"""

from fhir_server.access.session import Data, StoredVersion
from fhir_server.errors import FhirError, Kind
from fhir_server.interactions.exchange import Answer, Request
from fhir_server.interactions.preconditions import is_current


async def perform(data: Data, request: Request) -> Answer:
    found = await current(data, request.resource_type, request.id)
    if is_current(request.if_none_match, found):
        return Answer(304, found)
    return Answer(200, found, found.body)


async def current(data: Data, resource_type: str, resource_id: str) -> StoredVersion:
    """The current version.

    Raises:
        FhirError: NOT_FOUND, or GONE after a deletion.
    """
    found = await data.read(resource_type, resource_id)
    if found is None:
        raise FhirError(Kind.NOT_FOUND, f"{resource_type}/{resource_id} is not known")
    if found.deleted:
        raise FhirError(Kind.GONE, f"{resource_type}/{resource_id} was deleted")
    return found
