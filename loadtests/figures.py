"""The figures of a run as Markdown, for a page that is kept: `docs/capacity.md`."""

import math
from collections.abc import Iterator
from typing import Final

from loadtests.report import Told
from loadtests.runs import Run

BEGIN: Final = "<!-- figures: written by loadtests.load --into, not by hand -->"
END: Final = "<!-- end of figures -->"


def filled(page: str, told: Told) -> str:
    """The page with these figures between its two marks.

    Raises:
        ValueError: it has no such marks.
    """
    before, begun, rest = page.partition(BEGIN)
    old, ended, after = rest.partition(END)
    del old
    if not begun or not ended:
        raise ValueError(f"The page has no place for figures: {BEGIN} … {END}")
    return f"{before}{BEGIN}\n\n" + "\n".join(_lines(told)) + f"\n\n{END}{after}"


def _lines(told: Told) -> Iterator[str]:
    verdict = "met" if told.met else "missed"
    yield f"{told.when}: {told.machine}. Thresholds {verdict}."
    yield ""
    head = ("workers", "carries a second", "users", "share of the peak hour", "boards")
    yield _row(*head, "other cores", "knee")
    yield _row(*["---"] * 7)
    yield from map(_capacity, told.runs)
    yield ""
    times = ("p50 ms", "p95 ms", "p99 ms")
    yield _row(
        "workers", "users", "a second", *times, "wrong", "cores", "ms of a core", "MB", "store ms"
    )
    yield _row(*["---"] * 11)
    for run in told.runs:
        yield from _steps(run)


def _capacity(run: Run) -> str:
    capacity, knee = run.capacity, run.capacity.knee
    least = "" if knee.found else "at least "
    return _row(
        *(str(run.workers or "–"), f"{least}{knee.rate:.0f}", str(knee.users)),
        *(f"{capacity.share:.2%}", f"{least}{capacity.regions:.0f}", _number(run.other_cores, 2)),
        knee.why or "not reached",
    )


def _steps(run: Run) -> Iterator[str]:
    for step in run.steps:
        yield _row(
            *(str(run.workers or "–"), str(step.users), f"{step.rate:.0f}"),
            *(f"{one:.0f}" for one in (step.p50, step.p95, step.p99)),
            *(f"{step.fault_share:.2%}", _number(step.cores, 2), _number(step.each, 1)),
            *(_number(step.megabytes, 0), _number(step.store, 1)),
        )


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
