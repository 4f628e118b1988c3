"""Moving an involvement, for operations: judged before it is written, with all that is missing."""

from collections.abc import Awaitable, Callable

from fhir_server.access.session import Session, SessionUnit
from fhir_server.errors import FhirError, Kind
from fhir_server.fhir import canonicals
from fhir_server.fhir.json import Resource
from fhir_server.operation.api import Call
from fhir_server.operation.records import Records
from operations._host import involvement
from operations._person import local_day, person_named, status_of, with_extension
from operations.pathway.case import Case, case_of
from operations.pathway.guards import missing
from operations.pathway.states import OVER, STATUS

Prepare = Callable[[Records, Resource], Awaitable[Resource]]
"""Writes what the move needs; the involvement as it is to be."""


async def move(call: Call, session: Session | SessionUnit, prepare: Prepare) -> Resource:
    """The EpisodeOfCare, with what follows from the move in place.

    Raises:
        FhirError: BUSINESS_RULE with an issue for each thing that is missing; NOT_FOUND.
    """

    async def work(unit: SessionUnit) -> Resource:
        records = Records(unit, base=call.base, now=call.now, checker=call.checker)
        before = await involvement(records, call.id)
        after = await prepare(records, before)
        await _require(call, records, before, after)
        saved = await records.save(after)
        await unit.settle()
        # Who closes it may not see it any more: they are shown what they wrote.
        return await records.get("EpisodeOfCare", call.id) or saved

    return await session.commit(call.code, work)


async def _require(call: Call, records: Records, before: Resource, after: Resource) -> None:
    """By what the caller sees. The rule asks again, of everything; a profile, of a part alone."""
    person = await person_named(records, after, call.now)
    case = Case(call.now, call.pathway)
    if person is not None:
        case = await case_of(records, person, after, call.pathway)
    if issues := missing(case, before, after):
        raise FhirError.of(Kind.BUSINESS_RULE, issues)


def moved(episode: Resource, state: str, reason: str, now: int, *, pause: bool = False) -> Resource:
    """The involvement in that state, with the status that fits and why."""
    found = with_extension(episode, {"url": canonicals.PATHWAY_STATE_EXTENSION, "valueCode": state})
    found["status"] = "onhold" if pause else STATUS.get(state, status_of(episode))
    kept = [one for one in found["extension"] if one["url"] != canonicals.STATUS_REASON_EXTENSION]
    found["extension"] = kept
    if reason:
        said = {"url": canonicals.STATUS_REASON_EXTENSION, "valueString": reason}
        found = with_extension(found, said)
    if state in OVER and "end" not in found.get("period", {}):
        found["period"] = {**found.get("period", {}), "end": local_day(now).isoformat()}
    return found


def because(episode: Resource, code: str) -> Resource:
    """With the reason for which keyworking ends."""
    concept = {"coding": [{"system": canonicals.EPISODE_CLOSE_REASON, "code": code}]}
    return with_extension(
        episode, {"url": canonicals.CLOSE_REASON_EXTENSION, "valueCodeableConcept": concept}
    )
