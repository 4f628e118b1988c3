"""What a patient's facts come to, and the moments at which a decision by them may change."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, TypeVar

from fhir_server.access.facts.parts import (
    AnyPart,
    ConsentPart,
    EpisodePart,
    PatientPart,
    Provision,
    RelatedPart,
    Span,
    StayPart,
    TeamPart,
)
from fhir_server.fhir.dates import EARLIEST, LATEST, interval

_Kind = TypeVar("_Kind", bound=AnyPart)
_NONE: Final[Mapping[str, Any]] = MappingProxyType({})
AGES: Final = (13, 16, 18, 25)
"""Review of a parent's access, its end, the adult register, the end of the service."""


@lru_cache(maxsize=65_536)
def birthday(born: str, age: int) -> int:
    """When somebody born on that ISO date comes to that age: in London, as the day begins.

    Who was born on 29 February has birthday on 1 March in other years, as English law counts.
    """
    day = date.fromisoformat(born)
    if day.year + age > date.max.year:
        return LATEST
    try:
        reached = day.replace(year=day.year + age)
    except ValueError:
        reached = date(day.year + age, 3, 1)
    return interval(reached.isoformat()).low


@dataclass(frozen=True, slots=True)
class Facts:
    """By reference; `patient` is None where no Patient is known under the id."""

    patient: PatientPart | None
    related: Mapping[str, RelatedPart]
    episodes: Mapping[str, EpisodePart]
    teams: Mapping[str, TeamPart]
    stays: Mapping[str, StayPart]
    consents: Mapping[str, ConsentPart]
    moments: tuple[int, ...]
    """In order: between two of them nothing changes by time alone."""
    grantees: frozenset[str] = frozenset()
    """All whom they name, and to whom they may matter."""
    size: int = field(default=0, compare=False)
    """Bytes that they take, about."""

    def surely(self, age: int, now: int) -> bool:
        """Whether the patient has come to that age, whichever of the known days they were born."""
        born = self.patient.born if self.patient else None
        return born is not None and birthday(born[1], age) <= now

    def perhaps(self, age: int, now: int) -> bool:
        """Whether the patient may have come to that age; nobody knows without a birthday."""
        born = self.patient.born if self.patient else None
        return born is None or birthday(born[0], age) <= now

    def has_died(self, now: int) -> bool:
        died = self.patient.died if self.patient else None
        return died is not None and died <= now

    def window(self, now: int) -> Span:
        """The time around `now` in which no moment lies."""
        place = bisect_right(self.moments, now)
        low = self.moments[place - 1] if place else EARLIEST
        return Span(low, self.moments[place] if place < len(self.moments) else LATEST)


def facts(
    parts: Mapping[str, AnyPart],
    patient_ref: str,
    grantees: frozenset[str] = frozenset(),
    size: int = 0,
) -> Facts:
    """Of the parts of one patient, by the reference of the resource that each is of."""
    patient = parts.get(patient_ref)
    return Facts(
        patient if isinstance(patient, PatientPart) else None,
        _of_kind(parts, RelatedPart),
        _of_kind(parts, EpisodePart),
        _of_kind(parts, TeamPart),
        _of_kind(parts, StayPart),
        _of_kind(parts, ConsentPart),
        tuple(sorted(set(_moments(parts.values())))),
        grantees,
        size,
    )


def _of_kind(parts: Mapping[str, AnyPart], kind: type[_Kind]) -> Mapping[str, _Kind]:
    found = {ref: part for ref, part in parts.items() if isinstance(part, kind)}
    return found or _NONE


def _moments(parts: Iterable[AnyPart]) -> Iterator[int]:
    for part in parts:
        match part:
            case PatientPart():
                yield from _of_patient(part)
            case ConsentPart():
                yield from (at for at in (part.at, part.assessed) if at is not None)
                yield from _of_rule(part.rule)
            case TeamPart():
                yield from part.period.ends()
                for member in part.members:
                    yield from member.period.ends()
            case RelatedPart() | EpisodePart() | StayPart():
                yield from part.period.ends()


def _of_patient(part: PatientPart) -> Iterator[int]:
    if part.died is not None:
        yield part.died
    for born in part.born or ():
        yield from (birthday(born, age) for age in AGES)


def _of_rule(rule: Provision | None) -> Iterator[int]:
    if rule is not None:
        yield from rule.period.ends()
        for inner in rule.within:
            yield from _of_rule(inner)
