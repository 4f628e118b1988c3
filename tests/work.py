"""How much work something is, without a clock: what a machine or its load says is not asked.

Timings are for benchmarks. A test says that work grows no faster than what it is done on
(`steps`), or that it ends at all where it once did not (`ending`).
"""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

_FOR_EVER: Final = 120
"""Seconds after which something does not end: what is meant takes hours, or milliseconds."""


def steps(work: Callable[[], object]) -> int:
    """Calls of functions that `work` makes in this thread, those of built-in ones included."""
    counted = 0

    def count(_frame: FrameType, event: str, _argument: Any) -> None:
        nonlocal counted
        counted += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(before)
    return counted


@contextmanager
def ending() -> Iterator[None]:
    """Fails when what is within does not end."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise AssertionError(f"It had not ended after {_FOR_EVER} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(_FOR_EVER)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
