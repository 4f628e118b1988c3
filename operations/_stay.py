"""What an admission and a discharge bring about, besides the stay itself."""

from typing import Final

from fhir_server.fhir import canonicals
from fhir_server.operation.records import reference_to
from operations import _plan, _rating
from operations._event import Event
from operations._leaving import died, is_understood, left_for_hospital
from operations._person import (
    OPEN_STAY,
    UNDONE_STAY,
    Person,
    colour_of,
    extension,
    is_open_plan,
    status_of,
    with_extension,
)

_INVOLVED: Final = frozenset(
    {"information-gathering", "planning", "plan-active", "discharge-planning", "step-down"}
)
"""Pathway states that an admission turns into in-hospital; consent goes before keyworking."""
_IN_HOSPITAL: Final = frozenset({"in-hospital", "discharge-planning"})


def may_follow(known: str, told: str) -> bool:
    """Whether what a stay has brought can be squared with its new status."""
    if known in OPEN_STAY:
        return told in (*OPEN_STAY, "finished", *UNDONE_STAY)
    return known != "finished" or told in (*OPEN_STAY, "planned", "finished", *UNDONE_STAY)


async def admitted(event: Event) -> list[str]:
    """Blue, the plan, the pathway; what was done, in words."""
    records, person = event.records, event.person
    rating = await _rating.rate_blue(event)
    known = await _plan.plan_of(person, event.stay)
    plan = known or await _plan.open_plan(records, person, event.stay, event.at)
    said = [
        rating,
        f"The discharge plan is {status_of(plan)}: {reference_to(plan)}",
    ]
    if known is not None:
        # Told again: by now the pathway may have gone on from in-hospital.
        return said + await corrected(event)
    return said + await _move_to(event, "in-hospital", _INVOLVED)


async def corrected(event: Event) -> list[str]:
    """What more is known of a stay; what was done, in words."""
    plan = await _plan.plan_of(event.person, event.stay)
    if plan is None or not await _plan.note_aftercare(event.records, plan, event.stay):
        return []
    return [f"There is a right to aftercare under section 117: {reference_to(plan)}"]


async def discharged(event: Event) -> list[str]:
    """Red and its floor, the pathway; what was done, in words."""
    records, person = event.records, event.person
    plan = await _plan.plan_of(person, event.stay)
    if plan is not None:
        await _plan.end_plan(records, plan, event.at)
    if died(event.stay):
        return await _died(event)
    if left_for_hospital(event.stay):
        return [f"The young person goes to another hospital: {await _rating_stays(person)}"]
    if await person.open_stays():
        return [f"Another stay is open: {await _rating_stays(person)}"]
    unclear = [] if is_understood(event.stay) else [_UNCLEAR]
    rating = await _rating.rate_red_after_discharge(event)
    return [
        *unclear,
        rating,
        *await _move_to(event, "plan-active", _IN_HOSPITAL),
        *await corrected(event),
    ]


_UNCLEAR: Final = (
    "It is not understood where the young person went: dischargeDisposition has no code of "
    f"{canonicals.DISCHARGE_DESTINATION}. It is taken as home, so that somebody follows up"
)


async def _rating_stays(person: Person) -> str:
    active = await person.active_ratings()
    return f"the rating stays {colour_of(active[0])}" if active else "there is no rating"


async def _died(event: Event) -> list[str]:
    await _rating.end_ratings(event.records, event.person, event.at, "deceased")
    return ["The young person has died: the rating has ended, nothing is to be followed up"]


async def undone(event: Event) -> list[str]:
    """Take back what a stay has brought that never was; what was done, in words."""
    records, person = event.records, event.person
    said = await _rating.undo_ratings(event)
    plan = await _plan.plan_of(person, event.stay)
    if plan is None:
        return said
    if is_open_plan(plan):
        said.append(await _plan.revoke_plan(records, plan))
    if await person.open_stays():
        return said
    return said + await _move_to(event, await _state_at_home(person), _IN_HOSPITAL)


async def _state_at_home(person: Person) -> str:
    """The pathway state that the plans speak for; the one before is recorded nowhere else."""
    if await person.has_active_plan("step-down-plan"):
        return "step-down"
    plan = await person.keyworking_plan()
    if plan is None:
        return "information-gathering"
    return "planning" if status_of(plan) == "draft" else "plan-active"


async def _move_to(event: Event, state: str, among: set[str] | frozenset[str]) -> list[str]:
    """Move the involvement on, if it is in one of these states."""
    episode = await event.person.episode()
    if episode is None:
        return ["The young person is not known to the keyworking service"]
    current = (extension(episode, canonicals.PATHWAY_STATE_EXTENSION) or {}).get("valueCode")
    if current not in among:
        return []
    moved = with_extension(episode, {"url": canonicals.PATHWAY_STATE_EXTENSION, "valueCode": state})
    await event.records.save(moved)
    return [f"The pathway moves from {current} to {state}: {reference_to(episode)}"]
