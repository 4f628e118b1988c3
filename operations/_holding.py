"""What holds a rating up: blue while in hospital, red for some days after discharge.

Nobody sets it lower by accident: who does so on purpose says in which role, and why.
"""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from fhir_server.fhir import canonicals
from fhir_server.fhir.canonicals import AMBER, BLUE, GREEN, RED
from fhir_server.fhir.json import Resource
from fhir_server.operation.records import reference_to
from operations._leaving import died, left_for_hospital
from operations._person import Person, begun, extension, local_day, since, status_of

RANK: Final = {BLUE: 4, RED: 3, AMBER: 2, GREEN: 1}


@dataclass(frozen=True, slots=True)
class Overridden:
    """What an operation tells the rules: these ratings are lower, or end, on purpose."""

    flag_ids: frozenset[str]


@dataclass(frozen=True, slots=True)
class Hold:
    """The lowest colour that may be given now, and why."""

    colour: str
    why: str
    until: str = ""
    """The first day on which it does not hold any more; '' where that is not known."""
    since: int = 0
    """When what holds it began, in microseconds since the epoch."""

    def forbids(self, colour: str | None) -> bool:
        """Whether the colour is lower; None is that of no rating."""
        return colour is None or RANK[colour] < RANK[self.colour]


async def hold_of(person: Person, days: int, before: Resource | None = None) -> Hold | None:
    """What holds now, None where nothing does.

    Args:
        days: for which a discharge does.
        before: a rating that may say itself until when it is held.
    """
    stays = await person.open_stays()
    if stays:
        where, first = reference_to(stays[0]), min(map(begun, stays))
        why = f"In hospital ({where}): the rating is blue until the discharge"
        return Hold(BLUE, why, since=first)
    floors = [*await _floors(person, days, before)]
    until, since_ = max(floors, default=("", 0))
    if until <= local_day(person.now).isoformat():
        return None
    why = f"Discharged not long ago: the rating is red at least until {until}"
    return Hold(RED, why, until, since_)


async def _floors(person: Person, days: int, before: Resource | None) -> list[tuple[str, int]]:
    """Until which day something holds the rating at red, and since when."""
    found = [
        (until.isoformat(), since(stay["period"]["end"]))
        for stay in await person.stays()
        if (until := held_until(stay, days, person.now)) is not None
    ]
    for flag in [*await person.active_ratings(), *([before] if before else [])]:
        floor = extension(flag, canonicals.MINIMUM_UNTIL_EXTENSION) or {}
        found.append((str(floor.get("valueDate", "")), begun(flag)))
    return found


def held_until(stay: Resource, days: int, now: int) -> date | None:
    """The first day on which this stay does not hold the rating at red; None where none does."""
    left = since(stay.get("period", {}).get("end"))
    if status_of(stay) != "finished" or left_for_hospital(stay) or died(stay):
        return None
    if not 0 < left <= now:
        return None
    until = local_day(left) + timedelta(days=days)
    return until if local_day(now) < until else None
