"""The table of the bench for people, and its figures as JSON for whatever reads them."""

import io
import json
import os
import platform
import sqlite3
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from textwrap import fill
from typing import Any, Final, TextIO

from loadtests.bench.cases import Case
from loadtests.bench.passes import Row, Terms
from loadtests.client import Run

_VERSIONED: Final = ("uvicorn", "uvloop", "httptools", "msgspec", "fhir.resources", "pydantic")
METHOD: Final = """\
Each pass on a server is next to one of the bare server with the same request and as many bytes
in the answer; servers take turns. Medians of the passes; only 2xx counts. "of bare": share of the
bare server's rate. "of fh.res": multiple of the rate at which fhir.resources alone parses what is
sent and writes what is answered on one core. Where writes disturb, the data are as at first
before each pass (a MongoDB store and a peer stay as they are). The load generator is on the same
machine."""


def machine() -> dict[str, str]:
    """The hardware, as far as the system tells it, and the versions of what matters."""
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg()) if hasattr(os, "getloadavg") else ""
    return {
        "cores": str(os.cpu_count()),
        "processor": _processor(),
        "load of the machine before": load,
        "Python": platform.python_version(),
        "SQLite": sqlite3.sqlite_version,
        **{name: version(name) for name in _VERSIONED},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def described(terms: Terms, options: object) -> str:
    told = fill(", ".join(f"{name} {value}" for name, value in machine().items()), 100)
    return (
        f"{told}\n{options}; {terms.connections} connections, {terms.rounds} passes of "
        f"{terms.seconds:g} s after {terms.warm:g} s of warm-up\n{METHOD}"
    )


_BUILT: Final = 500
"""Resources a second that a store is filled with, at the least."""
_BESIDE: Final = 180.0
"""Seconds for all that is no case of the table."""


def expected(terms: Terms, resources: int, cases: Sequence[Case], servers: int) -> str:
    """How long it takes where the machine does nothing else."""
    each = terms.rounds * (2 * terms.seconds + terms.warm) * servers
    renewed = sum(2.0 * (terms.rounds + 1) for case in cases if case.writes)
    seconds = each * len(cases) + renewed + resources / _BUILT + _BESIDE
    several = "s" if len(cases) > 1 else ""
    return f"{len(cases)} case{several}; it takes up to about {seconds / 60 + 1:.0f} minutes"


class _Twice(io.StringIO):
    """Keeps what it passes on."""

    def __init__(self, further: TextIO) -> None:
        super().__init__()
        self._further = further

    def write(self, text: str) -> int:
        self._further.write(text)
        self._further.flush()
        return super().write(text)


@contextmanager
def printed() -> Iterator[io.StringIO]:
    """What is printed meanwhile."""
    with redirect_stdout(_Twice(sys.stdout)) as text:
        yield text


_COLUMNS: Final = {
    "a second": 9,
    "entries/s": 10,
    "of bare": 8,
    "target": 7,
    "": 7,
    "of fh.res": 10,
    "p50 ms": 7,
    "p95": 7,
    "p99": 7,
    "failed": 7,
}
"""Heads and their widths: with the name before them, what fits a terminal of 100 columns."""
_NAME: Final = 21


def _columns(cells: Iterable[str]) -> str:
    return "".join(f"{cell:>{width}}" for cell, width in zip(cells, _COLUMNS.values(), strict=True))


def heading() -> str:
    return f"{'':{_NAME}}{_columns(_COLUMNS)}"


def line(row: Row, *, servers: int = 1) -> str:
    """One line of the table; with several servers it says whose it is."""
    name = row.case if servers == 1 else f"{row.case}, {row.server}"
    if row.refused:
        return f"{name:34} left out: {row.refused}"
    cells = [
        f"{row.rate:.0f}",
        f"{row.rate * row.entries:.0f}",
        f"{row.ratio:.3f}",
        "" if row.target is None else f"{row.target:g}",
        row.verdict,
        "" if row.of_elsewhere is None else f"{row.of_elsewhere:.2f}",
        *(_short(row.percentile(percent)) for percent in (50, 95, 99)),
        str(row.failed),
    ]
    return f"{name:{_NAME if servers == 1 else 34}}{_columns(cells)}"


def _short(milliseconds: float) -> str:
    return f"{milliseconds:.2f}" if milliseconds < 100 else f"{milliseconds:.0f}"


def compared(rows: Sequence[Row]) -> Iterator[str]:
    """Of each case that several servers did: how many times the rate of the others ours is, by
    the passes that were next to each other."""
    by_case: dict[str, list[Row]] = {}
    for row in rows:
        by_case.setdefault(row.case, []).append(row)
    for case, (ours, *others) in by_case.items():
        for other in others:
            pairs = [*zip(ours.runs, other.runs, strict=False)]
            if pairs:
                times = median(one.rate / two.rate for one, two in pairs if two.rate)
                yield f"{case:34}{times:8.2f} times the rate of the {other.server}"


def tally(rows: Sequence[Row]) -> str:
    """How many targets are met, and which are not."""
    judged = [row for row in rows if row.verdict]
    missed = ", ".join(row.case for row in judged if row.verdict == "missed")
    met = len(judged) - sum(row.verdict == "missed" for row in judged)
    return f"targets: {met} of {len(judged)} met" + (f"; missed: {missed}" if missed else "")


def save(folder: Path, name: str, told: Mapping[str, object]) -> Path:
    """Write figures to a file of that moment, whose name it answers."""
    folder.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC)
    path = folder / f"{name}-{now:%Y%m%dT%H%M%S}.json"
    document = {"at": now.isoformat(), "machine": machine(), "method": METHOD, **told}
    path.write_text(json.dumps(document, indent=1))
    return path


def figures(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """All that was measured, pass by pass."""
    return [
        {
            "case": row.case,
            "server": row.server,
            "refused": row.refused or None,
            "target": row.target,
            "verdict": row.verdict or None,
            "rate": row.rate,
            "of_bare": row.ratio,
            "of_bare_by_pass": row.of_bare,
            "fhir_resources_us": row.elsewhere,
            "entries_an_answer": row.entries,
            "bytes_sent": row.sent,
            "bytes_answered": row.answered,
            "passes": [*_passes(row.runs)],
        }
        for row in rows
    ]


def _passes(runs: Sequence[Run]) -> Iterator[dict[str, float]]:
    for run in runs:
        times = {f"p{percent}_ms": run.percentile(percent) for percent in (50, 95, 99)}
        yield {"seconds": run.seconds, "answers": len(run.times), "failed": run.failed, **times}
