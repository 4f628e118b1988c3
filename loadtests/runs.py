"""What is read from the raw data of one run, and worked out of it."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtests import plan as plans
from loadtests import samples as raw
from loadtests import thresholds
from loadtests.capacity import (
    Capacity,
    Measured,
    at_peak,
    cores,
    knee,
    measured,
    numbers,
    percentile,
)
from loadtests.plan import Plan
from loadtests.playing import scenarios_of
from loadtests.samples import Began, Sample, Use


@dataclass(frozen=True, slots=True)
class Run:
    """One run against one server."""

    name: str
    plan: Plan
    samples: Sequence[Sample]
    uses: Sequence[Use]
    """By the server; empty where it is not ours."""
    by_load: Sequence[Use]
    by_machine: Sequence[Use]
    """By everything that ran, the two above included."""
    began: Sequence[Began]
    steps: Sequence[Measured]
    capacity: Capacity
    workers: int
    """Processes of the server; 0 where it is not ours to start."""
    notices: Mapping[str, int]

    @property
    def other_cores(self) -> float:
        """What neither the server nor the load took of the machine; nan where nobody looked."""
        own = [cores(one) for one in (self.uses, self.by_load) if one]
        return cores(self.by_machine) - sum(own)

    @property
    def start(self) -> float:
        return self.began[0].at

    @property
    def end(self) -> float:
        return self.start + sum(step.seconds for step in self.plan.steps)


class NothingMeasured(Exception):
    """There is no raw data of a run in the folder."""


def read(folder: Path, told: Mapping[str, Any]) -> Run:
    """Of the folder of a run, with thresholds for the knee.

    Raises:
        NothingMeasured: nothing was asked there.
    """
    plan = plans.read(folder / "plan.json")
    samples, uses, began = raw.samples(folder), raw.uses(folder), raw.began(folder)
    if not samples or not began:
        raise NothingMeasured(f"{folder}: no requests were made{_last_words(folder)}")
    end = began[0].at + sum(step.seconds for step in plan.steps)
    steps = measured(began, end, samples, uses)
    requests = Counter(one.scenario for one in samples)
    young_people = plan.asked.young_people
    peak = at_peak(scenarios_of(plan), requests, raw.actions(folder), young_people)
    capacity = Capacity(knee(steps, thresholds.limits(told)), peak, plan.asked.boards)
    return Run(
        name=folder.name,
        plan=plan,
        samples=samples,
        uses=uses,
        by_load=raw.uses(folder, raw.LOAD),
        by_machine=raw.uses(folder, raw.MACHINE),
        began=began,
        steps=steps,
        capacity=capacity,
        workers=plan.workers,
        notices=raw.notices(folder),
    )


def _last_words(folder: Path) -> str:
    """What broke, if something did, and where there is more of it."""
    log = folder / "load.log"
    if not log.exists():
        return ""
    lines = log.read_text(errors="replace").splitlines()
    broke = [line.partition("ERROR/")[2] for line in lines if "/ERROR/" in line]
    return f": {broke[0][:300]} ({log})" if broke else f"; see {log}"


def held(run: Run, told: Mapping[str, Any]) -> list[thresholds.Held]:
    """The thresholds, for a run."""
    step = thresholds.steady(run.steps, told["steady"]["users"])
    place = list(run.steps).index(step)
    start = run.began[place].at
    end = run.began[place + 1].at if place + 1 < len(run.began) else run.end
    during = [one for one in run.samples if start <= one.at < end]
    every = run.samples
    return [*thresholds.held(told, step, during, every, run.capacity, _memory(run))]


def _memory(run: Run) -> float | None:
    """The most that a process of the server had, on the average of them."""
    if not run.workers:
        return None
    return max((one.megabytes for one in run.uses), default=float("nan")) / run.workers


@dataclass(frozen=True, slots=True)
class Named:
    """All requests of one name."""

    name: str
    scenario: str
    requests: int
    p50: float
    p95: float
    p99: float
    faults: int
    store: float


def by_name(samples: Sequence[Sample]) -> Iterator[Named]:
    groups: dict[tuple[str, str], list[Sample]] = {}
    for one in samples:
        groups.setdefault((one.scenario, one.name), []).append(one)
    for (scenario, name), some in sorted(groups.items()):
        times = sorted(one.ms for one in some)
        store = [one.store for one in some if one.store >= 0]
        yield Named(
            name=name,
            scenario=scenario,
            requests=len(some),
            p50=percentile(times, 50),
            p95=percentile(times, 95),
            p99=percentile(times, 99),
            faults=sum(bool(one.fault) for one in some),
            store=sum(store) / len(store) if store else float("nan"),
        )


def faults(samples: Sequence[Sample]) -> Counter[tuple[str, str]]:
    """Request and fault to how often."""
    return Counter((one.name, one.fault) for one in samples if one.fault)


def seconds(run: Run) -> dict[int, list[Sample]]:
    """The samples by the second of the run in which they were sent."""
    found: dict[int, list[Sample]] = {}
    for one in run.samples:
        if run.start <= one.at < run.end:
            found.setdefault(int(one.at - run.start), []).append(one)
    return found


def told_of(run: Run) -> dict[str, Any]:
    """For a file of raw data."""
    capacity, found = run.capacity, run.capacity.knee
    return {
        "name": run.name,
        "workers": run.workers,
        "base": run.plan.base,
        "young_people": run.plan.asked.young_people,
        "steps": [numbers(step) for step in run.steps],
        "knee": {"rate": found.rate, "users": found.users, "found": found.found, "why": found.why},
        "peak": dict(capacity.peak),
        "share_of_peak": capacity.share,
        "requests": [
            {
                "name": one.name,
                "scenario": one.scenario,
                "requests": one.requests,
                "p50": one.p50,
                "p95": one.p95,
                "p99": one.p99,
                "faults": one.faults,
                "store": one.store,
            }
            for one in by_name(run.samples)
        ],
        "faults": [
            {"name": name, "fault": fault, "count": count}
            for (name, fault), count in faults(run.samples).most_common()
        ],
        "other_cores": run.other_cores,
        "notices": dict(run.notices),
    }
