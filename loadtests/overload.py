"""`python -m loadtests.overload`: twice the work that a server can do, and what comes of it.

First the capacity is found, with as many connections as the server works at at once; then half
of it is asked for, then twice as much, then half again, each at a fixed rate whether answers come
or not. Every create that was acknowledged is looked for afterwards. Exit status 1 where something
is missed.
"""

import asyncio
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import click

from loadtests.arrivals import BROKEN, Arrival, arriving, percentile
from loadtests.bench import report
from loadtests.bench.asking import Target, ask, raw
from loadtests.bench.servers import Options, Ours, ours
from loadtests.client import Make, load
from loadtests.mixture import is_create, mixture

_LATEST: Final = 2000.0
"""Milliseconds that the slowest hundredth of what is answered may take."""
_RECOVERED: Final = 10
"""Seconds after which all is as before."""
_USUAL: Final = 3.0
"""What is as before: nothing refused, and times at most so many times those before."""
_CONNECTIONS: Final = 32
"""With which the capacity is found: as many as the server works at at once."""
_LEAST: Final = 50.0
"""Milliseconds below which times are not compared: noise."""


@dataclass(frozen=True, slots=True)
class Checked:
    """Something that has to hold, and whether it does."""

    what: str
    found: str
    met: bool

    def __str__(self) -> str:
        return f"{'met' if self.met else 'missed':8}{self.what}: {self.found}"


@click.command()
@click.option("--resources", default=10_000, show_default=True)
@click.option("--seconds", default=20.0, show_default=True, help="Of too much work.")
@click.option("--times", default=2.0, show_default=True, help="The capacity.")
@click.option("--workers", default=1, show_default=True)
@click.option("--token", is_flag=True, help="With tokens, policy and audit.")
@click.option("--results", default="bench-results", type=click.Path(path_type=Path))
def main(
    resources: int, seconds: float, times: float, workers: int, token: bool, results: Path
) -> None:
    """Ask a server for more than it can do."""
    options = Options(resources, workers, token)
    click.echo(", ".join(f"{name} {value}" for name, value in report.machine().items()))
    click.echo(str(options))
    with tempfile.TemporaryDirectory() as folder, ours(options, Path(folder)) as server:
        checked = _overloaded(server, seconds, times)
    for one in checked:
        click.echo(str(one))
    told = [asdict(one) for one in checked]
    click.echo(report.save(results, "overload", {"options": str(options), "checked": told}))
    if not all(one.met for one in checked):
        raise SystemExit(1)


def _overloaded(server: Ours, seconds: float, times: float) -> list[Checked]:
    base, make = server.target.base, mixture(server.data, server.target)
    capacity = _capacity(base, make, seconds)
    click.echo(f"capacity: {capacity:.0f} requests a second")
    before = arriving(base, make, capacity / 2, seconds / 2)
    tell("half of it, before", before)
    during = arriving(base, make, capacity * times, seconds)
    tell(f"{times:g} times", during)
    after = arriving(base, make, capacity / 2, _RECOVERED + 5.0)
    tell("half of it, after", after)
    lost = _lost(server.target, before, during, after)
    return [*judged(before, during, after, capacity), lost]


def _capacity(base: str, make: Make, seconds: float) -> float:
    """Requests a second, at best: what is compiled when it is first met is not in it."""
    runs = [
        asyncio.run(load(base, make, connections=_CONNECTIONS, seconds=seconds / 4))
        for _ in range(4)
    ]
    return max(run.rate for run in runs[1:])


def tell(name: str, arrivals: Sequence[Arrival]) -> None:
    """A line about a phase."""
    statuses = Counter(one.status for one in arrivals)
    told = ", ".join(f"{status or 'broken'} {count}" for status, count in statuses.most_common())
    good = [one.milliseconds for one in arrivals if one.succeeded]
    times = " ".join(f"p{percent} {percentile(good, percent):.0f}" for percent in (50, 95, 99))
    refused = percentile([one.milliseconds for one in arrivals if one.status == 503], 50)
    late = percentile([one.late for one in arrivals], 99)
    click.echo(
        f"{name}: {told}; answered in ms {times}; refusals p50 {refused:.0f} ms; "
        f"the generator was late by {late:.0f} ms at p99"
    )


def judged(
    before: Sequence[Arrival], during: Sequence[Arrival], after: Sequence[Arrival], capacity: float
) -> list[Checked]:
    """What has to hold of the three phases."""
    good = [one for one in during if one.succeeded]
    refused = [one for one in during if not one.succeeded]
    slowest = percentile([one.milliseconds for one in good], 99)
    told = sum(one.status == 503 and one.header(b"retry-after").isdigit() for one in refused)
    seconds = max((one.due for one in during), default=0.0) or 1.0
    share = len(good) / seconds / capacity
    back = recovered(before, after)
    return [
        Checked("what is answered, p99", f"{slowest:.0f} ms", bool(good) and slowest < _LATEST),
        Checked(
            "the rest is refused with 503 and Retry-After",
            f"{told} of {len(refused)}",
            told == len(refused),
        ),
        Checked("answers, as a share of the capacity", f"{share:.2f}", bool(good)),
        Checked("seconds until all is as before", f"{back}", back <= _RECOVERED),
    ]


def recovered(before: Sequence[Arrival], after: Sequence[Arrival]) -> int:
    """The first second from which on nothing is refused, and times are as before."""
    usual = max(_LEAST, _USUAL * percentile([one.milliseconds for one in before], 95))
    bad = [
        int(second)
        for second in {int(one.due) for one in after}
        if not _is_usual([one for one in after if int(one.due) == second], usual)
    ]
    return max(bad) + 1 if bad else 0


def _is_usual(arrivals: Sequence[Arrival], usual: float) -> bool:
    times = [one.milliseconds for one in arrivals]
    return all(one.succeeded for one in arrivals) and percentile(times, 95) <= usual


def _lost(target: Target, *phases: Sequence[Arrival]) -> Checked:
    """Whether each create that was acknowledged is there."""
    created = [
        one.header(b"location").decode().partition("/fhir/")[2].partition("/_history/")[0]
        for phase in phases
        for number, one in enumerate(phase)
        if is_create(number) and one.status == 201
    ]
    missing = [name for name in created if ask(raw("GET", target, name), target.base).status != 200]
    broken = sum(one.status == BROKEN for phase in phases for one in phase)
    found = f"{len(missing)} of {len(created)} lost, {broken} connections broken"
    return Checked("what was acknowledged is there", found, bool(created) and not missing)


if __name__ == "__main__":
    main()
