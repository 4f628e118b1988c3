"""Consent to keyworking that has ended: plans and goals stay as they are, somebody talks about it.

The state of the involvement is kept. To end a plan or a goal is no keyworking, and stays possible,
as does the discharge plan, which the hospital owes whatever is agreed with the keyworker.
"""

from typing import Final

from fhir_server.errors import FhirError, Kind
from fhir_server.fhir import canonicals
from fhir_server.fhir.json import Resource
from fhir_server.operation.rules import Change
from operations._person import has_code, local_day, person_named, status_of
from operations._tasks import Work, cancel_tasks, open_tasks, working_days_after
from operations.pathway.guards import is_over_goal
from operations.pathway.states import AWAITING_ALLOCATION, UNDER_WAY, state_of

ON: Final = ("CarePlan", "Consent", "Goal")
_PLANS: Final = ("keyworking-plan", "step-down-plan", "transition-plan")
_OVER_PLAN: Final = ("completed", "revoked", "entered-in-error")
_CONSENT: Final = "keyworking"
_AGREED: Final = "There is consent to keyworking again"


async def guard(change: Change) -> None:
    """Raise for a plan or a goal of keyworking without consent that was there once.

    Raises:
        FhirError: BUSINESS_RULE.
    """
    if change.type == "Consent" or not _is_keyworking(change) or _ends(change.after):
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


async def follow(change: Change) -> list[str]:
    """Have somebody talk about a consent that has ended, until there is one again."""
    if change.type != "Consent" or not _is_of_keyworking(change.resource):
        return []
    person = await person_named(change.records, change.resource, change.now)
    if person is None:
        return []
    if await person.consented(_CONSENT):
        await cancel_tasks(change.records, person, ("review-consent",), _AGREED)
        return []
    episode = await person.episode()
    involved = episode is not None and state_of(episode) in (AWAITING_ALLOCATION, *UNDER_WAY)
    if change.after is None or not involved or not await person.consent_ended(_CONSENT):
        return []
    due = working_days_after(local_day(change.now), change.pathway.consent_review_days)
    work = Work("review-consent", "Talk about consent to keyworking again", due)
    return await open_tasks(change.records, person, change.after, [work], change.now)


def _is_of_keyworking(consent: Resource) -> bool:
    return has_code(consent.get("category"), canonicals.CONSENT_CATEGORY, _CONSENT)
