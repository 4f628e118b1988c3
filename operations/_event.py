"""One thing that happened to one young person in one stay."""

from dataclasses import dataclass
from datetime import date

from fhir_server.fhir.json import Resource
from fhir_server.operation.records import Records
from operations._person import Person, local_day


@dataclass(frozen=True, slots=True)
class Event:
    """What the effects are made from."""

    records: Records
    person: Person
    stay: Resource
    """As it is now, with what the message says of it."""
    at: int
    """When it happened, in microseconds since the epoch."""
    author: Resource
    """A Reference to who reports it."""
    consented: bool
    """Whether there was a consent to be on the register before the message came."""

    @property
    def day(self) -> date:
        return local_day(self.at)
