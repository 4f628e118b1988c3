"""The stays of one young person as all that was told has them, each with when it was."""

from dataclasses import dataclass, replace
from typing import Final

from fhir_server.fhir.dates import interval
from fhir_server.fhir.json import Resource
from operations._event import Event
from operations._happenings import Journal, Outcome, known_right, outcome_of
from operations._leaving import died, left_for_hospital
from operations._person import CLOCKS_DIFFER, OPEN_STAY, since, status_of

NEVER: Final = 2**62
_LONG_AGO: Final = interval("1900").low


@dataclass(frozen=True, slots=True)
class KnownStay:
    """One that has begun."""

    event: Event
    """Its beginning."""
    left: int
    """When they were not there any more, or never; in microseconds since the epoch."""
    was_admission_told: bool
    """Not so where word came of the end alone."""

    @property
    def resource(self) -> Resource:
        return self.event.stay

    @property
    def began(self) -> int:
        return self.event.at

    @property
    def leads_home(self) -> bool:
        """Whether it is over, and by itself has nobody in hospital any more."""
        stay = self.resource
        return self.left != NEVER and not left_for_hospital(stay) and not died(stay)

    def outlasts(self, other: "KnownStay") -> bool:
        """Whether they were in this one when the other ended; of two that end at once, in one."""
        left = NEVER if died(self.resource) else self.left
        is_last = (left, self.began, self.resource["id"]) > (
            other.left,
            other.began,
            other.resource["id"],
        )
        return is_last and self.began <= other.left

    def until(self, death: int | None) -> "KnownStay":
        """As it was by then: who dies in hospital does not come home from there."""
        return self if death is None or self.left <= death else replace(self, left=NEVER)


async def known_stays(event: Event) -> list[KnownStay]:
    """All that count of whom the event is about, in the order in which they began."""
    told = [one for one in await event.person.stays() if status_of(one) in (*OPEN_STAY, "finished")]
    stays = [await _known(event, one) for one in told]
    last = event.person.now + CLOCKS_DIFFER
    counting = [one for one in stays if _LONG_AGO <= one.began <= last]
    return sorted(counting, key=lambda one: (one.began, one.resource["id"]))


async def _known(event: Event, stay: Resource) -> KnownStay:
    happenings = await Journal(event.records, stay["id"]).all()
    told = outcome_of(happenings) if happenings else None
    is_open = status_of(stay) in OPEN_STAY
    began = _began(stay, told, event.person.now)
    beginning = replace(
        event,
        stay=stay,
        at=began,
        author=stay.get("serviceProvider", event.author),
        aftercare=await known_right(event.records, stay, None),
        was_death=False,
        went_on=False,
    )
    left = NEVER if is_open else max(began, _left(stay, told, event.person.now))
    was_told = is_open or (told is not None and told.begun is not None)
    return KnownStay(beginning, left, was_told)


def _began(stay: Resource, told: Outcome | None, now: int) -> int:
    if start := stay.get("period", {}).get("start"):
        return since(start)
    if told is None:
        return now
    return told.happening.effect if told.begun is None else told.begun


def _left(stay: Resource, told: Outcome | None, now: int) -> int:
    if end := stay.get("period", {}).get("end"):
        return since(end)
    return now if told is None else told.happening.effect
