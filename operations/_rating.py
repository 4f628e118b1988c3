"""Changing the rating on the Dynamic Support Register: one active flag at most.

A rating is superseded, never deleted, and never given without consent to be on the register.
"""

from collections.abc import Collection
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Final

from fhir_server.fhir import canonicals
from fhir_server.fhir.json import Resource
from fhir_server.operation.records import Records, reference_to, stable_id
from operations._event import Event
from operations._leaving import left_for_hospital
from operations._person import (
    Person,
    begun,
    code_in,
    colour_of,
    extension,
    local_day,
    local_time,
    refers,
    since,
    status_of,
    with_extension,
    without_end,
)
from operations._sound import PROFESSIONALS, are, is_name

_TITLES: Final = {
    canonicals.RED: "Red: high risk of going into hospital",
    canonicals.AMBER: "Amber: at risk if the right support does not come soon",
    canonicals.GREEN: "Green: risks are managed well at home",
    canonicals.BLUE: "Blue: in a mental health hospital",
}
_NOT_TOLD: Final[Resource] = {
    "identifier": {"system": f"{canonicals.KW}/NamingSystem/author", "value": "not-told"},
    "display": "Not told",
}
"""Who rated, where nobody says: a rating has an author who is more than a name."""


async def rate_blue(event: Event) -> str:
    """Blue while in hospital; what was done, in words."""
    flag = _flag(event, canonicals.BLUE)
    given = await _given_by_hand(event)
    if given is not None:
        await _end_otherwise(event, begun(given), event.at)
        flag["id"] = given["id"]
    named = {**flag, "encounter": {"reference": reference_to(event.stay)}}
    return await _replace(event, named)


async def _given_by_hand(event: Event) -> Resource | None:
    """A blue that somebody gave before the stay was told: it is that of the stay, not a second."""
    if await event.records.get("Flag", _id(canonicals.BLUE, event.stay)) is not None:
        return None
    for flag in await event.person.active_ratings():
        if colour_of(flag) == canonicals.BLUE and belongs_to(flag, event.stay):
            return flag
    return None


async def _blue_of(event: Event) -> Resource | None:
    """The stay's blue, past or present: its own, else the one that was given by hand."""
    own = await event.records.get("Flag", _id(canonicals.BLUE, event.stay))
    if own is not None:
        return own
    found = (flag for flag in await event.person.ratings() if belongs_to(flag, event.stay))
    return next((flag for flag in found if colour_of(flag) == canonicals.BLUE), None)


async def rate_red_after_discharge(event: Event) -> str:
    """Red, with the date before which nobody sets it lower by accident."""
    until = event.day + timedelta(days=event.pathway.red_hold_days)
    flag = with_extension(
        _flag(event, canonicals.RED),
        {"url": canonicals.MINIMUM_UNTIL_EXTENSION, "valueDate": until.isoformat()},
    )
    known = await event.records.get("Flag", flag["id"])
    if known is not None and event.consented and _counts(known):
        await _end_otherwise(event, begun(known), event.at)
    return await _replace(event, flag)


async def undo_ratings(event: Event) -> list[str]:
    """End what a stay that never was has brought, and give back the rating before it."""
    blue = await _blue_of(event)
    ours = {_id(canonicals.RED, event.stay), *([blue["id"]] if blue else [])}
    said = await _end_in_error(event, ours)
    past = [flag for flag in await event.person.ratings() if flag["id"] in ours]
    for flag in past:
        await event.records.amend(with_extension(flag, _reason("added-in-error")))
    await _straighten(event)
    if not said or await event.person.active_ratings():
        return said
    return [*said, await _give_back(event, ours)]


async def undo_discharge(event: Event) -> list[str]:
    """End the red of a discharge that never was; blue is the rating again, if it was before."""
    red = _id(canonicals.RED, event.stay)
    wrong = await event.records.get("Flag", red)
    said = await _end_in_error(event, {red})
    if wrong is not None and _end_reason(wrong) == "superseded":
        await event.records.amend(with_extension(wrong, _reason("added-in-error")))
        await _straighten(event)
    before = await _blue_of(event)
    ended = before is not None and _end_reason(before) == "superseded"
    if before is not None and ended and not await event.person.active_ratings():
        await event.records.amend(_going_on(before))
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
    blue = await _blue_of(replace(event, stay=current))
    if blue is None or _end_reason(blue) != "superseded":
        return
    over = await _given_over(event, other, blue)
    if over is not None:
        await event.records.amend(_ended(other, over, "superseded"))
        await event.records.amend(_going_on(blue))
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
        return [*said, await _give_back(event, {_id(canonicals.RED, event.stay)})]
    return said


