"""What stays have brought where a death is on record, in whichever order word of them came.

What was before the death is taken as if it had been told in time. A stay that would have begun
after it cannot have been: what it brought is taken back, and a later one brings nothing. Where
the death was told in error, both have their effects. All of it is derived from what is known of
all stays, and not from what the messages happened to leave. Decisions 0057 and 0061.
"""

from collections.abc import Awaitable, Callable

from operations._aftercare import with_right
from operations._colours import fit_ratings
from operations._death import closed_by_death, died_at, reinvolved
from operations._event import Event
from operations._known_stays import NEVER, KnownStay, known_stays
from operations._person import is_open_plan
from operations._plan import follow_again, open_plan, plan_of, revoke_plan
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
    stays = await known_stays(event)
    for stay in stays:
        await _fit_plan(stay, death)
    before = [stay.until(death) for stay in stays if death is None or stay.began <= death]
    await fit_ratings(event, before, death)
    return said if death is None else [*said, *await closed_by_death(records, person, death)]


async def _fit_plan(stay: KnownStay, death: int | None) -> None:
    """Have the discharge plan be there for a stay that was, and end when that did."""
    event = stay.event
    plan = await plan_of(event.person, stay.resource)
    if death is not None and stay.began > death:
        if plan is not None and is_open_plan(plan):
            await revoke_plan(event.records, plan)
        return
    if plan is None and stay.was_admission_told:
        plan = await open_plan(
            event.records, event.person, stay.resource, stay.began, right=event.aftercare
        )
    if plan is not None:
        over = [one for one in (stay.left, death) if one not in (None, NEVER)]
        fitting = follow_again(plan, min(over, default=None))
        await event.records.amend(with_right(fitting, right=event.aftercare))
