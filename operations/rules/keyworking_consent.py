"""Consent to keyworking that has ended: plans and goals stay as they are, somebody talks about it.

The state of the involvement is kept. To end a plan or a goal is no keyworking, and stays possible,
as does the discharge plan, which the hospital owes whatever is agreed with the keyworker.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from fhir_server.errors import FhirError, Kind
from fhir_server.fhir import canonicals
from fhir_server.fhir.json import Resource
from fhir_server.operation.rules import Change
from operations._person import Person, ask_consent_ended, has_code, status_of
from operations._record import patient_in
from operations.pathway.guards import is_over_goal

ON: Final = ("CarePlan", "Goal")
_PLANS: Final = ("keyworking-plan", "step-down-plan", "transition-plan")
_OVER_PLAN: Final = ("completed", "revoked", "entered-in-error")
_CONSENT: Final = "keyworking"


async def ahead(changes: Sequence[Change]) -> None:
    asked = [change for change in changes if _is_asked(change)]
    patients = {one for change in asked for one in _whose(change) if one}
    if len(patients) > 1:
        await ask_consent_ended(changes[0].records, sorted(patients), _CONSENT)


async def guard(change: Change) -> None:
    """Raise for a plan or a goal of keyworking without consent that was there once.

    Raises:
        FhirError: BUSINESS_RULE.
    """
    if not _is_asked(change):
        return
    for patient_id in _whose(change):
        if await _has_ended(change, patient_id):
            raise FhirError.at(
                Kind.BUSINESS_RULE,
                f"{change.type}.subject",
                "The consent to keyworking has ended and none is in force: its plans and goals "
                "are not written until a new Consent is recorded; they may be ended",
            )


async def _has_ended(change: Change, patient_id: str) -> bool:
    """Of a patient who is known here, which is looked at only where it matters: it seldom does."""
    person = Person(change.records, {"resourceType": "Patient", "id": patient_id}, change.now)
    if not patient_id or not await person.consent_ended(_CONSENT):
        return False
    return await change.records.get("Patient", patient_id) is not None


def _is_asked(change: Change) -> bool:
    return _is_keyworking(change) and not _ends(change.after)


def _whose(change: Change) -> Iterable[str]:
    sides = (side for side in (change.before, change.after) if side is not None)
    return dict.fromkeys(map(patient_in, sides))


def _is_keyworking(change: Change) -> bool:
    if change.type == "Goal":
        return True
    sides = [side for side in (change.before, change.after) if side is not None]
    return any(
        has_code(side.get("category"), canonicals.CARE_PLAN_CATEGORY, kind)
        for side in sides
        for kind in _PLANS
    )


def _ends(after: Resource | None) -> bool:
    if after is None:
        return False
    return is_over_goal(after) or status_of(after) in _OVER_PLAN
