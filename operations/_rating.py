"""Changing the rating on the Dynamic Support Register: one active flag at most.

A rating is superseded, never deleted, and never given without consent to be on the register.
"""

from datetime import timedelta
from typing import Final

from fhir_server.fhir import canonicals
from fhir_server.fhir.json import Resource
from fhir_server.operation.records import Records, reference_to, stable_id
from operations._person import Person, code_in, local_day, local_time, since, with_extension

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
    return await _replace(records, person, {**flag, "encounter": {"reference": reference_to(stay)}})


async def rate_red_after_discharge(
    records: Records, person: Person, stay: Resource, left: int, author: Resource
) -> str:
    """Red, with the date before which nobody sets it lower by accident."""
    until = local_day(left) + RED_HOLD
    flag = with_extension(
        _flag(person, canonicals.RED, stay, left, author),
        {"url": canonicals.MINIMUM_UNTIL_EXTENSION, "valueDate": until.isoformat()},
    )
    return await _replace(records, person, flag)


async def end_ratings(records: Records, person: Person, at: int, reason: str) -> None:
    for flag in await person.active_ratings():
        await records.save(_ended(flag, at, reason))


async def _replace(records: Records, person: Person, flag: Resource) -> str:
    """Make it the active rating, unless that has been so already or something newer is known."""
    if not await person.consented("register"):
        return (
            f"The rating would be {colour_of(flag)}; it is not put on the register, because no "
            "consent to be on it is recorded"
        )
    known = await records.get("Flag", flag["id"])
    if known is not None and known["status"] != "active":
        return f"The rating {colour_of(flag)} for this stay has been superseded already"
    active = await person.active_ratings()
    newer = [other for other in active if _since(other) > _since(flag)]
    if newer:
        return f"A later rating stands: {colour_of(newer[0])} ({reference_to(newer[0])})"
    for other in active:
        if other["id"] != flag["id"]:
            await records.save(_ended(other, since(flag["period"]["start"]), "superseded"))
    await records.save(flag)
    return f"The rating is {colour_of(flag)}: {reference_to(flag)}"


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
    period = {**flag.get("period", {}), "end": local_time(max(at, _since(flag)))}
    ended = {**flag, "status": "inactive", "period": period}
    return with_extension(ended, reason_extension)


def _since(flag: Resource) -> int:
    return since(flag.get("period", {}).get("start"))
