"""`make million`: does a large store answer as quickly as a small one?

Builds two stores of the synthetic region, through the store's own contract in commits of some
hundreds of resources: one of 10,000 resources and one of as many as asked for. Then a server on
each is asked for the same things in turn, A B A B, and the medians are compared: of the rates, and
of the processor time of the server, which other work on the machine disturbs less. Every request is
about another young person, so that no single page of the file answers them all.
"""

import asyncio
import itertools
import json
import os
import platform
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from itertools import islice
from pathlib import Path
from socket import socket
from statistics import median
from typing import Any, Final

import click

from fhir_server.caseload import generate
from fhir_server.storage.interface import Draft, Store, Unit
from fhir_server.storage.sqlite.store import SqliteStore
from loadtests.client import Make, Run, get, load
from loadtests.watching import used

_SMALL: Final = 10_000
_A_COMMIT: Final = 500
_MOST_EACH: Final = 20
"""Fewer resources than any caseload has for each young person."""
_AS_OF: Final = date(2026, 6, 1)


@dataclass(frozen=True, slots=True)
class Built:
    """A store's file, the resources in it and the ids of its Patients."""

    path: Path
    resources: int
    patients: Sequence[str]


@click.command()
@click.option("--resources", default=1_000_000, show_default=True, help="In the large store.")
@click.option("--rounds", default=5, show_default=True, help="Pairs of runs of each path.")
@click.option("--seconds", default=2.0, show_default=True, help="Length of one run.")
@click.option("--connections", default=16, show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), help="Keeps the stores there.")
def main(
    resources: int, rounds: int, seconds: float, connections: int, folder: Path | None
) -> None:
    """Build both stores, and measure reads and searches on each."""
    click.echo(
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, "
        f"SQLite {sqlite3.sqlite_version} (WAL, synchronous=FULL), {connections} connections, "
        f"{rounds} rounds of {seconds:g} s"
    )
    with tempfile.TemporaryDirectory() as temporary:
        place = folder or Path(temporary)
        small, large = (asyncio.run(_built(place, count)) for count in (_SMALL, resources))
        with _served(small) as one, _served(large) as other:
            _compare((small, large), (one, other), rounds, seconds, connections)


async def _built(folder: Path, resources: int) -> Built:
    """A store with so many resources, made where the folder has none that is whole."""
    path = folder / f"region-{resources}.db"
    known = path.with_suffix(".patients.json")
    if known.exists():
        return Built(path, resources, json.loads(known.read_text()))
    path.unlink(missing_ok=True)
    store = SqliteStore(path)
    began = time.perf_counter()
    try:
        patients = await _filled(store, resources)
    finally:
        await store.close()
    took = time.perf_counter() - began
    megabytes = path.stat().st_size / 1e6
    click.echo(
        f"{resources} resources, {len(patients)} young people: built in {took:.0f} s "
        f"({resources / took:.0f} a second), {megabytes:.0f} MB "
        f"({megabytes * 1e6 / resources:.0f} bytes each)"
    )
    known.write_text(json.dumps(patients))
    return Built(path, resources, patients)


async def _filled(store: Store, resources: int) -> list[str]:
    """The ids of the Patients that are whole in the store."""
    patients: list[str] = []
    whole: list[str] = []
    made = islice(_region(resources), resources)
    while chosen := [*islice(made, _A_COMMIT)]:
        await store.commit(_put([Draft(resource) for resource in chosen]))
        whole = [*patients]
        patients += [one["id"] for one in chosen if one["resourceType"] == "Patient"]
    return whole