async def _end_in_error(event: Event, ours: Collection[str]) -> list[str]:
    """End those of the stay's ratings that are active, and mark the others that were a mistake."""
    said = []
    for flag in await event.person.active_ratings():
        if flag["id"] in ours:
            await event.records.amend(_ended(flag, event.person.now, "added-in-error"))
            colour = colour_of(flag)
            said.append(
                f"The rating {colour} was added in error and has ended: {reference_to(flag)}"
            )
    return said


async def note_blue(admission: Event) -> bool:
    """Note a blue that was over before anybody told of its beginning; whether it was.

    That is so where the discharge has had its effect on the rating.
    """
    red = await admission.records.get("Flag", _id(canonicals.RED, admission.stay))
    if not admission.consented or red is None or not _counts(red):
        return False
    over = begun(red)
    await _end_otherwise(admission, over, admission.at)
    flag = _flag(admission, canonicals.BLUE)
    blue = {**flag, "encounter": {"reference": reference_to(admission.stay)}}
    await admission.records.save(_ended(blue, over, "superseded"))
    await _straighten(admission)
    return True


async def _end_otherwise(event: Event, ended: int, at: int) -> None:
    """A rating that gave way to something gave way to it at another moment."""
    for flag in await event.person.ratings():
        over = since(flag.get("period", {}).get("end"))
        gave_way = _end_reason(flag) == "superseded" and over == ended
        if status_of(flag) == "inactive" and gave_way and begun(flag) <= at:
            await event.records.amend(_ended(flag, at, "superseded"))


def _counts(flag: Resource) -> bool:
    """Whether it is the rating, or was until another took its place."""
    return status_of(flag) == "active" or _end_reason(flag) == "superseded"


def _going_on(flag: Resource) -> Resource:
    """The rating as it was before it ended."""
    others = [
        one
        for one in flag.get("extension", ())
        if one.get("url") != canonicals.RATING_END_REASON_EXTENSION
    ]
    kept = {name: value for name, value in flag.items() if name != "extension"}
    going = {**without_end(kept), "status": "active"}
    return going | ({"extension": others} if others else {})


async def _give_back(event: Event, ours: Collection[str]) -> str:
    if not event.consented:
        return "There is no rating now, because no consent to be on the register is recorded"
    before = [
        flag
        for flag in await event.person.ratings()
        if flag["id"] not in ours and _end_reason(flag) == "superseded"
    ]
    if not before:
        return "There was no rating before; somebody has to rate again"
    last = max(before, key=lambda flag: since(flag.get("period", {}).get("end")))
    saved = await event.records.amend(_going_on(last))
    return f"The rating is {colour_of(saved)} again, as before the stay: {reference_to(saved)}"


async def go_on_after_death(records: Records, person: Person) -> None:
    """Give back the rating that a death ended, until it is known again what has become of it."""
    ended = [one for one in await person.ratings() if _end_reason(one) == "deceased"]
    if ended and not await person.active_ratings() and await person.consented("register"):
        last = max(ended, key=lambda flag: since(flag.get("period", {}).get("end")))
        await records.amend(_going_on(last))


def _end_reason(flag: Resource) -> str | None:
    found = extension(flag, canonicals.RATING_END_REASON_EXTENSION) or {}
    return code_in(found.get("valueCodeableConcept"), canonicals.RATING_END_REASON)


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
    why = _reason(reason, text, avoided=avoided)
    return [
        await records.amend(with_extension(_ended(flag, at, reason), why))
        for flag in await person.active_ratings()
    ]


def superseded(flag: Resource, by: Resource) -> Resource:
    """The rating as it ends when another begins."""
    return _ended(flag, begun(by), "superseded")


async def _replace(event: Event, flag: Resource) -> str:
    """Make it the active rating, unless that has been so already or a later one stands."""
    records, person = event.records, event.person
    if not event.consented:
        return await _left_off(event, flag)
    known = await records.get("Flag", flag["id"])
    if known is not None and _end_reason(known) in ("consent-withdrawn", "added-in-error"):
        known = None  # there is consent again, or the discharge was told again
    if known is not None and status_of(known) != "active":
        if _end_reason(known) == "superseded":
            await records.amend(_redated(known, flag))
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
        await records.save(flag, is_sound=_is_sound(flag))
    else:
        await records.amend(_redated(known, flag))
    await _straighten(event)
    return f"The rating is {colour_of(flag)}: {reference_to(flag)}"


