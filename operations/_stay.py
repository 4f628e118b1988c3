"""What an admission and a discharge bring about, besides the stay itself."""

from dataclasses import replace
from datetime import timedelta
from typing import Final

from fhir_server.fhir import canonicals
from fhir_server.fhir.json import Resource
from fhir_server.operation.records import reference_to
from operations import _aftercare, _plan, _rating
from operations._death import reinvolved, state_at_home
from operations._event import Event
from operations._leaving import died, is_understood, left_for_hospital
from operations._person import (
    OPEN_STAY,
    UNDONE_STAY,
    Person,
    begun,
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
    if status_of(event.stay) in OPEN_STAY:
        await _rate_ends_since(event)
    rating = await _rating.rate_blue(event)
    known = await _plan.plan_of(person, event.stay)
    plan = known or await _plan.open_plan(
        records, person, event.stay, event.at, right=event.aftercare
    )
    said = [
        rating,
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
    if plan is not None:
        await _plan.resume_plan(event.records, plan)
    said = [*await _rating.undo_discharge(event), *await _reinvolved(event)]
    return said + (await _move_to(event, "in-hospital", _INVOLVED) if plan else [])


async def discharged(event: Event, begun: int | None = None) -> list[str]:
    """Red and its floor, the pathway; what was done, in words.

    `begun` is when the admission was, in microseconds, where one was told: it may have come after
    the discharge, and then has its effects now.
    """
    plan = await _plan.plan_of(event.person, event.stay)
    said = []
    if plan is None and begun is not None:
        said = await _admitted_late(replace(event, at=begun))
        plan = await _plan.plan_of(event.person, event.stay)
    if plan is not None:
        await _plan.end_plan(event.records, plan, event.at)
    return [*said, *await _left(event), *await corrected(event)]


async def _admitted_late(admission: Event) -> list[str]:
    """Word of the admission comes after that of the discharge: what it would have brought."""
    if await _rating.note_blue(admission):
        plan = await _plan.open_plan(
            admission.records,
            admission.person,
            admission.stay,
            admission.at,
            right=admission.aftercare,
        )
        return [
            f"The discharge plan is {status_of(plan)}: {reference_to(plan)}",
            *await _move_to(admission, "in-hospital", _INVOLVED),
        ]
    return await admitted(admission)


async def _left(event: Event) -> list[str]:
    if died(event.stay):  # what follows from that is for `operations._hindsight`
        return await _rating.undo_discharge_home(event)
    person, said = event.person, await _reinvolved(event)
    ends = [event, *await _ended_since(event)]
    rated = [await _rate_end(end) for end in ends]
    goes_on = left_for_hospital(ends[-1].stay)
    if goes_on or await person.open_stays():
        if rated[0] and not await _came_home(event):  # a discharge home was told by mistake
            said += [*rated[0], *await _move_to(event, "in-hospital", _INVOLVED)]
        where = "The young person goes to another hospital" if goes_on else "Another stay is open"
        return [*said, f"{where}: {await _rating_stays(person)}"]
    unclear = [] if is_understood(event.stay) else [_UNCLEAR]
    return [*said, *unclear, *rated[-1], *await _move_to(event, "plan-active", _IN_HOSPITAL)]


async def _rate_ends_since(event: Event) -> None:
    """Who is here did not come home from elsewhere meanwhile; who never was may have."""
    for end in await _ended_since(event):
        await _rate_end(end)


async def _ended_since(event: Event) -> list[Event]:
    """The ends of other stays that came after this, of which word came before; in their order."""
    over = [one for one in await event.person.stays() if status_of(one) == "finished"]
    others = [one for one in over if one["id"] != event.stay["id"] and not died(one)]
    ends = [replace(event, stay=one, at=_end_of(one)) for one in sorted(others, key=_end_of)]
    return [end for end in ends if end.at > event.at and await had_effects(end)]


async def had_effects(end: Event) -> bool:
    """Not so that of a stay that was first recorded when it had been over for long."""
    held = timedelta(days=end.pathway.red_hold_days) // timedelta(microseconds=1)
    recent = end.at > end.person.now - held
    return recent or await _plan.plan_of(end.person, end.stay) is not None


async def _rate_end(end: Event) -> list[str]:
    """Red from then on, where they came home; else what that brought is taken back; in words."""
    if await _came_home(end):
        return [await _rating.rate_red_after_discharge(end)]
    return await _rating.undo_discharge(end)


async def _came_home(end: Event) -> bool:
    """Not so who was in another hospital: who died there was, and never came home."""
    stays = [*await end.person.open_stays(), *filter(died, await end.person.stays())]
    return not left_for_hospital(end.stay) and all(begun(stay) > end.at for stay in stays)


_UNCLEAR: Final = (
    "It is not understood where the young person went: dischargeDisposition has no code of "
    f"{canonicals.DISCHARGE_DESTINATION}. It is taken as home, so that somebody follows up"
)


async def _rating_stays(person: Person) -> str:
    active = await person.active_ratings()
    return f"the rating stays {colour_of(active[0])}" if active else "there is no rating"


async def _reinvolved(event: Event) -> list[str]:
    """Open an involvement that a death closed which was told of this stay, in error."""
    return await reinvolved(event.records, event.person) if event.was_death else []


async def undone(event: Event) -> list[str]:
    """Take back what a stay has brought that never was; what was done, in words."""
    records, person = event.records, event.person
    said = await _rating.undo_ratings(event)
    said += await _reinvolved(event)
    await _rate_ends_since(event)
    plan = await _plan.plan_of(person, event.stay)
    if plan is None and not event.went_on:
        return said
    if plan is not None and is_open_plan(plan):
        said.append(await _plan.revoke_plan(records, plan))
    if await person.open_stays():
        return said
    if left_for_hospital(await _last_over(person) or {}):
        return said + await _move_to(event, "in-hospital", _INVOLVED)
    return said + await _move_to(event, await state_at_home(person), _IN_HOSPITAL)


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
