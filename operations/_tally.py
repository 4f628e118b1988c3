"""Counts of people and events in a period, never who they are.

A period is half open, in microseconds since the epoch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from fhir_server.fhir.json import Resource

DAY: Final = 86_400_000_000


@dataclass(frozen=True, slots=True)
class Period:
    low: int
    high: int

    def holds(self, at: int) -> bool:
        return self.low <= at < self.high


@dataclass(frozen=True, slots=True)
class Told:
    """A resource as it is now, and as the server had it when the period ended.

    What was first told later is as it was first told.
    """

    now: Resource
    then: Resource


Record = Mapping[str, Sequence[Told]]
"""The resources about one young person, by type."""


@dataclass(frozen=True, slots=True)
class Sum:
    """Days together, of how many, and the most of one of them."""

    total: float = 0.0
    count: int = 0
    longest: float = 0.0


@dataclass(slots=True)
class Tally:
    counts: dict[str, int] = field(default_factory=dict)
    parts: dict[tuple[str, str], dict[str, int]] = field(default_factory=dict)
    """Of a measure, by one of its stratifiers: how many in each stratum."""
    shares: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Those for whom it holds, and all."""
    days: dict[str, Sum] = field(default_factory=dict)
    day_parts: dict[tuple[str, str], dict[str, Sum]] = field(default_factory=dict)
    keyworkers: dict[str, int] = field(default_factory=dict)

    def count(self, measure: str, **strata: str) -> None:
        self.counts[measure] = self.counts.get(measure, 0) + 1
        for name, stratum in strata.items():
            found = self.parts.setdefault((measure, name.replace("_", "-")), {})
            found[stratum] = found.get(stratum, 0) + 1

    def share(self, measure: str, *, holds: bool) -> None:
        part, whole = self.shares.get(measure, (0, 0))
        self.shares[measure] = (part + holds, whole + 1)

    def took(self, measure: str, low: int, high: int, **strata: str) -> None:
        self.days[measure] = _more(self.days.get(measure), low, high)
        for name, stratum in strata.items():
            found = self.day_parts.setdefault((measure, name.replace("_", "-")), {})
            found[stratum] = _more(found.get(stratum), low, high)

    def held(self, keyworker: str) -> None:
        """One more involvement of a keyworker."""
        self.keyworkers[keyworker] = self.keyworkers.get(keyworker, 0) + 1


def _more(so_far: Sum | None, low: int, high: int) -> Sum:
    before, days = so_far or Sum(), (high - low) / DAY
    return Sum(before.total + days, before.count + 1, max(before.longest, days))
