"""The rating on the Dynamic Support Register, as stays bring it: one active flag at most.

A rating is superseded, never deleted, and never given without consent to be on the register. Which
was when is derived from all that is known by now (`operations._course`); the flags are made to fit.
Decision 0061.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Final

from fhir_server.fhir import canonicals
from fhir_server.fhir.dates import interval
from fhir_server.fhir.json import Resource
from fhir_server.operation.records import Records, reference_to
from operations._course import Mark, brought, course, given, in_seconds, is_turned
from operations._event import Event
from operations._known_stays import NEVER, KnownStay, by_then, died_at, had_effects, known_stays
from operations._leaving import died
from operations._person import (
    OPEN_STAY,
    Person,
    begun,
    colour_of,
    extension,
    since,
    status_of,
    with_extension,
)
from operations._plan import plan_of
from operations._rating_flag import (
    belongs_to,
    blue_of,
    end_reason,
    ended,
    flag_id,
    in_force,
    is_sound,
    mistaken,
    reason_extension,
    red_of,
)

Flags = Mapping[str, Resource]
_OURS: Final = (canonicals.BLUE, canonicals.RED)
"""Colours that stays bring."""
_NO_CONSENT: Final = "it is not put on the register, because no consent to be on it is recorded"


async def rate(event: Event) -> list[str]:
    """Have the ratings be what they are by all that is known; what was changed, in words."""
    before = {flag["id"]: flag for flag in await event.person.ratings()}
    await (_fit if event.consented else _end_without_consent)(event, before)
    after = await event.person.ratings()
    told = [_told(before.get(flag["id"]), flag) for flag in after]
    return [text for text in told if text]


def _told(before: Resource | None, flag: Resource) -> str:
    was_active = before is not None and status_of(before) == "active"
    if status_of(flag) == "active" and not was_active:
        again = "" if before is None else " again"
        return f"The rating is {colour_of(flag)}{again}: {reference_to(flag)}"
    if was_active and end_reason(flag) == "added-in-error":
        return (
            f"The rating {colour_of(flag)} was added in error and has ended: {reference_to(flag)}"
        )
    return ""


async def rate_stay(event: Event, colour: str) -> list[str]:
    """As `rate`, and what has become of the rating that the event's stay brings."""
    before = await _own(event, colour)
    said = await rate(event)
    own, active = await _own(event, colour), await event.person.active_ratings()
    if not event.consented:
        return [*said, f"The rating would be {colour}; {_NO_CONSENT}"]
    if own is None or any(reference_to(own) in text for text in said):
        return said
    if status_of(own) == "active":
        return [*said, f"The rating is {colour}: {reference_to(own)}"]
    if before is not None:
        return [*said, f"The rating {colour} for this stay has been superseded already"]
    later = [f"A later rating stands: {colour_of(one)} ({reference_to(one)})" for one in active]
    return [*said, *later]


async def _own(event: Event, colour: str) -> Resource | None:
    """The rating that the event's stay brought: a blue may have been given by hand."""
    own = await event.records.get("Flag", flag_id(colour, event.stay))
    if own is not None or colour != canonicals.BLUE:
        return own
    found = (flag for flag in await event.person.ratings() if belongs_to(flag, event.stay))
    return next((flag for flag in found if colour_of(flag) == canonicals.BLUE), None)


async def _fit(event: Event, known: Flags) -> None:
    death, turns = await died_at(event.person), await _turns(event.person)
    stays = by_then(await known_stays(event), death)
    marks = [mark for stay in stays for mark in await _brought(event, stay, stays, turns)]
    ours = await _take_back(event, known, marks)
    theirs = [known[name] for name in known if name not in ours]
    marks += await _given(event, theirs, marks, turns)
    for flag in course([mark for mark in marks if death is None or mark.at <= death], death):
        if flag["id"] in known:
            await event.records.amend(flag)
        else:
            await event.records.save(flag, is_sound=is_sound(flag))


async def _end_without_consent(event: Event, known: Flags) -> None:
    """There is no new rating, and a blue one does not outlive its stay either."""
    stays, turns = await known_stays(event), await _turns(event.person)
    marks = [mark for stay in stays for mark in await _brought(event, stay, stays, turns)]
    await _take_back(event, known, marks)
    for stay in stays:
        for flag in await event.person.active_ratings():
            if _came_home(stay, stays) and belongs_to(flag, stay.resource):
                await event.records.amend(ended(flag, stay.left, "consent-withdrawn"))


