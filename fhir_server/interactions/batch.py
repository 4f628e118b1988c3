"""batch: each entry on its own, whatever becomes of the others.

https://hl7.org/fhir/R4/http.html#brules
"""

import asyncio
import logging
from typing import Final

from fhir_server.access.session import Session
from fhir_server.errors import FhirError, Kind
from fhir_server.fhir.bundles import Entry, bundle
from fhir_server.interactions import transaction
from fhir_server.interactions.content import checked
from fhir_server.interactions.entries import entries_of, failure, planned, response
from fhir_server.interactions.exchange import Answer, Request
from fhir_server.interactions.routing import run

_log: Final = logging.getLogger(__name__)


async def perform(session: Session, request: Request) -> Answer:
    """A Bundle at the base address: a transaction or a batch, as its type says."""
    resource = checked(Request(request.server, "Bundle", resource=request.resource))
    match resource.get("type"):
        case "transaction":
            return await transaction.perform(session, request)
        case "batch":
            entries = await _entries(session, request)
            return Answer(200, body=bundle("batch-response", entries))
        case other:
            raise FhirError.at(
                Kind.INVALID,
                "Bundle.type",
                f"A Bundle of type '{other}' cannot be posted here; transaction and batch can",
            )


async def _entries(session: Session, request: Request) -> list[Entry]:
    # Together, so that their writes share commits; a batch promises no order.
    return await asyncio.gather(
        *(_one(session, index, entry, request) for index, entry in enumerate(entries_of(request)))
    )


async def _one(session: Session, index: int, entry: dict[str, object], request: Request) -> Entry:
    try:
        item = planned(index, entry, request)
        if item.interaction.code == "batch":
            raise FhirError(Kind.INVALID, "A batch may not hold another batch")
        return response(await run(session, item.interaction, item.request))
    except FhirError as error:
        return failure(error)
    except Exception:
        _log.exception("An entry of a batch failed")
        return failure(FhirError(Kind.INTERNAL, "The server failed at this entry"))