async def _straighten(event: Event) -> None:
    """A rating that gave way to one of a stay ends with the next, in whatever order they came."""
    flags = await event.person.ratings()
    of_stays = {begun(flag) for flag in flags if _is_of_a_stay(flag)}
    for stay in await event.person.stays():
        of_stays |= {begun(stay), since(stay.get("period", {}).get("end"))}
    past = [flag for flag in flags if _end_reason(flag) != "added-in-error"]
    past.sort(key=begun)
    for flag, following in pairwise(past):
        over = since(flag.get("period", {}).get("end"))
        if _end_reason(flag) == "superseded" and over in of_stays and over != begun(following):
            await event.records.amend(superseded(flag, following))


def _is_of_a_stay(flag: Resource) -> bool:
    floor = extension(flag, canonicals.MINIMUM_UNTIL_EXTENSION)
    return colour_of(flag) == canonicals.BLUE or floor is not None


async def _left_off(event: Event, flag: Resource) -> str:
    """Without consent there is no new rating; a blue one does not outlive its stay either."""
    if colour_of(flag) != canonicals.BLUE:
        for other in await event.person.active_ratings():
            if belongs_to(other, event.stay):
                await event.records.amend(_ended(other, begun(flag), "consent-withdrawn"))
    return (
        f"The rating would be {colour_of(flag)}; it is not put on the register, because no "
        "consent to be on it is recorded"
    )


def belongs_to(flag: Resource, stay: Resource) -> bool:
    """Whether the rating names the stay, by a reference or by an identifier."""
    named = flag.get("encounter", {})
    return refers(named, stay) or _identifies(named.get("identifier", {}), stay)


def _identifies(identifier: Resource, stay: Resource) -> bool:
    told = identifier.get("system"), identifier.get("value")
    known = [(one.get("system"), one.get("value")) for one in stay.get("identifier", ())]
    return None not in told and told in known


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
    return bool(of_a_stay) or not _in_force(flag, now)


def _in_force(flag: Resource, now: int) -> bool:
    floor = extension(flag, canonicals.MINIMUM_UNTIL_EXTENSION)
    return floor is None or local_day(now).isoformat() < str(floor.get("valueDate", ""))


def _redated(known: Resource, flag: Resource) -> Resource:
    """What somebody has added to the flag since stays."""
    dated = {**known, "period": known.get("period", {}) | flag["period"]}
    if "encounter" in flag:
        dated["encounter"] = flag["encounter"]
    for item in flag.get("extension", ()):
        dated = with_extension(dated, item)
    return dated


def _id(colour: str, stay: Resource) -> str:
    return stable_id("rating", colour, stay["id"])


def _flag(event: Event, colour: str) -> Resource:
    flag = rated(colour, event.person, local_time(event.at), event.author)
    return {**flag, "id": _id(colour, event.stay)}


def rated(colour: str, person: Person, start: str, author: Resource) -> Resource:
    """A rating without an id."""
    return {
        "resourceType": "Flag",
        "status": "active",
        "category": [
            {
                "coding": [
                    {"system": canonicals.FLAG_CATEGORY, "code": canonicals.DSR_ADMISSION_RISK}
                ]
            }
        ],
        "code": {
            "coding": [{"system": canonicals.DSR_RATING, "code": colour}],
            "text": _TITLES[colour],
        },
        "subject": {"reference": person.reference},
        "period": {"start": start},
        "author": author if _leads_somewhere(author) else _NOT_TOLD,
    }


def _is_sound(flag: Resource) -> bool:
    """Whether who rated and when, all that is not the service's own, is as a rating has it."""
    return is_name(flag["author"], PROFESSIONALS) and are("dateTime", flag["period"]["start"])


def _leads_somewhere(author: Resource) -> bool:
    return bool(author.get("reference") or author.get("identifier", {}).get("value"))


def _ended(flag: Resource, at: int, reason: str) -> Resource:
    period = {**flag.get("period", {}), "end": local_time(max(at, begun(flag)))}
    ended = {**flag, "status": "inactive", "period": period}
    return with_extension(ended, _reason(reason))


def _reason(code: str, text: str = "", *, avoided: bool = False) -> Resource:
    concept: Resource = {"coding": [{"system": canonicals.RATING_END_REASON, "code": code}]}
    if text:
        concept["text"] = text
    if avoided:
        declared = {"url": canonicals.ADMISSION_AVOIDED_EXTENSION, "valueBoolean": True}
        concept["extension"] = [declared]
    return {"url": canonicals.RATING_END_REASON_EXTENSION, "valueCodeableConcept": concept}
