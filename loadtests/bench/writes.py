"""Two more figures of creates: what sharing a flush brings, and all processor time of one."""

import asyncio
from collections.abc import Iterator
from statistics import median
from typing import Final

from loadtests.bench import elsewhere
from loadtests.bench.cases import CASES
from loadtests.bench.passes import Terms
from loadtests.bench.servers import Ours
from loadtests.client import load

_CREATE: Final = next(case for case in CASES if case.name == "create")
_TOGETHER: Final = 3.0
_CPU: Final = 0.8


def told(server: Ours, terms: Terms) -> Iterator[str]:
    """A line for each, with its target."""
    yield _together(server, terms)
    yield _whole(server, terms)


def _together(server: Ours, terms: Terms) -> str:
    ratios = []
    for _ in range(terms.rounds):
        alone, many = (_creates(server, count, terms.seconds)[0] for count in (1, 32))
        ratios.append(many / alone if alone else 0.0)
    return f"durable creates, 32 clients to one: {_judged(median(ratios), _TOGETHER, more=True)}"


def _whole(server: Ours, terms: Terms) -> str:
    """Processor time of the server, flush and audit included; of one process alone."""
    sample = _CREATE.prepare(server.data, server.target)(0).partition(b"\r\n\r\n")[2]
    there = elsewhere.cost(sample, b"") or float("nan")
    times = [_creates(server, terms.connections, terms.seconds)[1] for _ in range(terms.rounds)]
    ratio = median(times) / there
    return (
        f"processor time of a whole create: {median(times):.0f} us, "
        f"{_judged(ratio, _CPU, more=False)} of what fhir.resources takes to parse it"
    )


def _creates(server: Ours, connections: int, seconds: float) -> tuple[float, float]:
    """Creates a second, and microseconds of the server's processor time for each."""
    make, before = _CREATE.prepare(server.data, server.target), server.cpu()
    run = asyncio.run(load(server.target.base, make, connections=connections, seconds=seconds))
    return run.rate, (server.cpu() - before) / max(1, len(run.times)) * 1e6


def _judged(value: float, target: float, *, more: bool) -> str:
    met = value >= target if more else value <= target
    return f"{value:.2f} (target {target:g}, {'met' if met else 'missed'})"
