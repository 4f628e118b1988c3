"""What a run is held against: `thresholds.toml`."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from loadtests.capacity import Capacity, Limits, Measured, percentile
from loadtests.samples import Sample

FILE: Final = Path(__file__).with_name("thresholds.toml")
_PARTS: Final = ("knee", "steady", "always", "capacity")


SHARE: Final = "share that the busiest hour takes"


@dataclass(frozen=True, slots=True)
class Held:
    """One threshold and what was measured."""

    what: str
    limit: float
    found: float

    @property
    def met(self) -> bool:
        """What was not measured (nan) is not met."""
        return self.found <= self.limit


def read(path: Path = FILE) -> dict[str, Any]:
    """Raises ValueError for what is no such file."""
    told = tomllib.loads(path.read_text("utf-8"))
    if sorted(told) != sorted(_PARTS):
        raise ValueError(f"{path} has to have the parts {', '.join(_PARTS)}")
    return told


def limits(told: Mapping[str, Any]) -> Limits:
    return Limits(**told["knee"])


def steady(steps: Sequence[Measured], users: int) -> Measured:
    """The step with the most users up to so many; the first where all have more."""
    return max((one for one in steps if one.users <= users), default=steps[0], key=_users)


def _users(step: Measured) -> int:
    return step.users


def wrong(sample: Sample) -> bool:
    """Answered as it should not be by what it says, which no load excuses."""
    excused = ("status ", "no answer", "no token")
    return bool(sample.fault) and not sample.fault.startswith(excused)


def failed(sample: Sample) -> bool:
    """An error of the server's own. That it has no time now (503) is none."""
    return sample.status >= 500 and sample.status != 503


def held(
    told: Mapping[str, Any],
    step: Measured,
    during: Sequence[Sample],
    every: Sequence[Sample],
    capacity: Capacity,
    megabytes: float | None,
) -> Iterator[Held]:
    """Each threshold.

    Args:
        step: the one that is judged, as `steady` chooses it.
        during: its requests.
        every: the requests of all steps.
        megabytes: the most that a server process had; None for a server that is not ours.
    """
    at = f"{step.users} users: "
    bounds = told["steady"]
    for name in ("p50", "p95", "p99"):
        yield Held(f"{at}{name}, ms", bounds[f"{name}_ms"], getattr(step, name))
    yield Held(f"{at}share of requests that went wrong", bounds["faults"], step.fault_share)
    for name, limit in bounds.get("p95_ms_of", {}).items():
        times = [one.ms for one in during if one.name == name]
        if times:
            yield Held(f"{at}p95 of '{name}', ms", limit, percentile(times, 95))
    always = told["always"]
    yield Held("answers that are wrong by what they say", always["wrong"], _count(wrong, every))
    yield Held("errors of the server's own (5xx)", always["failed"], _count(failed, every))
    if megabytes is not None:
        yield Held("memory of a server process, MB", always["megabytes"], megabytes)
    share = told["capacity"]["share_of_peak"]
    yield Held(SHARE, share, capacity.share)


def _count(what: Any, every: Sequence[Sample]) -> int:
    return sum(map(what, every))
