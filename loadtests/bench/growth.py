"""How cost grows: each line at two sizes or more, with as much in the answer at each.

Cost is processor time of the server for a request, which other work on the machine disturbs less
than the time of an answer. Printed is the factor for ten times the size. No line may be worse than
the logarithm of its size.
"""

import asyncio
import json
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, Final

import click

from loadtests.bench import report
from loadtests.bench.asking import Refused, raw, tried
from loadtests.bench.cases import CASES, anew
from loadtests.bench.passes import Terms
from loadtests.bench.servers import Options, Ours, ours
from loadtests.client import Make, load

NOISE: Final = 1.15
"""What two measurements of the same may differ by."""
_FEWEST: Final = 300
"""Resources of the smaller store: fewer have no page of plans."""


_FEW: Final = 5
_SEARCHES: Final = ("search page of 20, anew", "chained search, anew", "include, anew")


@dataclass(frozen=True, slots=True)
class Line:
    """Something that grows, and what is asked for at each of its sizes."""

    name: str
    sizes: Sequence[int]
    prepare: Callable[[Ours, int], Make]


@dataclass(frozen=True, slots=True)
class Grown:
    """Microseconds of processor time for a request, by size."""

    name: str
    costs: Mapping[int, float]
    refused: str = ""

    @property
    def factor(self) -> float:
        """For ten times the size."""
        small, large = min(self.costs), max(self.costs)
        ratio = self.costs[large] / self.costs[small]
        return float(ratio ** (1 / math.log10(large / small)))

    @property
    def bound(self) -> float:
        """The factor of what grows as the logarithm of the size."""
        small, large = max(2, min(self.costs)), max(self.costs)
        return float((math.log(large) / math.log(small)) ** (1 / math.log10(large / small)))

    @property
    def is_sound(self) -> bool:
        return not self.refused and self.factor <= self.bound * NOISE

    def figures(self) -> dict[str, object]:
        costs = {str(size): cost for size, cost in self.costs.items()}
        return {"name": self.name, "costs_us": costs, "refused": self.refused or None}

    def __str__(self) -> str:
        if self.refused:
            return f"{self.name:34} left out: {self.refused}"
        costs = ", ".join(f"{size:,}: {cost:.0f} us" for size, cost in self.costs.items())
        verdict = "met" if self.is_sound else "missed"
        return f"{self.name:34}{self.factor:6.2f}{self.bound:8.2f} {verdict:8} {costs}"


def _case(name: str) -> Callable[[Ours, int], Make]:
    """A case of the table, on the server of that size."""
    case = next(case for case in CASES if case.name == name)
    return lambda server, _: case.prepare(server.data, server.target)


def _asking(path: str) -> Callable[[Ours, int], Make]:
    """Pages of five, in other words each time: one that is given again costs the same of any store.

    A store that has fewer is no measure for one that has a page of them.
    """
    asked = anew(lambda _: [f"{path}&_count={_FEW}"])

    def prepare(server: Ours, _: int) -> Make:
        make = asked(server.data, server.target)
        tried(make(0), server.target.base, entries=_FEW)
        return make

    return prepare


def _whole(small: int, large: int) -> list[Line]:
    """Lines whose sizes are servers of their own."""
    sizes = (small, large)
    return [
        *(
            Line(f"resources: {name}", sizes, _case(name))
            for name in ("read", *_SEARCHES, "create")
        ),
        Line("register: active episodes", sizes, _asking("EpisodeOfCare?status=active")),
        Line("register: red flags", sizes, _asking("Flag?code=red&status=active")),
        Line("register: $admission-risk", sizes, _case("$admission-risk")),
        Line("register: admission message", sizes, _case("admission message")),
    ]


def _team(number: int) -> Callable[[Ours, int], Make]:
    """Reads of a plan (0) or creates of one (1) whose care team has so many members."""

    def prepare(server: Ours, size: int) -> Make:
        plan = server.data.plans[size % 7]
        team = str(plan["careTeam"][0]["reference"])
        stored = tried(raw("GET", server.target, team), server.target.base)
        found = stored.resource
        members = found["participant"]
        found["participant"] = [members[place % len(members)] for place in range(size)]
        _put(server, found, stored.headers["etag"])
        new = {name: value for name, value in plan.items() if name != "id"}
        asked = (
            raw("GET", server.target, f"CarePlan/{plan['id']}"),
            raw("POST", server.target, "CarePlan", json.dumps(new).encode()),
        )[number]
        return lambda _: asked

    return prepare


def _put(server: Ours, resource: Mapping[str, Any], etag: str = "") -> str:
    """Store it; its ETag."""
    path = f"{resource['resourceType']}/{resource['id']}"
    headers = [f"If-Match: {etag}"] if etag else []
    body = json.dumps(resource).encode()
    sent = raw("PUT", server.target, path, body, headers)
    return tried(sent, server.target.base).headers["etag"]


def _history(path: str) -> Callable[[Ours, int], Make]:
    """GETs of that path below a Task that has so many versions."""

    def prepare(server: Ours, size: int) -> Make:
        name = _with_versions(server, size)
        sent = raw("GET", server.target, f"{name}{path}")
        return lambda _: sent

    return prepare


