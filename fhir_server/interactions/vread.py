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
    if _is_number(request.version):
        found = await data.vread(request.resource_type, request.id, int(request.version))
    if found is None:
        why = "is not kept any more" if await _was_there(data, request) else "is not known"
        raise FhirError(Kind.NOT_FOUND, f"{name} {why}")
    if found.deleted:
        raise FhirError(Kind.GONE, f"{name} is a deletion")
    data.shows((found,))
    if is_unmodified(request, found):
        return Answer(304, found)
    return Answer(200, found, asked_part(request, found))


async def _was_there(data: Data, request: Request) -> bool:
    """Versions have no gaps: one that is missing below the current one was taken out.

    Where a server no longer has an older version, it answers 404 and says so.
    """
    if not _is_number(request.version):
        return False
    current = await data.read(request.resource_type, request.id)
    return current is not None and 0 < int(request.version) < current.version


def _is_number(version: str) -> bool:
    return version.isascii() and version.isdigit() and len(version) < 19