async def _take_back(event: Event, known: Flags, marks: Sequence[Mark]) -> set[str]:
    """End what stays have brought and cannot have; the ids of all that stays bring."""
    kept = {mark.flag["id"] for mark in marks}
    ours = {*kept}
    for stay in [*await event.person.stays(), *([event.stay] if event.stay else [])]:
        owned = [await _own(replace(event, stay=stay), colour) for colour in _OURS]
        ours |= {flag["id"] for flag in owned if flag is not None}
    for name in sorted(known.keys() & (ours - kept)):
        if is_turned(known[name]):
            await event.records.amend(mistaken(known[name], event.person.now))
    return ours


async def _turns(person: Person) -> set[int]:
    """The seconds in which something may have followed: another end is somebody's decision."""
    turns = {begun(flag) for flag in await person.ratings()}
    for stay in await person.stays():
        turns |= {begun(stay), since(stay.get("period", {}).get("end"))}
    return {in_seconds(at) for at in turns}


async def _brought(
    event: Event, stay: KnownStay, stays: Sequence[KnownStay], turns: Collection[int]
) -> list[Mark]:
    """What the stay brings: blue from its beginning, red from its end where that led home."""
    is_own = stay.resource["id"] == event.stay.get("id")
    author = event.author if is_own else stay.resource.get("serviceProvider", event.author)
    beginning = replace(event, stay=stay.resource, at=stay.began, author=author)
    blue = await _own(beginning, canonicals.BLUE)
    red = await _own(beginning, canonicals.RED)
    found = []
    begins = is_own and status_of(stay.resource) in OPEN_STAY
    if begins or blue or await plan_of(event.person, stay.resource):
        over = NEVER if died(stay.resource) else stay.left
        mark = Mark(blue_of(beginning), stay.began, over, claims=stay.left)
        found.append(brought(mark, blue, again=is_own and _lasts(stay, blue)))
    if _came_home(stay, stays) and (red or await _is_to_be_red(event, stay, stays)):
        mark = _red(replace(beginning, at=stay.left))
        found.append(brought(mark, red, again=is_own, turns=turns))
    known = is_own or bool(blue or red) or await _was_consented(event.person, stay)
    return found if known else []


def _lasts(stay: KnownStay, blue: Resource | None) -> bool:
    """Not so of a blue that was over before they came home: consent since then is too late."""
    end = since((blue or {}).get("period", {}).get("end"))
    return not stay.leads_home or end > stay.left


async def _is_to_be_red(event: Event, stay: KnownStay, stays: Sequence[KnownStay]) -> bool:
    """Not so where a red that came from elsewhere is that of the end."""
    of_stays = {flag_id(canonicals.RED, one.resource) for one in stays}
    for flag in await event.person.ratings():
        is_held = extension(flag, canonicals.MINIMUM_UNTIL_EXTENSION) is not None
        if is_held and flag["id"] not in of_stays and _began_then(flag, stay.left):
            return False
    return await had_effects(event, stay)


def _began_then(flag: Resource, at: int) -> bool:
    """As exactly as it is told."""
    start = flag.get("period", {}).get("start")
    return start is not None and interval(start).low <= at < interval(start).high


async def _was_consented(person: Person, stay: KnownStay) -> bool:
    """Not so of what was over before anybody had consented to be on the register."""
    first = await person.first_consented("register")
    return first is not None and first < stay.left


def _red(end: Event) -> Mark:
    """While it is held, it goes before what somebody gave who did not know of the end."""
    red = red_of(end)
    floor = extension(red, canonicals.MINIMUM_UNTIL_EXTENSION) or {}
    claims = since(floor["valueDate"]) if in_force(red, end.person.now) else 0
    return Mark(red, end.at, claims=claims)


def _came_home(stay: KnownStay, stays: Sequence[KnownStay]) -> bool:
    others = (one for one in stays if one.resource["id"] != stay.resource["id"])
    return stay.leads_home and not any(one.outlasts(stay) for one in others)


async def _given(
    event: Event, flags: Sequence[Resource], marks: Sequence[Mark], turns: Collection[int]
) -> list[Mark]:
    """The ratings that people gave.

    Where nobody knew of a stay yet, what was given meanwhile gives way to what the stay brings.
    """
    told = (given(flag, turns) for flag in flags)
    found = [_placed(mark, marks) for mark in told if mark is not None]
    for mark in found:
        if _gives_way(mark, marks):
            await event.records.amend(ended(mark.flag, begun(mark.flag), "superseded"))
    return [mark for mark in found if not _gives_way(mark, marks)]


def _placed(mark: Mark, marks: Sequence[Mark]) -> Mark:
    """Of the day of something that was not known yet, it was before that."""
    start = begun(mark.flag)
    is_before = any(one.claims and start <= one.at < mark.at for one in marks)
    return replace(mark, at=start) if is_before and not mark.is_decided else mark


def _gives_way(mark: Mark, marks: Sequence[Mark]) -> bool:
    return not mark.is_decided and any(one.at <= mark.at < one.claims for one in marks)


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