def _with_versions(server: Ours, size: int) -> str:
    """The name of a Task that is written so many times, once for all lines."""
    task = {
        "resourceType": "Task",
        "id": f"bench-history-{size}",
        "status": "requested",
        "intent": "order",
        "for": {"reference": f"Patient/{server.data.patients[-1]}"},
    }
    name = f"Task/{task['id']}"
    try:
        tried(raw("GET", server.target, f"{name}/_history/{size}"), server.target.base)
    except Refused:
        for number in range(size):
            _put(server, {**task, "description": f"Version {number}"})
    return name


def _update(server: Ours, size: int) -> Make:
    """Updates of a Task with so many versions, each to another content."""
    name = _with_versions(server, size)
    task = tried(raw("GET", server.target, name), server.target.base).resource
    bodies = (
        json.dumps({**task, "description": f"Further {number}"}).encode() for number in range(10**9)
    )
    return lambda _: raw("PUT", server.target, name, next(bodies))


def _page(server: Ours, size: int) -> Make:
    """The page of that number, by the links that lead to it."""
    reply = tried(raw("GET", server.target, "Task?_count=10"), server.target.base)
    for _ in range(size - 1):
        links = {link["relation"]: link["url"] for link in reply.resource["link"]}
        if "next" not in links:
            raise Refused(f"there is no page {size}")
        path = links["next"].removeprefix(server.target.base).lstrip("/")
        sent = raw("GET", server.target, path)
        reply = tried(sent, server.target.base)
    return lambda _: sent


WITHIN: Final = (
    Line("care team: read of the plan", (10, 100), _team(0)),
    Line("care team: create of a plan", (10, 100), _team(1)),
    Line("history: read", (10, 100, 1000), _history("")),
    Line("history: first version", (10, 100, 1000), _history("/_history/1")),
    Line("history: page of 10", (10, 100, 1000), _history("/_history?_count=10")),
    Line("history: update", (10, 100, 1000), _update),
    Line("depth: page of 10", (2, 20, 100), _page),
)
"""Lines whose sizes are on one server."""


def measured(options: Options, terms: Terms, results: Path, only: str = "") -> None:
    """Print the lines, and save them."""
    large = options.resources
    small = max(_FEWEST, large // 10)
    if small * 2 > large:
        raise click.UsageError(f"--growth needs --resources of {_FEWEST * 2} at the least")
    lines = (*_whole(small, large), *WITHIN)
    if not any(only.lower() in line.name.lower() for line in lines):
        names = ", ".join(line.name for line in lines)
        raise click.UsageError(f"No line has '{only}' in its name: {names}")
    click.echo(f"{options}; cost as processor time of the server for a request")
    click.echo(f"{'':34}{'x10':>6}{'log':>8}")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        servers = {
            size: running.enter_context(_sized(options, size, Path(folder) / str(size)))
            for size in (small, large)
        }
        grown: list[Grown] = []
        for line in _whole(small, large):
            grown += _told(line, servers, terms, only)
        for line in WITHIN:
            grown += _told(line, dict.fromkeys(line.sizes, servers[large]), terms, only)
    figures = [one.figures() for one in grown]
    path = report.save(results, "growth", {"terms": asdict(terms), "lines": figures})
    worse = ", ".join(one.name for one in grown if not one.is_sound)
    click.echo(f"worse than logarithmic: {worse or 'none'}\n{path}")


def _sized(options: Options, size: int, place: Path) -> Any:
    place.mkdir()
    return ours(replace(options, resources=size), place)


def _told(line: Line, servers: Mapping[int, Ours], terms: Terms, only: str) -> Iterator[Grown]:
    if only.lower() not in line.name.lower():
        return
    try:
        grown = Grown(line.name, _costs(line, servers, terms))
    except Refused as refusal:
        grown = Grown(line.name, {}, str(refusal))
    except (OSError, EOFError, ValueError) as error:
        grown = Grown(line.name, {}, f"broke off: {error!r}")
    click.echo(str(grown))
    yield grown


def _costs(line: Line, servers: Mapping[int, Ours], terms: Terms) -> dict[int, float]:
    """The sizes in turn, so that what else the machine does is in all of them."""
    made = {size: line.prepare(servers[size], size) for size in line.sizes}
    found: dict[int, list[float]] = {size: [] for size in line.sizes}
    for number in range(terms.rounds + 1):
        for size in line.sizes:
            cost = _cost(servers[size], made[size], terms)
            if number:  # the first round warms up
                found[size].append(cost)
    return {size: median(costs) for size, costs in found.items()}


def _cost(server: Ours, make: Make, terms: Terms) -> float:
    """Microseconds of processor time for each request.

    Raises:
        Refused: one failed.
    """
    before = server.cpu()
    run = asyncio.run(load(server.target.base, make, connections=4, seconds=terms.seconds))
    if run.failed or not run.times:
        raise Refused(f"{run.failed} of {run.failed + len(run.times)} requests failed")
    return (server.cpu() - before) / len(run.times) * 1e6
