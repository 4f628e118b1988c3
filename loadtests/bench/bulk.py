"""Export and load: work that is one long request, measured in resources a second."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from fhir_server.fhir import json as fhir_json
from loadtests.bench import elsewhere
from loadtests.bench.asking import Refused, Reply, Target, ask, raw, tried
from loadtests.bench.data import Data, bundles, load
from loadtests.bench.servers import Options, Ours

_POLLED: Final = 0.05
_MOST: Final = 600.0
"""Seconds that an export may take."""


@dataclass(frozen=True, slots=True)
class Bulk:
    """Resources, the seconds that they took, and microseconds of fhir.resources for one of them."""

    name: str
    resources: int
    seconds: float
    elsewhere: float | None = None
    refused: str = ""

    @property
    def rate(self) -> float:
        return self.resources / self.seconds if self.seconds else 0.0

    def __str__(self) -> str:
        if self.refused:
            return f"{self.name:22} left out: {self.refused}"
        told = f"{self.name:22}{self.rate:10.0f} resources a second ({self.resources} of them)"
        if self.elsewhere:
            told += f", {self.rate * self.elsewhere / 1e6:.2f} of fhir.resources alone"
        return told


def export(target: Target, name: str = "export") -> Bulk:
    """`$export` of everything, from the request to the last byte of the last file."""
    before = time.perf_counter()
    try:
        manifest = _finished(target)
        lines = [
            line
            for output in manifest.resource["output"]
            for line in tried(_get(target, output["url"]), target.base).body.splitlines()
        ]
    except Refused as refusal:
        return Bulk(name, 0, 0, refused=str(refusal))
    seconds = time.perf_counter() - before
    costs = [cost for line in lines[:: max(1, len(lines) // 20)] if (cost := _written(line))]
    return Bulk(name, len(lines), seconds, sum(costs) / len(costs) if costs else None)


def _written(line: bytes) -> float | None:
    return elsewhere.cost(b"", line)


def _finished(target: Target) -> Reply:
    """The manifest, once the job is done.

    Raises:
        Refused: it is not taken, or fails.
    """
    asked = raw("GET", target, "$export", headers=["Prefer: respond-async"])
    started = ask(asked, target.base)
    place = started.headers.get("content-location", "")
    if started.status != 202 or not place:
        raise Refused(started.why)
    deadline = time.perf_counter() + _MOST
    while time.perf_counter() < deadline:
        reply = ask(_get(target, place), target.base)
        if reply.status == 200:
            return reply
        if reply.status != 202:
            raise Refused(reply.why)
        time.sleep(_POLLED)
    raise Refused(f"not done within {_MOST:g} s")


def _get(target: Target, url: str) -> bytes:
    """The bytes that ask for an address of the server's own, whatever host it names."""
    path = urlsplit(url).path.removeprefix(urlsplit(target.base).path).lstrip("/")
    query = urlsplit(url).query
    accept = "Accept: application/fhir+ndjson, application/json"
    return raw("GET", target, f"{path}?{query}" if query else path, headers=[accept])


def loading(options: Options, place: Path, resources: int) -> Bulk:
    """Transactions into an empty server, one for each young person, one after the other.

    Raises:
        Refused: there is no empty one.
    """
    if options.store:
        raise Refused("the database has everybody already; an empty one is not made")
    place.mkdir()
    server = Ours(replace(options, resources=resources), place)
    try:
        server.start()
        before = time.perf_counter()
        done = load(server.target, resources)
        seconds = time.perf_counter() - before
    finally:
        server.stop()
    refused = f"{len(done.refused)} refused, such as {done.refused[0]}" if done.refused else ""
    return Bulk("load", done.resources, seconds, _parsed(resources), refused)


def _parsed(resources: int) -> float | None:
    """Microseconds that fhir.resources takes to parse one of the resources, in their Bundle."""
    bundle = next(one for one in bundles(resources, Data()) if len(one["entry"]) < 30)
    cost = elsewhere.cost(fhir_json.encode(bundle), b"")
    return cost / len(bundle["entry"]) if cost else None


def figures(rows: list[Bulk]) -> list[dict[str, object]]:
    return [
        {
            "name": row.name,
            "resources": row.resources,
            "seconds": row.seconds,
            "rate": row.rate,
            "fhir_resources_us": row.elsewhere,
            "refused": row.refused or None,
        }
        for row in rows
    ]
