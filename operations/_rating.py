"""Changing the rating on the Dynamic Support Register: one active flag at most.

A rating is superseded, never deleted, and never given without consent to be on the register.
"""

from datetime import timedelta
from typing import Final

from fhir_server.fhir import canonicals
from fhir_server.fhir.json import Resource
from fhir_server.operation.records import Records, reference_to, stable_id
from operations._person import (
    Person,
    begun,
    code_in,
    extension,
    local_day,
    local_time,
    status_of,
    with_extension,
)

RED_HOLD: Final = timedelta(days=14)
"""Red for at least so long after discharge (Lincolnshire's rule; areas differ)."""

_TITLES: Final = {
    canonicals.RED: "Red: high risk of going into hospital",
    canonicals.AMBER: "Amber: at risk if the right support does not come soon",
    canonicals.GREEN: "Green: risks are managed well at home",
    canonicals.BLUE: "Blue: in a mental health hospital",
}


def colour_of(flag: Resource) -> str | None:
    return code_in(flag["code"], canonicals.DSR_RATING)


async def rate_blue(
    records: Records, person: Person, stay: Resource, since_when: int, author: Resource
) -> str:
    """Blue while in hospital; what was done, in words."""
    flag = _flag(person, canonicals.BLUE, stay, since_when, author)
    return await _replace(
        records, person, {**flag, "encounter": {"reference": reference_to(stay)}}, stay
    )


async def rate_red_after_discharge(
    records: Records, person: Person, stay: Resource, left: int, author: Resource
) -> str:
    """Red, with the date before which nobody sets it lower by accident."""
    until = local_day(left) + RED_HOLD
    flag = with_extension(
        _flag(person, canonicals.RED, stay, left, author),
        {"url": canonicals.MINIMUM_UNTIL_EXTENSION, "valueDate": until.isoformat()},
    )
    return await _replace(records, person, flag, stay)


async def end_ratings(records: Records, person: Person, at: int, reason: str) -> None:
    for flag in await person.active_ratings():
        await records.save(_ended(flag, at, reason))


async def _replace(records: Records, person: Person, flag: Resource, stay: Resource) -> str:
    """Make it the active rating, unless that has been so already or a later one stands."""
    if not await person.consented("register"):
        return await _left_off(records, person, flag, stay)
    known = await records.get("Flag", flag["id"])
    if known is not None and status_of(known) != "active":
        return f"The rating {colour_of(flag)} for this stay has been superseded already"
    others = [other for other in await person.active_ratings() if other["id"] != flag["id"]]
    for other in others:
        if _stands(other, flag, stay, person.now):
            return f"A later rating stands: {colour_of(other)} ({reference_to(other)})"
    for other in others:
        await records.save(_ended(other, begun(flag), "superseded"))
    await records.save(_redated(known, flag) if known else flag)
    return f"The rating is {colour_of(flag)}: {reference_to(flag)}"


async def _left_off(records: Records, person: Person, flag: Resource, stay: Resource) -> str:
    """Without consent there is no new rating; a blue one does not outlive its stay either."""
    if colour_of(flag) != canonicals.BLUE:
        for other in await person.active_ratings():
            if _belongs_to(other, stay):
                await records.save(_ended(other, begun(flag), "consent-withdrawn"))
    return (
        f"The rating would be {colour_of(flag)}; it is not put on the register, because no "
        "consent to be on it is recorded"
    )


def _belongs_to(flag: Resource, stay: Resource) -> bool:
    return bool(flag.get("encounter", {}).get("reference") == reference_to(stay))


def _stands(other: Resource, flag: Resource, stay: Resource, now: int) -> bool:
    """Whether a rating that began later than `flag` is left as it is.

    That of a later stay is. Anything else gives way to blue while in hospital and to red while
    it is held: whoever gave it did not know of the event.
    """
    if begun(other) <= begun(flag) or _belongs_to(other, stay):
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
    for item in flag.get("extension", ()):
        dated = with_extension(dated, item)
    return dated


def _flag(person: Person, colour: str, stay: Resource, start: int, author: Resource) -> Resource:
    return {
        "resourceType": "Flag",
        "id": stable_id("rating", colour, stay["id"]),
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
        "period": {"start": local_time(start)},
        "author": author,
    }


def _ended(flag: Resource, at: int, reason: str) -> Resource:
    reason_extension = {
        "url": canonicals.RATING_END_REASON_EXTENSION,
        "valueCodeableConcept": {
            "coding": [{"system": canonicals.RATING_END_REASON, "code": reason}]
        },
    }
    period = {**flag.get("period", {}), "end": local_time(max(at, begun(flag)))}
    ended = {**flag, "status": "inactive", "period": period}
    return with_extension(ended, reason_extension)
