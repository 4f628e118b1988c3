"""What a resource says of others that are stored: what the resource alone cannot tell."""

from fhir_server.errors import Issue
from fhir_server.fhir.json import Resource
from fhir_server.terminology.library import Reads
from fhir_server.validation.answers import unfit_answers
from fhir_server.validation.checklist import unfit_items


async def unfit(resource: Resource | None, data: Reads, base: str) -> list[Issue]:
    """What keeps a sound resource from fitting those that are stored.

    What the caller may not read, and what comes in the same transaction, is not there yet and
    forbids nothing. `base` is where this server is known.
    """
    return [*await unfit_answers(resource, data), *await unfit_items(resource, data, base)]
