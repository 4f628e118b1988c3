"""`python -m loadtests.soak --minutes 60`: does the server's memory stay as it is?

A mixture of reads, searches and writes at a fixed rate, the resident memory of the server every
few seconds, a plot of it, and the slope of a line through what came after the first part, in
which caches fill. Exit status 1 where it rises by more than what is allowed.
"""

import asyncio
import math
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Final

import click

from loadtests.arrivals import arriving
from loadtests.bench import report
from loadtests.bench.servers import Options, Ours, ours
from loadtests.client import Make, load
from loadtests.mixture import mixture

_WARM: Final = 1 / 3
"""The share of the time in which caches fill."""
_EVERY: Final = 10.0
"""Seconds of a piece, after which memory is looked at."""
_WIDTH: Final = 720
_HEIGHT: Final = 260
_EDGE: Final = 50

Sample = tuple[float, float]
"""Minutes from the start, and megabytes."""


@dataclass(frozen=True, slots=True)
class Slope:
    """Megabytes an hour, and the standard error of that."""

    an_hour: float
    error: float

    def verdict(self, allowed: float) -> str:
        """Met where it cannot be told from what is allowed, by two standard errors; a run in
        which nothing could be told meets nothing."""
        if self.error > allowed:
            return "not known: the run is too short to tell"
        return "met" if self.an_hour - 2 * self.error <= allowed else "missed"


@click.command()
@click.option("--minutes", default=60.0, show_default=True)
@click.option("--rate", default=50.0, show_default=True, help="Requests a second.")
@click.option("--warm", default=60.0, show_default=True, help="Seconds of all it can do, before.")
@click.option("--resources", default=10_000, show_default=True)
@click.option("--token", is_flag=True, help="With tokens, policy and audit.")
@click.option("--allowed", default=6.0, show_default=True, help="Megabytes an hour.")
@click.option("--results", default="bench-results", type=click.Path(path_type=Path))
def main(
    minutes: float,
    rate: float,
    warm: float,
    resources: int,
    token: bool,
    allowed: float,
    results: Path,
) -> None:
    """Keep a server at work, and look at its memory."""
    options = Options(resources, token=token)
    with tempfile.TemporaryDirectory() as folder, ours(options, Path(folder)) as server:
        _fill(server, warm)
        samples, arrivals, failed = _soaked(server, minutes, rate)
    found = slope(samples)
    verdict = "missed, as requests failed" if failed else found.verdict(allowed)
    each = ", ".join(f"{count} with {status}" for status, count in sorted(failed.items()))
    statuses = f" ({each})" if each else ""
    click.echo(
        f"{options}; {rate:g} requests a second for {minutes:g} minutes: {arrivals} requests, "
        f"{failed.total()} failed{statuses}; {samples[0][1]:.0f} MB at first, "
        f"{samples[-1][1]:.0f} MB in the end\n"
        f"after {minutes * _WARM:.1f} minutes {found.an_hour:+.1f} MB an hour (standard error "
        f"{found.error:.1f}, allowed {allowed:g}): {verdict}"
    )
    told = {"options": str(options), "rate": rate, "samples": samples, "failed": failed}
    path = report.save(results, "soak", told)
    path.with_suffix(".svg").write_text(plot(samples, f"{rate:g} requests a second"))
    click.echo(f"{path}\n{path.with_suffix('.svg')}")
    if verdict != "met":
        raise SystemExit(1)


def _fill(server: Ours, seconds: float) -> None:
    """Let caches fill: of pages of the store, of sessions, of what is compiled once."""
    if seconds:
        make = mixture(server.data, server.target)
        asyncio.run(load(server.target.base, make, connections=16, seconds=seconds))


def _soaked(server: Ours, minutes: float, rate: float) -> tuple[list[Sample], int, Counter[int]]:
    """Memory by time, how many requests there were, and how many failed by status (0: none)."""
    make, began = mixture(server.data, server.target), time.monotonic()
    samples, count = [(0.0, server.megabytes())], 0
    failed: Counter[int] = Counter()
    while (passed := time.monotonic() - began) < minutes * 60:
        seconds, first = min(_EVERY, minutes * 60 - passed + 1), count
        piece = arriving(server.target.base, _from(make, first), rate, seconds)
        count += len(piece)
        failed.update(one.status for one in piece if not one.succeeded)
        samples.append(((time.monotonic() - began) / 60, server.megabytes()))
    return samples, count, failed


def _from(make: Make, first: int) -> Make:
    return lambda number: make(first + number)


def slope(samples: Sequence[Sample]) -> Slope:
    """Of the line of least squares through what came after the first part."""
    start = samples[-1][0] * _WARM
    late = [one for one in samples if one[0] >= start]
    if len(late) < 3:
        return Slope(0.0, math.inf)
    times, sizes = [one[0] / 60 for one in late], [one[1] for one in late]
    middle, size = mean(times), mean(sizes)
    spread = sum((one - middle) ** 2 for one in times)
    pairs = zip(times, sizes, strict=True)
    found = sum((when - middle) * (much - size) for when, much in pairs) / spread
    rest = sum(
        (much - size - found * (when - middle)) ** 2
        for when, much in zip(times, sizes, strict=True)
    )
    return Slope(found, math.sqrt(rest / (len(late) - 2) / spread))


def plot(samples: Sequence[Sample], title: str) -> str:
    """A line of memory by time, as SVG."""
    minutes = max(one[0] for one in samples) or 1.0
    most = max(one[1] for one in samples) * 1.1
    points = " ".join(
        f"{_EDGE + when / minutes * _WIDTH:.1f},{_EDGE + _HEIGHT * (1 - much / most):.1f}"
        for when, much in samples
    )
    bottom, right = _EDGE + _HEIGHT, _EDGE + _WIDTH
    style = 'font-family="sans-serif" font-size="13"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{right + _EDGE}" '
        f'height="{bottom + _EDGE}" {style}>'
        f'<text x="{_EDGE}" y="30">Resident memory: {title}</text>'
        f'<path d="M{_EDGE},{_EDGE} V{bottom} H{right}" fill="none" stroke="#555"/>'
        f'<polyline points="{points}" fill="none" stroke="#005eb8" stroke-width="2"/>'
        f'<text x="4" y="{_EDGE + 12}">{most:.0f} MB</text>'
        f'<text x="{right - 60}" y="{bottom + 20}">{minutes:.0f} minutes</text></svg>\n'
    )


if __name__ == "__main__":
    main()
