"""The stays of one young person that count, each with when it was, and whether they have died."""

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from fhir_server.fhir.dates import interval
from fhir_server.fhir.json import Resource
from fhir_server.operation.records import Records
from operations._event import Event
from operations._happenings import Journal, Outcome, outcome_of
from operations._leaving import death_of, died, left_for_hospital
from operations._person import CLOCKS_DIFFER, OPEN_STAY, Person, since, status_of
from operations._plan import plan_of
from operations._rating_flag import death_noted

NEVER: Final = 2**62
_LONG_AGO: Final = interval("1900").low


@dataclass(frozen=True, slots=True)
class KnownStay:
    """One that has begun. Times are in microseconds since the epoch."""

    resource: Resource
    began: int
    left: int
    """When they were not there any more, or never."""

    @property
    def leads_home(self) -> bool:
        """Whether it is over, and by itself has nobody in hospital any more."""
        stay = self.resource
        return self.left != NEVER and not left_for_hospital(stay) and not died(stay)

    def outlasts(self, other: "KnownStay") -> bool:
        """Whether they were in this one when the other ended; of two that end at once, in one."""
        left = NEVER if died(self.resource) else self.left
        mine = left, self.began, self.resource["id"]
        return self.began <= other.left and mine > (
            other.left,
            other.began,
            other.resource["id"],
        )


async def died_at(person: Person, *, but: Resource | None = None) -> int | None:
    """When they died, by whoever tells of it first; `but` is a stay that is not asked.

    When it was first on record, where nobody tells when.
    """
    stays = [one for one in await person.stays() if but is None or one["id"] != but["id"]]
    noted = death_noted(await person.ratings(), person.now)
    return death_of(person.patient, stays, person.now, noted)


async def known_stays(event: Event) -> list[KnownStay]:
    """All that count of whom the event is about, in the order in which they began."""
    told = await event.person.stays()
    own = await event.records.get("Encounter", event.stay["id"]) if event.stay else None
    if own is not None and own["id"] not in {one["id"] for one in told}:
        told.append(own)  # what a message makes a stay, whatever its class
    going = [one for one in told if status_of(one) in (*OPEN_STAY, "finished")]
    stays = [await _known(event, one) for one in going]
    last = event.person.now + CLOCKS_DIFFER
    counting = [one for one in stays if _LONG_AGO <= one.began <= last]
    return sorted(counting, key=lambda one: (one.began, one.resource["id"]))


def by_then(stays: list[KnownStay], death: int | None) -> list[KnownStay]:
    """Those that began by the death, as they were then: nobody comes home who died there."""
    if death is None:
        return stays
    before = [one for one in stays if one.began <= death]
    return [one if one.left <= death else replace(one, left=NEVER) for one in before]


async def _known(event: Event, stay: Resource) -> KnownStay:
    period, is_over = stay.get("period", {}), status_of(stay) == "finished"
    is_whole = "start" in period and ("end" in period or not is_over)
    told = None if is_whole else await outcome(event.records, stay)
    began = since(period["start"]) if "start" in period else _began(event, stay, told)
    if not is_over:
        return KnownStay(stay, began, NEVER)
    left = since(period["end"]) if "end" in period else _effect(event, stay, told)
    return KnownStay(stay, began, max(began, left))


def _began(event: Event, stay: Resource, told: Outcome | None) -> int:
    if told is not None and told.begun is not None:
        return told.begun
    return _effect(event, stay, told)


def _effect(event: Event, stay: Resource, told: Outcome | None) -> int:
    """When what was told last of it took place; now, where no message told of it."""
    if told is not None:
        return told.happening.effect
    return event.at if stay["id"] == event.stay.get("id") else event.person.now


async def outcome(records: Records, stay: Resource) -> Outcome | None:
    """What all that messages told of it comes to; None where none did."""
    told = await Journal(records, stay["id"]).all()
    return outcome_of(told) if told else None


async def had_effects(event: Event, stay: KnownStay) -> bool:
    """Not so that of a stay that was first recorded when it had been over for long."""
    held = timedelta(days=event.pathway.red_hold_days) // timedelta(microseconds=1)
    if stay.left > event.person.now - held or stay.resource["id"] == event.stay.get("id"):
        return True
    return await plan_of(event.person, stay.resource) is not None
