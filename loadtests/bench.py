"""`make bench`: the hot paths as a share of a bare ASGI server, in the same run.

Two servers on loopback, the same HTTP server and about the same bytes; pairs alternate, medians
of several rounds are printed, and only successful answers count. Durability, validation and
index are as shipped. The load generator runs on the same machine, and its own ceiling is the
bare server's figure at the most. The check of a resource is measured by itself, and at the end
what access control and the audit cost.
"""

import asyncio
import itertools
import json
import os
import platform
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import click
import uvicorn
from fhir.resources import R4B

from fhir_server.fhir import canonicals
from fhir_server.story import admission
from loadtests import access, checking
from loadtests.client import Make, Run, get, load, post, put
from loadtests.processes import free_port, wait

_PLAN = "kw-synthetic-007-plan"
_KIND = f"category={canonicals.CARE_PLAN_CATEGORY}|keyworking-plan"
_UPDATED = 128
"""Plans that are updated in turn: more than there are connections, so that none meets itself."""
_BARE = """
import sys, uvicorn
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200, "headers": [
        (b"content-type", b"application/fhir+json"), (b"content-length", b"2000")]})
    await send({"type": "http.response.body", "body": b"x" * 2000})
uvicorn.run(app, port=int(sys.argv[1]), access_log=False, log_level="error", lifespan="off")
"""


@click.command()
@click.option("--rounds", default=5, show_default=True, help="Pairs of runs of each path.")
@click.option("--seconds", default=2.0, show_default=True, help="Length of one run.")
@click.option("--connections", default=16, show_default=True)
def main(rounds: int, seconds: float, connections: int) -> None:
    """Measure start, memory, and the hot paths."""
    with tempfile.TemporaryDirectory() as folder, _servers(Path(folder)) as (bare, base, process):
        _describe(connections, rounds, seconds)
        click.echo(f"memory after the caseload is loaded: {_memory_mb(process):.0f} MB")
        click.echo(f"start to first answer: {_start_seconds(Path(folder)):.2f} s")
        _measure(bare, base, rounds, seconds, connections)
        _together(base, rounds, seconds)
        _whole(access.Server(base, process.pid), rounds, seconds, connections)
        click.echo(f"memory after the runs: {_memory_mb(process):.0f} MB")
    checking.report()
    access.report()


def _describe(connections: int, rounds: int, seconds: float) -> None:
    click.echo(
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, "
        f"uvicorn {uvicorn.__version__}, SQLite {sqlite3.sqlite_version} (WAL, synchronous=FULL), "
        f"{connections} connections, {rounds} rounds of {seconds:g} s"
    )


def _measure(bare: str, base: str, rounds: int, seconds: float, connections: int) -> None:
    click.echo(
        f"{'':22}{'a second':>10}{'of bare':>9}{'p50 ms':>8}{'p95':>8}{'p99':>8}{'failed':>8}"
    )
    for name, make in _paths(base):
        pairs: list[tuple[Run, Run]] = []
        for number in range(rounds + 1):
            reference = asyncio.run(
                load(bare, lambda _: get(bare), connections=connections, seconds=seconds)
            )
            measured = asyncio.run(load(base, make, connections=connections, seconds=seconds))
            if number:  # the first pair warms up
                pairs.append((reference, measured))
        _report(name, pairs)


def _report(name: str, pairs: list[tuple[Run, Run]]) -> None:
    measured = [run for _, run in pairs]
    ratio = median(run.rate / reference.rate for reference, run in pairs)
    times = "".join(
        f"{median(run.percentile(percent) for run in measured):8.2f}" for percent in (50, 95, 99)
    )
    failed = sum(run.failed for run in measured)
    click.echo(
        f"{name:22}{median(run.rate for run in measured):10.0f}{ratio:9.3f}{times}{failed:8}"
    )


def _together(base: str, rounds: int, seconds: float) -> None:
    """What it brings that commits share a flush to the disk."""
    create = _creates(base, _plans(base))
    ratios = []
    for _ in range(rounds):
        alone, many = (
            asyncio.run(load(base, create, connections=count, seconds=seconds)) for count in (1, 32)
        )
        ratios.append(many.rate / alone.rate)
    click.echo(f"durable creates a second, 32 clients to one: {median(ratios):.1f}")


def _whole(server: access.Server, rounds: int, seconds: float, connections: int) -> None:
    """All processor time of a create, flush and audit included, against parsing it elsewhere."""
    plans = _plans(server.base)
    create, parse = _creates(server.base, plans), R4B.get_fhir_model_class("CarePlan")
    sent, times, ratios = json.dumps(plans[0]), [], []
    for _ in range(rounds):
        before = server.cpu()
        run = asyncio.run(load(server.base, create, connections=connections, seconds=seconds))
        times.append((server.cpu() - before) / len(run.times) * 1e6)
        ratios.append(times[-1] / checking.cpu_of(lambda: parse.model_validate_json(sent)))
    click.echo(
        f"processor time of a whole create: {median(times):.0f} us, {median(ratios):.2f} of what "
        f"fhir.resources.R4B takes to parse its {len(sent)} bytes"
    )