def _region(resources: int) -> Iterator[dict[str, Any]]:
    """More resources than are needed, as the synthetic caseload has them."""
    for bundle in generate(1, _AS_OF, resources // _MOST_EACH):
        for entry in bundle["entry"]:
            yield entry["resource"]


def _put(drafts: Sequence[Draft]) -> Any:
    async def work(unit: Unit) -> None:
        for draft in drafts:
            await unit.put(draft, "PUT")

    return work


@dataclass(frozen=True, slots=True)
class _Served:
    base: str
    process: subprocess.Popen[bytes]

    @property
    def megabytes(self) -> float:
        """Resident memory, where the system tells it."""
        return used(self.process.pid).megabytes

    @property
    def cpu(self) -> float:
        """Seconds of processor time so far (Linux tells it of any process)."""
        return time.clock_gettime((~self.process.pid << 3) | 2)


@contextmanager
def _served(built: Built) -> Iterator[_Served]:
    with socket() as found:
        found.bind(("127.0.0.1", 0))
        port = int(found.getsockname()[1])
    command = [sys.executable, "-m", "fhir_server.cli", "serve", "--auth", "none"]
    options = ["--port", str(port), "--store", f"sqlite:///{built.path}"]
    process = subprocess.Popen([*command, *options], stderr=subprocess.DEVNULL)
    served = _Served(f"http://127.0.0.1:{port}/fhir", process)
    try:
        _wait(served, built)
        yield served
    finally:
        process.terminate()
        process.wait(20)


def _wait(served: _Served, built: Built) -> None:
    address = f"{served.base}/Patient/{built.patients[0]}"
    for _ in range(300):
        try:
            run = asyncio.run(load(address, lambda _: get(address), connections=1, seconds=0.01))
        except OSError:
            time.sleep(0.1)
        else:
            if run.failed:
                raise click.ClickException(f"{address} is refused")
            return
    raise click.ClickException("The server does not answer")


def _paths(built: Built, base: str) -> dict[str, Make]:
    drawn = random.Random(1).sample(built.patients, len(built.patients))  # noqa: S311 - no secret

    def of(number: int) -> str:
        return drawn[number % len(drawn)]

    words = itertools.count()

    def search(number: int) -> str:
        """In other words each time: a small store has its pages given again, as they were."""
        asked = f"CarePlan?patient={of(number)}&status=active&_count=20"
        return f"{base}/{asked}&_id:not=x{next(words)}"

    return {
        "read by id": lambda number: get(f"{base}/Patient/{of(number)}"),
        "search patient, status": lambda number: get(search(number)),
    }


def _compare(
    built: tuple[Built, Built],
    served: tuple[_Served, _Served],
    rounds: int,
    seconds: float,
    connections: int,
) -> None:
    click.echo(
        f"{'':24}{'small/s':>9}{'large/s':>9}{'time large/small':>18}{'p95 ms':>16}{'failed':>8}"
        f"{'processor µs':>16}{'large/small':>13}"
    )
    paths = [_paths(one, at.base) for one, at in zip(built, served, strict=True)]
    for name in paths[0]:
        pairs: list[list[_Measured]] = []
        for number in range(rounds + 1):
            runs = [
                _measured(at, path[name], connections, seconds)
                for at, path in zip(served, paths, strict=True)
            ]
            if number:  # the first pair warms up
                pairs.append(runs)
        _report(name, pairs)
    memory = ", ".join(f"{at.megabytes:.0f} MB" for at in served)
    click.echo(f"memory of the server after the runs, small and large: {memory}")


@dataclass(frozen=True, slots=True)
class _Measured:
    run: Run
    each: float
    """Microseconds of the server's processor time for a request."""


def _measured(at: _Served, make: Make, connections: int, seconds: float) -> _Measured:
    before = at.cpu
    run = asyncio.run(load(at.base, make, connections=connections, seconds=seconds))
    count = len(run.times) + run.failed
    return _Measured(run, (at.cpu - before) * 1e6 / count if count else float("nan"))


def _report(name: str, pairs: Sequence[Sequence[_Measured]]) -> None:
    ratio = median(small.run.rate / large.run.rate for small, large in pairs)
    rates = "".join(f"{median(pair[n].run.rate for pair in pairs):9.0f}" for n in (0, 1))
    late = " / ".join(f"{median(pair[n].run.percentile(95) for pair in pairs):.2f}" for n in (0, 1))
    failed = sum(one.run.failed for pair in pairs for one in pair)
    each = " / ".join(f"{median(pair[n].each for pair in pairs):.0f}" for n in (0, 1))
    dearer = median(large.each / small.each for small, large in pairs)
    click.echo(f"{name:24}{rates}{ratio:18.2f}{late:>16}{failed:8}{each:>16}{dearer:13.2f}")


if __name__ == "__main__":
    main()
