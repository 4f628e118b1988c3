"""What an admission and a discharge bring about, besides the stay itself."""

from dataclasses import replace
from typing import Final

from fhir_server.fhir import canonicals
from fhir_server.fhir.json import Resource
from fhir_server.operation.records import reference_to
from operations import _aftercare, _plan, _rating
from operations._death import state_at_home
from operations._event import Event
from operations._leaving import died, is_understood, left_for_hospital
from operations._person import (
    OPEN_STAY,
    UNDONE_STAY,
    Person,
    colour_of,
    extension,
    is_open_plan,
    since,
    status_of,
    with_extension,
)
from operations.pathway.states import statuses

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
    rated = await _rating.rate_stay(event, canonicals.BLUE)
    known = await _plan.plan_of(person, event.stay)
    plan = known or await _plan.open_plan(
        records, person, event.stay, event.at, right=event.aftercare
    )
    said = [
        *rated,
        f"The discharge plan is {status_of(plan)}: {reference_to(plan)}",
        *await _right_noted(event, plan),
    ]
    if known is not None:
        return said  # told again: by now the pathway may have gone on from in-hospital
    return said + await _move_to(event, "in-hospital", _INVOLVED)


async def _right_noted(event: Event, plan: Resource) -> list[str]:
    """Note what is known by now of a right to aftercare; what was done, or is open, in words."""
    noted = await _aftercare.note_right(event.records, plan, right=event.aftercare)
    said = _aftercare.has_section_117(noted)
    if said:
        is_news = not _aftercare.has_section_117(plan)
        right = f"There is a right to aftercare under section 117: {reference_to(plan)}"
        return [right] if is_news else []
    if said is None:
        return [_aftercare.what_is_missing(event.stay)]
    status = _aftercare.unclear_status(event.stay)
    if status is None:
        return []
    denied = "The plan says that there is no right to aftercare under section 117: look at it again"
    return [f"{_aftercare.not_understood(status)}. {denied}"]


async def corrected(event: Event) -> list[str]:
    """What more is known of a stay; what was done, in words."""
    plan = await _plan.plan_of(event.person, event.stay)
    return [] if plan is None else await _right_noted(event, plan)


async def reopened(event: Event) -> list[str]:
    """Take back a discharge that was cancelled, so that the stay goes on; what was done."""
    plan = await _plan.plan_of(event.person, event.stay)
    if plan is None:
        return []
    await _plan.resume_plan(event.records, plan)
    return await _move_to(event, "in-hospital", _INVOLVED)


async def discharged(event: Event, begun: int | None = None) -> list[str]:
    """Red and its floor, the pathway; what was done, in words.

    `begun` is when the admission was, in microseconds, where one was told: it may have come after
    the discharge, and then has its effects now.
    """
    said = []
    if begun is not None and await _plan.plan_of(event.person, event.stay) is None:
        said = await _admitted_late(replace(event, at=begun))
    plan = await _plan.plan_of(event.person, event.stay)
    if plan is not None:
        await _plan.end_plan(event.records, plan, event.at)
    return [*said, *await _left(event), *await corrected(event)]


async def _admitted_late(event: Event) -> list[str]:
    """The plan and the pathway, as far as the discharge does not follow by itself."""
    plan = await _plan.open_plan(
        event.records, event.person, event.stay, event.at, right=event.aftercare
    )
    opened = f"The discharge plan is {status_of(plan)}: {reference_to(plan)}"
    return [opened, *await _move_to(event, "in-hospital", _INVOLVED)]


async def _left(event: Event) -> list[str]:
    if died(event.stay):  # what follows from that is for `operations._hindsight`
        return await _rating.rate(event)
    person = event.person
    goes_on = left_for_hospital(await _last_over(person) or {})
    if goes_on or await person.open_stays():
        said = await _rating.rate(event)
        if said:  # a discharge home was told by mistake
            said += await _move_to(event, "in-hospital", _INVOLVED)
        where = "The young person goes to another hospital" if goes_on else "Another stay is open"
        return [*said, f"{where}: {await _rating_stays(person)}"]
    unclear = [] if is_understood(event.stay) else [_UNCLEAR]
    rated = await _rating.rate_stay(event, canonicals.RED)
    return [*unclear, *rated, *await _move_to(event, "plan-active", _IN_HOSPITAL)]


_UNCLEAR: Final = (
    "It is not understood where the young person went: dischargeDisposition has no code of "
    f"{canonicals.DISCHARGE_DESTINATION}. It is taken as home, so that somebody follows up"
)


async def _rating_stays(person: Person) -> str:
    active = await person.active_ratings()
    return f"the rating stays {colour_of(active[0])}" if active else "there is no rating"


async def undone(event: Event) -> list[str]:
    """Take back what a stay has brought that never was; what was done, in words."""
    records, person = event.records, event.person
    said = [*await _rating.rate(event), *await _unrated(event)]
    plan = await _plan.plan_of(person, event.stay)
    if plan is None and not event.went_on:
        return said
    if plan is not None and is_open_plan(plan):
        said.append(await _plan.revoke_plan(records, plan))
    if await person.open_stays():
        return said
    if await is_in_hospital(person):
        return said + await _move_to(event, "in-hospital", _INVOLVED)
    return said + await _move_to(event, await state_at_home(person), _IN_HOSPITAL)


async def _unrated(event: Event) -> list[str]:
    """That somebody is to rate, or to ask, where a stay that never was leaves no rating."""
    if await event.person.active_ratings():
        return []
    if event.consented:
        return ["There is no rating now; somebody has to rate again"]
    return ["There is no rating now, because no consent to be on the register is recorded"]


async def is_in_hospital(person: Person) -> bool:
    """Or on the way to another, where it was told that they had been in the first."""
    if await person.open_stays():
        return True
    last = await _last_over(person)
    if last is None or not left_for_hospital(last):
        return False
    return await _plan.plan_of(person, last) is not None


async def _last_over(person: Person) -> Resource | None:
    """The stay that ended last."""
    over = [stay for stay in await person.stays() if status_of(stay) == "finished"]
    return max(over, key=_end_of, default=None)


def _end_of(stay: Resource) -> int:
    return since(stay.get("period", {}).get("end"))


async def _move_to(event: Event, state: str, among: set[str] | frozenset[str]) -> list[str]:
    """Move the involvement on, if it is in one of these states."""
    episode = await event.person.episode()
    if episode is None:
        return ["The young person is not known to the keyworking service"]
    current = (extension(episode, canonicals.PATHWAY_STATE_EXTENSION) or {}).get("valueCode")
    if current not in among:
        return []
    moved = with_extension(episode, {"url": canonicals.PATHWAY_STATE_EXTENSION, "valueCode": state})
    if status_of(moved) not in statuses(state):
        # Nobody pauses while a young person is in hospital.
        moved["status"] = statuses(state)[0]
    await event.records.amend(moved)
    return [f"The pathway moves from {current} to {state}: {reference_to(episode)}"]
