"""Consent to keyworking that has ended: plans and goals stay as they are, somebody talks about it.

The state of the involvement is kept. To end a plan or a goal is no keyworking, and stays possible,
as does the discharge plan, which the hospital owes whatever is agreed with the keyworker.
"""

from typing import Final

from fhir_server.errors import FhirError, Kind
from fhir_server.fhir import canonicals
from fhir_server.fhir.json import Resource
from fhir_server.operation.rules import Change
from operations._person import has_code, person_named, status_of
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
    for side in (change.before, change.after):
        person = await person_named(change.records, side, change.now)
        if person is not None and await person.consent_ended(_CONSENT):
            raise FhirError.at(
                Kind.BUSINESS_RULE,
                f"{change.type}.subject",
                "The consent to keyworking has ended and none is in force: its plans and goals "
                "are not written until a new Consent is recorded; they may be ended",
            )


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
