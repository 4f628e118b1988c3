"""What stays have brought where a death is on record, in whichever order word of them came.

What was before the death is taken as if it had been told in time. A stay that would have begun
after it cannot have been: what it brought is taken back, and a later one brings nothing. Where
the death was told in error, both have their effects. All of it is derived from what is known of
all stays, and not from what the messages happened to leave. Decisions 0057 and 0061.
"""

from collections.abc import Awaitable, Callable

from operations._aftercare import with_right
from operations._death import closed_by_death, reinvolved
from operations._event import Event
from operations._happenings import known_right
from operations._known_stays import NEVER, KnownStay, died_at, known_stays, outcome
from operations._person import is_open_plan
from operations._plan import follow_again, open_plan, plan_of, revoke_plan
from operations._rating import rate
from operations._stay import is_in_hospital

Effects = Callable[[], Awaitable[list[str]]]


async def _none() -> list[str]:
    return []


async def in_hindsight(event: Event, effects: Effects = _none, *, was_dead: bool) -> list[str]:
    """Have these effects come out as they would have by all that is told by now; in words.

    `was_dead`: a death was on record before this.
    """
    records, person = event.records, event.person
    death = await died_at(person)
    said = []
    if was_dead and death is None:
        said = await reinvolved(records, person, in_hospital=await is_in_hospital(person))
    said += await effects()
    for stay in await known_stays(event):
        await _fit_plan(event, stay, death)
    said += await rate(event)
    return said if death is None else [*said, *await closed_by_death(records, person, death)]


async def _fit_plan(event: Event, stay: KnownStay, death: int | None) -> None:
    """Have the discharge plan be there for a stay that was, and end when that did."""
    records, person = event.records, event.person
    plan = await plan_of(person, stay.resource)
    if death is not None and stay.began > death:
        if plan is not None and is_open_plan(plan):
            await revoke_plan(records, plan)
        return
    right = await known_right(records, stay.resource, None)
    if plan is None and await _was_admission_told(event, stay):
        plan = await open_plan(records, person, stay.resource, stay.began, right=right)
    if plan is not None:
        over = min(stay.left, NEVER if death is None else death)
        fitting = follow_again(plan, None if over == NEVER else over)
        await records.amend(with_right(fitting, right=right))


async def _was_admission_told(event: Event, stay: KnownStay) -> bool:
    """Not so where word came of the end alone."""
    told = await outcome(event.records, stay.resource)
    return stay.left == NEVER or (told is not None and told.begun is not None)
