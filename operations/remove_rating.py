"""Patient/$remove-rating: a young person is not on the register any more, for a reason.

The rating ends and stays in the history; nothing is deleted.
"""

from typing import Final

from fhir_server.access.session import SessionUnit
from fhir_server.errors import FhirError, Issue, Kind
from fhir_server.fhir.json import Resource
from fhir_server.fhir.said import said
from fhir_server.operation.api import Call
from fhir_server.operation.records import Records
from operations._appraising import Removal, as_service, held_up, require_seen, undeclared
from operations._deciding import RATES, decider
from operations._holding import Overridden, hold_of
from operations._person import Person
from operations._rating import end_ratings
from operations.admission_risk import person_of

SCOPES = ("Patient.r", "Flag.cu")
AS_SERVICE: Final = RATES
_STEP_DOWN: Final = "step-down"
_REASONS: Final = (_STEP_DOWN, "consent-withdrawn", "aged-out", "deceased", "added-in-error")
"""Codes of `rating-end-reason`; `superseded` is what a new rating does."""
_BY_RIGHT: Final = ("consent-withdrawn", "deceased")
"""These end a rating whatever holds it."""
_OF_THE_SERVICE: Final = ("deceased", "added-in-error")
"""With these it ends ratings itself, and takes that back where it was told in error."""
_BY_HAND: Final = "Removed by hand"


async def run(call: Call) -> Resource:
    person = await person_of(call)
    removal = Removal(
        _reason(call),
        str(call.parameters.one("text") or "").strip(),
        await decider(call, person),
        bool(call.parameters.one("override")),
        _avoided(call),
    )

    async def work(unit: SessionUnit) -> Resource:
        records = as_service(call, unit)
        now = Person(records, person.patient, call.now)
        for flag in await now.active_ratings():
            await require_seen(call, unit, flag)
        ended = await _remove(call, records, now, removal)
        await unit.settle(Overridden(frozenset(flag["id"] for flag in ended)))
        return ended[0]

    return await call.session.commit("remove-rating", work)


def _reason(call: Call) -> str:
    reason = str(call.parameters.one("reason"))
    if reason not in _REASONS:
        text = f"'{reason}' is no reason to remove a rating; {', '.join(_REASONS)} are allowed"
        raise FhirError.at(Kind.INVALID, "Parameters.parameter.where(name='reason')", text)
    return reason


def _avoided(call: Call) -> bool:
    """Raises: FhirError INVALID where the rating ends for another reason than a lower risk."""
    declared = bool(call.parameters.one("avoided"))
    if declared and (reason := str(call.parameters.one("reason"))) != _STEP_DOWN:
        text = f"'avoided' goes with the reason '{_STEP_DOWN}'; it is '{reason}'"
        raise FhirError.at(Kind.INVALID, "Parameters.parameter.where(name='avoided')", text)
    return declared


async def _remove(call: Call, records: Records, person: Person, removal: Removal) -> list[Resource]:
    active = await person.active_ratings()
    if not active:
        raise FhirError.at(Kind.BUSINESS_RULE, "Flag", "There is no active rating to remove")
    await _require_free(call, person, removal)
    text = removal.text or (_BY_HAND if removal.reason in _OF_THE_SERVICE else "")
    return await end_ratings(
        records, person, call.now, removal.reason, text, avoided=removal.avoided
    )


async def _require_free(call: Call, person: Person, removal: Removal) -> None:
    """Raise where the rating is held, unless it ends by right or on purpose."""
    if removal.reason in _BY_RIGHT:
        return
    issues = [*held_up(await hold_of(person, call.pathway.red_hold_days), None, removal)]
    if removal.override and not said(removal.text):
        place = "Parameters.parameter.where(name='text')"
        issues.append(Issue("Who overrides a hold says why in 'text'", place))
    if removal.avoided:
        issues += await undeclared(person, None, removal.decider)
    if issues:
        raise FhirError.of(Kind.BUSINESS_RULE, issues)
