"""From stepped load to a capacity: how much a server carries, and how much the busiest hour is.

Users of a run begin an action each second, so the load that is offered grows with them. While the
server keeps up, requests grow alike and answers stay quick; the knee is where that ends.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import quantiles
from typing import Any, Final

from loadtests.samples import Began, Sample, Use
from loadtests.scenarios.acting import Scenario

_MIXED: Final = 20
"""Users from whom on each scenario has its part: fewer make other requests, not only fewer."""
_SETTLING: Final = 0.25
"""Of each step, its beginning, in which users come in, is not measured."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A step. Times are in milliseconds, processor time in cores; nan where nothing tells it."""

    users: int
    seconds: float
    requests: int
    p50: float
    p95: float
    p99: float
    faults: int
    cores: float
    megabytes: float
    store: float
    """Mean time a request waited for the store."""

    @property
    def rate(self) -> float:
        """Requests a second, whatever was answered."""
        return self.requests / self.seconds

    @property
    def right(self) -> float:
        """Requests a second that were answered as they had to be."""
        return (self.requests - self.faults) / self.seconds

    @property
    def each(self) -> float:
        """Milliseconds of the server's processor time for a request."""
        return self.cores / self.rate * 1000 if self.requests else float("nan")

    @property
    def fault_share(self) -> float:
        return self.faults / self.requests if self.requests else 0.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What a step has to hold to count as carried."""

    p95_ms: float = 500.0
    faults: float = 0.01
    """Share of requests."""
    keeps_up: float = 0.9
    """Share of the requests that its users would make if answers took no longer than at first."""


@dataclass(frozen=True, slots=True)
class Knee:
    """Where the server stopped to keep up."""

    rate: float
    """Most requests a second that it carried; 0 where it did not carry the first step."""
    users: int
    found: bool
    """Whether a step was too much; if none was, it carries at least the rate."""
    why: str
    """What the first step that was too much broke."""


def percentile(times: Sequence[float], percent: int) -> float:
    if len(times) < 2:
        return times[0] if times else 0.0
    return quantiles(times, n=100, method="inclusive")[percent - 1]


def measured(
    steps: Sequence[Began], end: float, samples: Sequence[Sample], uses: Sequence[Use]
) -> list[Measured]:
    """Each step, from when its users have come in to when the next begins."""
    ends = [*(one.at for one in steps[1:]), end]
    return [
        _measured(began.users, began.at + (until - began.at) * _SETTLING, until, samples, uses)
        for began, until in zip(steps, ends, strict=True)
    ]


def _measured(
    users: int, start: float, end: float, samples: Sequence[Sample], uses: Sequence[Use]
) -> Measured:
    inside = [one for one in samples if start <= one.at < end]
    times = sorted(one.ms for one in inside)
    store = [one.store for one in inside if one.store >= 0]
    during = [one for one in uses if start <= one.at < end]
    return Measured(
        users=users,
        seconds=max(end - start, 1e-9),
        requests=len(inside),
        p50=percentile(times, 50),
        p95=percentile(times, 95),
        p99=percentile(times, 99),
        faults=sum(bool(one.fault) for one in inside),
        cores=cores(during),
        megabytes=max((one.megabytes for one in during), default=float("nan")),
        store=sum(store) / len(store) if store else float("nan"),
    )


def cores(uses: Sequence[Use]) -> float:
    """The mean; nan where there are not two looks."""
    if len(uses) < 2:
        return float("nan")
    first, last = uses[0], uses[-1]
    return (last.cpu - first.cpu) / (last.at - first.at)


def knee(steps: Sequence[Measured], limits: Limits) -> Knee:
    """The last step before the first that is too much."""
    carried: list[Measured] = []
    first = next((one for one in steps if one.users >= _MIXED), None)
    for step in steps:
        why = _broken(step, first, limits)
        if why:
            return Knee(*_most(carried), found=True, why=f"{step.users} users: {why}")
        carried.append(step)
    return Knee(*_most(carried), found=False, why="")


def _most(carried: Sequence[Measured]) -> tuple[float, int]:
    best = max(carried, key=lambda step: step.right, default=None)
    return (best.right, best.users) if best else (0.0, 0)


def _broken(step: Measured, first: Measured | None, limits: Limits) -> str:
    """Why it is too much; `first` is the step by which what is due is known."""
    if step.fault_share > limits.faults:
        return f"{step.fault_share:.1%} of the requests went wrong"
    if step.p95 > limits.p95_ms:
        return f"p95 is {step.p95:.0f} ms, more than {limits.p95_ms:.0f}"
    if first is None or step.users <= first.users:
        return ""
    due = first.rate / first.users * step.users
    if step.rate < limits.keeps_up * due:
        return f"{step.rate:.0f} requests a second, not the {due:.0f} that are due"
    return ""


def at_peak(
    scenarios: Iterable[Scenario],
    requests: Mapping[str, int],
    actions: Mapping[str, int],
    young_people: int,
) -> dict[str, float]:
    """Requests a second of each scenario in the busiest hour of a register of that size.

    Args:
        requests: how many each scenario made in the run.
        actions: how often each was played in it.
    """
    return {
        one.name: one.at_peak(young_people) * requests.get(one.name, 0) / actions[one.name]
        for one in scenarios
        if actions.get(one.name)
    }


@dataclass(frozen=True, slots=True)
class Capacity:
    """How a server stands to the region."""

    knee: Knee
    peak: Mapping[str, float]
    """Requests a second in the busiest hour, by scenario."""
    boards: int

    @property
    def peak_rate(self) -> float:
        return sum(self.peak.values())

    @property
    def share(self) -> float:
        """Of what the server carries, what the region's busiest hour takes."""
        return self.peak_rate / self.knee.rate if self.knee.rate else float("inf")

    @property
    def regions(self) -> float:
        """How many boards of this size it would carry at once."""
        return self.boards / self.share if self.share else 0.0


def gain(one: Knee, more: Knee) -> float:
    """What more workers carry, to what one does."""
    return more.rate / one.rate if one.rate else float("nan")


def numbers(step: Measured) -> dict[str, Any]:
    """For a file of raw data."""
    names = ("users", "seconds", "requests", "p50", "p95", "p99", "faults", "cores", "megabytes")
    told = {name: getattr(step, name) for name in names}
    return told | {"store": step.store, "rate": step.rate, "each": step.each}
