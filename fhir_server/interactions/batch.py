"""batch: each entry on its own, whatever becomes of the others.

https://hl7.org/fhir/R4/http.html#brules
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from fhir_server.access.session import Session, SessionUnit
from fhir_server.errors import FhirError, Kind
from fhir_server.fhir.bundles import Entry, bundle
from fhir_server.fhir.json import Resource
from fhir_server.interactions import transaction
from fhir_server.interactions.content import checked
from fhir_server.interactions.entries import (
    Planned,
    asked_by,
    entries_of,
    failure,
    planned,
    response,
)
from fhir_server.interactions.exchange import Answer, Request
from fhir_server.interactions.provenance import refuse
from fhir_server.interactions.repeats import forget_parts, part, recalled, remember
from fhir_server.interactions.routing import checking, run

_log: Final = logging.getLogger(__name__)


async def perform(session: Session, request: Request) -> Answer:
    """A Bundle at the base address: a transaction or a batch, as its type says."""
    match await checking(request, type_of):
        case "transaction":
            return await transaction.perform(session, request)
        case "batch":
            refuse(request, "A batch")
            return await _batch(session, request)
        case other:
            raise FhirError.at(
                Kind.INVALID,
                "Bundle.type",
                f"A Bundle of type '{other}' cannot be posted here; transaction and batch can",
            )


_OTHERS: Final = (
    *("document", "message", "collection", "searchset", "history"),
    *("transaction-response", "batch-response"),
)
_ASKED: Final = {"request": {"method": "GET", "url": "Patient"}}


def type_of(request: Request) -> str | None:
    """The type of the Bundle, which was checked but for the resources of its entries.

    Raises:
        FhirError: MALFORMED, INVALID.
    """
    given = (request.resource or {}).get("type")
    if given in _OTHERS and request.resource and request.resource.get("resourceType") == "Bundle":
        return str(given)  # it is not taken here, whatever is in it
    outline = _outline(request.resource) if request.resource else None
    sound = checked(replace(request, resource_type="Bundle", resource=outline)).resource
    found: str | None = (sound or {}).get("type")
    return found


def _outline(resource: Resource) -> Resource:
    """The Bundle without the resources of its entries, which are checked each with its entry.

    What stands for a resource but is no object stays, and is refused here.
    """
    entries = resource.get("entry")
    if not isinstance(entries, list):
        return resource
    if resource.get("type") == "batch":
        entries = [_with_request(entry) for entry in entries]
    return {**resource, "entry": [_without_resource(entry) for entry in entries]}


def _with_request(entry: Any) -> Any:
    """An entry of a batch that has no request is refused alone, and not with all the others."""
    return {**_ASKED, **entry} if isinstance(entry, dict) and entry else entry


def _without_resource(entry: Any) -> Any:
    if not (isinstance(entry, dict) and len(entry) > 1 and isinstance(entry.get("resource"), dict)):
        return entry
    return {name: value for name, value in entry.items() if name != "resource"}


async def _batch(session: Session, request: Request) -> Answer:
    """Its entries each in a commit of its own; sent again, those that were not come to be."""
    asked = request.repeat
    if asked is None or not _writes(request):
        return _answer(await _entries(session, request), request)

    async def before(unit: SessionUnit) -> Answer | None:
        return await recalled(unit, asked)

    answered = await session.commit("batch", before)
    if answered is not None:
        return answered
    entries = await _entries(session, request)
    answer = _answer(entries, request)
    if any(map(_may_pass, entries)):
        # Sent again, these are tried again; the others are known by their parts.
        return answer

    async def after(unit: SessionUnit) -> Answer:
        await forget_parts(unit, asked)
        await remember(unit, request, answer)
        return answer

    return await session.commit("batch", after)


def _writes(request: Request) -> bool:
    """Whether there is more to it than reading, which is answered anew each time."""
    asked = (entry.get("request", {}) for entry in entries_of(request) if isinstance(entry, dict))
    return any(one.get("method") not in ("GET", "HEAD") for one in asked)


def _may_pass(entry: Entry) -> bool:
    """Whether it failed by no fault of its own, as while the store could not write."""
    status: str = entry.members["response"]["status"]
    return status.startswith("5")


def _answer(entries: Sequence[Entry], request: Request) -> Answer:
    body = bundle("batch-response", entries)
    return Answer(200, body=body, honoured=request.preferences.of_return)


async def _entries(session: Session, request: Request) -> list[Entry]:
    # Together, so that their writes share commits; a batch promises no order.
    return await asyncio.gather(
        *(_one(session, index, entry, request) for index, entry in enumerate(entries_of(request)))
    )


def require_in_batch(item: Planned) -> None:
    """Raise for an interaction that is no entry of a batch."""
    if not item.interaction.in_batch:
        what = "another batch" if item.interaction.code == "batch" else "what is about a job"
        raise FhirError(Kind.INVALID, f"A batch may not hold {what}")


async def _one(session: Session, index: int, entry: dict[str, object], request: Request) -> Entry:
    own = session.part(f"entry[{index}]: {asked_by(entry)}")
    try:
        item = planned(index, entry, request)
        require_in_batch(item)
        asked = replace(item.request, repeat=part(request.repeat, index))
        if own.record is not None:
            own.record.begin(item.interaction.code, asked.resource_type, asked.id)
        answer = await run(own, item.interaction, asked)
    except FhirError as error:
        refusal = error
    except Exception:
        _log.exception("An entry of a batch failed")
        refusal = FhirError(Kind.INTERNAL, "The server failed at this entry")
    else:
        await _close(own, answer.status)
        return response(answer)
    await _close(own, refusal.kind.status, str(refusal))
    return failure(refusal)


async def _close(session: Session, status: int, text: str = "") -> None:
    """Raises FhirError UNAVAILABLE where the answer has to wait for its row, which fails."""
    if session.record is not None:
        session.record.close(status, text)
        await session.record.settle()
