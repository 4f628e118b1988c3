"""Changing the rating on the Dynamic Support Register: one active flag at most.

A rating is superseded, never deleted, and never given without consent to be on the register.
"""

from collections.abc import Collection
from dataclasses import replace
from itertools import pairwise

from fhir_server.fhir import canonicals
from fhir_server.fhir.json import Resource
from fhir_server.operation.records import Records, reference_to
from operations._event import Event
from operations._leaving import left_for_hospital
from operations._person import (
    Person,
    begun,
    colour_of,
    extension,
    since,
    status_of,
    with_extension,
)
from operations._rating_flag import (
    belongs_to,
    blue_of,
    counts,
    end_reason,
    ended,
    flag_id,
    going_on,
    in_force,
    is_of_a_stay,
    is_sound,
    reason_extension,
    red_of,
    redated,
    superseded,
)


async def rate_blue(event: Event) -> str:
    """Blue while in hospital; what was done, in words."""
    flag = blue_of(event)
    given = await _given_by_hand(event)
    if given is not None:
        await _end_otherwise(event, begun(given), event.at)
        flag["id"] = given["id"]
    return await _replace(event, flag)


async def _given_by_hand(event: Event) -> Resource | None:
    """A blue that somebody gave before the stay was told: it is that of the stay, not a second."""
    if await event.records.get("Flag", flag_id(canonicals.BLUE, event.stay)) is not None:
        return None
    for flag in await event.person.active_ratings():
        if colour_of(flag) == canonicals.BLUE and belongs_to(flag, event.stay):
            return flag
    return None


async def blue_given(event: Event) -> Resource | None:
    """The stay's blue, past or present: its own, else the one that was given by hand."""
    own = await event.records.get("Flag", flag_id(canonicals.BLUE, event.stay))
    if own is not None:
        return own
    found = (flag for flag in await event.person.ratings() if belongs_to(flag, event.stay))
    return next((flag for flag in found if colour_of(flag) == canonicals.BLUE), None)


async def rate_red_after_discharge(event: Event) -> str:
    """Red, with the date before which nobody sets it lower by accident."""
    flag = red_of(event)
    known = await event.records.get("Flag", flag["id"])
    if known is not None and event.consented and counts(known):
        await _end_otherwise(event, begun(known), event.at)
    return await _replace(event, flag)


async def undo_ratings(event: Event) -> list[str]:
    """End what a stay that never was has brought, and give back the rating before it."""
    blue = await blue_given(event)
    ours = {flag_id(canonicals.RED, event.stay), *([blue["id"]] if blue else [])}
    said = await _end_in_error(event, ours)
    past = [flag for flag in await event.person.ratings() if flag["id"] in ours]
    for flag in past:
        await event.records.amend(with_extension(flag, reason_extension("added-in-error")))
    await _straighten(event)
    if not said or await event.person.active_ratings():
        return said
    return [*said, await _give_back(event, ours)]


async def undo_discharge(event: Event) -> list[str]:
    """End the red of a discharge that never was; blue is the rating again, if it was before."""
    red = flag_id(canonicals.RED, event.stay)
    wrong = await event.records.get("Flag", red)
    said = await _end_in_error(event, {red})
    if wrong is not None and end_reason(wrong) == "superseded":
        await event.records.amend(with_extension(wrong, reason_extension("added-in-error")))
        await _straighten(event)
    before = await blue_given(event)
    over = before is not None and end_reason(before) == "superseded"
    if before is not None and over and not await event.person.active_ratings():
        await event.records.amend(going_on(before))
        return [*said, f"The rating is blue again: {reference_to(before)}"]
    if before is None and wrong is not None:
        await _end_otherwise(event, begun(wrong), event.at)
    return said


async def rate_by_last_open_stay(event: Event) -> None:
    """Of stays that overlap, the blue is that of the one that began last and goes on.

    One that led to another hospital does.
    """
    person = event.person
    current = max(await person.open_stays(), key=_by_beginning, default=None)
    active = await person.active_ratings()
    if current is None or [colour_of(flag) for flag in active] != [canonicals.BLUE]:
        return
    (other,) = active
    blue = await blue_given(replace(event, stay=current))
    if blue is None or end_reason(blue) != "superseded":
        return
    over = await _given_over(event, other, blue)
    if over is not None:
        await event.records.amend(ended(other, over, "superseded"))
        await event.records.amend(going_on(blue))
        await _straighten(event)


async def _given_over(event: Event, blue: Resource, to: Resource) -> int | None:
    """When a stay's blue gives way to that of another which goes on; None where it does not."""
    if begun(to) >= begun(blue):
        return begun(to)
    stays = [stay for stay in await event.person.stays() if belongs_to(blue, stay)]
    if any(map(left_for_hospital, stays)):
        return None
    ends = [since(stay.get("period", {}).get("end")) for stay in stays]
    return max(ends, default=event.at)


def _by_beginning(stay: Resource) -> tuple[int, str]:
    return begun(stay), str(stay["id"])


async def undo_discharge_home(event: Event) -> list[str]:
    """As `undo_discharge`, where no admission was told either: the rating before goes on."""
    said = await undo_discharge(event)
    if said and not await event.person.active_ratings():
        return [*said, await _give_back(event, {flag_id(canonicals.RED, event.stay)})]
    return said