def _paths(base: str) -> Iterator[tuple[str, Make]]:
    read = get(f"{base}/CarePlan/{_PLAN}")
    page = get(f"{base}/Task?status=requested&_count=20")
    search = get(f"{base}/CarePlan?patient=kw-synthetic-007&status=active&_count=20")
    yield "read by id", lambda _: read
    yield "search, few matches", lambda _: search
    yield "search page of 20", lambda _: page
    plans = _plans(base)
    yield "create a CarePlan", _creates(base, plans)
    yield "update with If-Match", _updates(base, plans)
    yield "transaction of 10", _transactions(base, plans)
    yield "admission message", lambda number: post(f"{base}/$process-message", _admission(number))


def _plans(base: str) -> list[dict[str, object]]:
    """Plans as a client sends them, each of another young person."""
    found: Any = _fetched(f"{base}/CarePlan?{_KIND}&status=active&_count=100&_sort=_id")
    whose = {
        entry["resource"]["subject"]["reference"]: entry["resource"] for entry in found["entry"]
    }
    return [
        {name: value for name, value in plan.items() if name not in ("id", "meta")}
        for plan in whose.values()
    ]


def _creates(base: str, plans: list[dict[str, object]]) -> Make:
    """Each about another young person than the one before."""
    sent = [post(f"{base}/CarePlan", json.dumps(plan).encode()) for plan in plans]
    return lambda number: sent[number % len(sent)]


def _updates(base: str, plans: list[dict[str, object]]) -> Make:
    """Each of another plan than those before, whose next version is known by that."""
    own = [_created(base, plans[number % len(plans)]) for number in range(_UPDATED)]
    numbers = itertools.count()

    def make(_: int) -> bytes:
        version, which = divmod(next(numbers), _UPDATED)
        plan = {**own[which], "title": f"As agreed for the {version + 1}th time"}
        return put(f"{base}/CarePlan/{plan['id']}", json.dumps(plan).encode(), version + 1)

    return make


def _transactions(base: str, plans: list[dict[str, object]]) -> Make:
    request = {"method": "POST", "url": "CarePlan"}
    entries = [json.dumps({"resource": plan, "request": request}) for plan in plans]

    def make(number: int) -> bytes:
        of_ten = (entries[(number * 10 + place) % len(entries)] for place in range(10))
        start = '{"resourceType":"Bundle","type":"transaction","entry":['
        return post(base, f"{start}{','.join(of_ten)}]}}".encode())

    return make


def _created(base: str, resource: dict[str, object]) -> dict[str, object]:
    request = urllib.request.Request(  # noqa: S310 - a loopback address
        f"{base}/{resource['resourceType']}",
        json.dumps(resource).encode(),
        {"Content-Type": "application/fhir+json"},
    )
    return _answered(request)


def _admission(number: int) -> bytes:
    """A message about a person and a stay of its own."""
    message = admission(datetime.now(UTC))
    text = json.dumps(message)
    spell = message["entry"][1]["resource"]["identifier"][0]["value"]
    nhs = message["entry"][2]["resource"]["identifier"][0]["value"]
    unique = f"{time.time_ns()}-{number}"
    return text.replace(spell, f"SPELL-{unique}").replace(nhs, f"bench-{unique}").encode()


def _fetched(url: str) -> dict[str, object]:
    return _answered(urllib.request.Request(url))  # noqa: S310 - a loopback address


def _answered(request: urllib.request.Request) -> dict[str, object]:
    with urllib.request.urlopen(request) as answer:  # noqa: S310 - a loopback address
        found: dict[str, object] = json.load(answer)
    return found


@contextmanager
def _servers(folder: Path) -> Iterator[tuple[str, str, subprocess.Popen[bytes]]]:
    bare_port, port = free_port(), free_port()
    bare = subprocess.Popen([sys.executable, "-c", _BARE, str(bare_port)])
    server = _serve(folder, port)
    try:
        base = f"http://127.0.0.1:{port}/fhir"
        wait(f"http://127.0.0.1:{bare_port}/")
        wait(f"{base}/CarePlan/{_PLAN}")
        yield f"http://127.0.0.1:{bare_port}/", base, server
    finally:
        for process in (bare, server):
            process.terminate()
            process.wait(20)


def _serve(folder: Path, port: int) -> subprocess.Popen[bytes]:
    store = f"sqlite:///{folder / 'bench.db'}"
    command = [sys.executable, "-m", "fhir_server.cli", "serve", "--auth", "none"]
    options = ["--port", str(port), "--store", store, "--synthetic-caseload"]
    return subprocess.Popen(
        [*command, *options], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def _start_seconds(folder: Path) -> float:
    """From the start of the process to its first answer, the store being there; median of 3."""
    times = []
    for _ in range(3):
        port = free_port()
        before = time.perf_counter()
        process = _serve(folder, port)
        wait(f"http://127.0.0.1:{port}/fhir/CarePlan/{_PLAN}")
        times.append(time.perf_counter() - before)
        process.terminate()
        process.wait(20)
    return median(times)


def _memory_mb(process: subprocess.Popen[bytes]) -> float:
    """Resident memory, where the system tells it."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return float("nan")
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
