"""What stays have brought where a death is on record, in whichever order word of them came.

What was before the death is taken as if it had been told in time. A stay that would have begun
after it cannot have been: what it brought is taken back, and a later one brings nothing. Where
the death was told in error, both have their effects. Decision 0057.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace

from fhir_server.fhir.json import Resource
from operations import _plan, _rating
from operations._death import closed_by_death, died_at
from operations._event import Event
from operations._happenings import Journal, known_right, outcome_of
from operations._leaving import died
from operations._person import OPEN_STAY, begun, is_open_plan, since, status_of
from operations._stay import admitted, discharged, had_effects, reopened

Effects = Callable[[], Awaitable[list[str]]]


async def in_hindsight(event: Event, effects: Effects, *, was_dead: bool) -> list[str]:
    """Have these effects come out as they would have by all that is told by now; in words.

    `was_dead`: a death was on record before this.
    """
    if was_dead:
        await _rating.go_on_after_death(event.records, event.person)
    at = await died_at(event.person)
    said = await effects()
    if was_dead:
        await _take_again(event, at)
    return said if at is None else await _closed(event, at)


async def _take_again(event: Event, until: int | None) -> None:
    """Have the other stays their effects that began by then: they may have been passed over."""
    stays = [one for one in await event.person.stays() if one["id"] != event.stay.get("id")]
    for stay in sorted(stays, key=begun):
        if until is None or begun(stay) <= until:
            await _take(await _event_of(event, stay))


async def _event_of(event: Event, stay: Resource) -> Event:
    end = since(stay.get("period", {}).get("end"))
    return replace(
        event,
        stay=stay,
        at=max(begun(stay), end) if status_of(stay) == "finished" else begun(stay),
        author=stay.get("serviceProvider", event.author),
        aftercare=await known_right(event.records, stay, None),
        was_death=False,
        went_on=False,
    )


async def _take(event: Event) -> None:
    is_over = status_of(event.stay) == "finished"
    if not (await had_effects(event) if is_over else status_of(event.stay) in OPEN_STAY):
        return
    plan = await _plan.plan_of(event.person, event.stay)
    was_undone = plan is not None and await _plan.restore_plan(event.records, plan)
    if is_over:
        if was_undone:
            await admitted(replace(event, at=begun(event.stay)))
        told = await Journal(event.records, event.stay["id"]).all()
        await discharged(event, outcome_of(told).begun if told else None)
    else:
        if plan is not None:
            await reopened(event)
        await admitted(event)


async def _closed(event: Event, at: int) -> list[str]:
    """Take back what there cannot have been after the death, and close what was until then."""
    for stay in sorted(await event.person.stays(), key=begun, reverse=True):
        if status_of(stay) in (*OPEN_STAY, "finished"):
            await _cut_off(replace(event, stay=stay), at)
    return await closed_by_death(event.records, event.person, at)


async def _cut_off(event: Event, at: int) -> None:
    stay = event.stay
    plan = await _plan.plan_of(event.person, stay)
    if begun(stay) > at:
        await _rating.undo_ratings(event)
        if plan is not None and is_open_plan(plan):
            await _plan.revoke_plan(event.records, plan)
        return
    if status_of(stay) in OPEN_STAY:
        if plan is not None:
            await _plan.end_plan(event.records, plan, at)
    elif not died(stay) and since(stay.get("period", {}).get("end")) > at:
        await _rating.undo_discharge(event)