async def _end_in_error(event: Event, ours: Collection[str]) -> list[str]:
    """End those of the stay's ratings that are active, and mark the others that were a mistake."""
    said = []
    for flag in await event.person.active_ratings():
        if flag["id"] in ours:
            await event.records.amend(ended(flag, event.person.now, "added-in-error"))
            colour = colour_of(flag)
            said.append(
                f"The rating {colour} was added in error and has ended: {reference_to(flag)}"
            )
    return said


async def note_blue(admission: Event) -> bool:
    """Note a blue that was over before anybody told of its beginning; whether it was.

    That is so where the discharge has had its effect on the rating.
    """
    red = await admission.records.get("Flag", flag_id(canonicals.RED, admission.stay))
    if not admission.consented or red is None or not counts(red):
        return False
    over = begun(red)
    await _end_otherwise(admission, over, admission.at)
    await admission.records.save(ended(blue_of(admission), over, "superseded"))
    await _straighten(admission)
    return True


async def _end_otherwise(event: Event, before: int, at: int) -> None:
    """A rating that gave way to something gave way to it at another moment."""
    for flag in await event.person.ratings():
        over = since(flag.get("period", {}).get("end"))
        gave_way = end_reason(flag) == "superseded" and over == before
        if status_of(flag) == "inactive" and gave_way and begun(flag) <= at:
            await event.records.amend(ended(flag, at, "superseded"))


async def _give_back(event: Event, ours: Collection[str]) -> str:
    if not event.consented:
        return "There is no rating now, because no consent to be on the register is recorded"
    before = [
        flag
        for flag in await event.person.ratings()
        if flag["id"] not in ours and end_reason(flag) == "superseded"
    ]
    if not before:
        return "There was no rating before; somebody has to rate again"
    last = max(before, key=lambda flag: since(flag.get("period", {}).get("end")))
    saved = await event.records.amend(going_on(last))
    return f"The rating is {colour_of(saved)} again, as before the stay: {reference_to(saved)}"


async def end_ratings(
    records: Records,
    person: Person,
    at: int,
    reason: str,
    text: str = "",
    *,
    avoided: bool = False,
) -> list[Resource]:
    """End what is active; `text` says more of why. The ratings that have ended.

    `avoided`: it is declared with the end that an admission was avoided.
    """
    why = reason_extension(reason, text, avoided=avoided)
    return [
        await records.amend(with_extension(ended(flag, at, reason), why))
        for flag in await person.active_ratings()
    ]


async def _replace(event: Event, flag: Resource) -> str:
    """Make it the active rating, unless that has been so already or a later one stands."""
    records, person = event.records, event.person
    if not event.consented:
        return await _left_off(event, flag)
    known = await records.get("Flag", flag["id"])
    if known is not None and end_reason(known) in ("consent-withdrawn", "added-in-error"):
        known = None  # there is consent again, or the discharge was told again
    if known is not None and status_of(known) != "active":
        if end_reason(known) == "superseded":
            await records.save(redated(known, flag))
            await _straighten(event)
        return f"The rating {colour_of(flag)} for this stay has been superseded already"
    others = [other for other in await person.active_ratings() if other["id"] != flag["id"]]
    for other in others:
        if _stands(other, flag, event.stay, person.now):
            if known is None:  # what was, though nobody told of it in time
                await records.save(superseded(flag, other))
            await _straighten(event)
            return f"A later rating stands: {colour_of(other)} ({reference_to(other)})"
    for other in others:
        await records.amend(superseded(other, flag))
    if known is None:
        await records.save(flag, is_sound=is_sound(flag))
    else:
        await records.save(redated(known, flag))
    await _straighten(event)
    return f"The rating is {colour_of(flag)}: {reference_to(flag)}"


async def _straighten(event: Event) -> None:
    """A rating that gave way to one of a stay ends with the next, in whatever order they came."""
    flags = await event.person.ratings()
    of_stays = {begun(flag) for flag in flags if is_of_a_stay(flag)}
    for stay in await event.person.stays():
        of_stays |= {begun(stay), since(stay.get("period", {}).get("end"))}
    past = [flag for flag in flags if end_reason(flag) != "added-in-error"]
    past.sort(key=begun)
    for flag, following in pairwise(past):
        over = since(flag.get("period", {}).get("end"))
        if end_reason(flag) == "superseded" and over in of_stays and over != begun(following):
            await event.records.amend(superseded(flag, following))


async def _left_off(event: Event, flag: Resource) -> str:
    """Without consent there is no new rating; a blue one does not outlive its stay either."""
    if colour_of(flag) != canonicals.BLUE:
        for other in await event.person.active_ratings():
            if belongs_to(other, event.stay):
                await event.records.amend(ended(other, begun(flag), "consent-withdrawn"))
    return (
        f"The rating would be {colour_of(flag)}; it is not put on the register, because no "
        "consent to be on it is recorded"
    )


def _stands(other: Resource, flag: Resource, stay: Resource, now: int) -> bool:
    """Whether a rating that began later than `flag` is left as it is.

    That of a later stay is. Anything else gives way to blue while in hospital and to red while
    it is held: whoever gave it did not know of the event.
    """
    if begun(other) <= begun(flag) or belongs_to(other, stay):
        return False
    of_a_stay = colour_of(other) == canonicals.BLUE or extension(
        other, canonicals.MINIMUM_UNTIL_EXTENSION
    )
    return bool(of_a_stay) or not in_force(flag, now)
