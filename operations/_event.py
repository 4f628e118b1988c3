"""One thing that happened to one young person in one stay."""

from dataclasses import dataclass
from datetime import date

from fhir_server.fhir.json import Resource
from fhir_server.operation.pathway import Pathway
from fhir_server.operation.records import Records
from operations._person import Person, local_day


@dataclass(frozen=True, slots=True)
class Told:
    """What a message says of a stay beside the Encounter itself."""

    stay_id: str
    """Of the Encounter that it is about."""
    at: int
    """When what it tells of happened, in microseconds since the epoch."""
    author: Resource
    """A Reference to who sends it."""
    as_stay: frozenset[str]
    """Statuses of an Encounter of any class that its trigger makes a stay in hospital."""
    aftercare: bool | None = None
    """Whether all legal statuses that were told give a right to aftercare; None: not known."""
    begun: int | None = None
    """When the admission was, in microseconds, where one was told of a stay that is over."""


@dataclass(frozen=True, slots=True)
class Event:
    """What the effects are made from."""

    records: Records
    person: Person
    stay: Resource
    """As it is now, with what was told of it."""
    at: int
    """When it happened, in microseconds since the epoch."""
    author: Resource
    """A Reference to who reports it."""
    consented: bool
    """Whether there is a consent to be on the register."""
    pathway: Pathway
    """The numbers that due dates and holds are reckoned with."""
    aftercare: bool | None = None
    """Whether there is a right to aftercare by all that was told; None where that is not known."""
    was_death: bool = False
    """Whether the stay was known to have ended with death before this was told."""
    went_on: bool = False
    """Whether it was known to have led to another hospital."""

    @property
    def day(self) -> date:
        return local_day(self.at)
