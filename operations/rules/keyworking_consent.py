"""Consent to keyworking that has ended: plans and goals stay as they are, somebody talks about it.

The state of the involvement is kept. To end a plan or a goal is no keyworking, and stays possible,
as does the discharge plan, which the hospital owes whatever is agreed with the keyworker.
"""

from typing import Final

from fhir_server.errors import FhirError, Kind
from fhir_server.fhir import canonicals
from fhir_server.fhir.json import Resource
from fhir_server.operation.rules import Change
from operations._person import Person, has_code, status_of
from operations._record import patient_in
from operations.pathway.guards import is_over_goal

ON: Final = ("CarePlan", "Goal")
_PLANS: Final = ("keyworking-plan", "step-down-plan", "transition-plan")
_OVER_PLAN: Final = ("completed", "revoked", "entered-in-error")
_CONSENT: Final = "keyworking"


async def guard(change: Change) -> None:
    """Raise for a plan or a goal of keyworking without consent that was there once.

    Raises:
        FhirError: BUSINESS_RULE.
    """
    if not _is_keyworking(change) or _ends(change.after):
        return
    sides = (side for side in (change.before, change.after) if side is not None)
    for patient_id in dict.fromkeys(map(patient_in, sides)):
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
