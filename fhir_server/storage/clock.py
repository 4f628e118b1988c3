"""The time that stores and the server go by."""

import time
from collections.abc import Callable

Clock = Callable[[], int]
"""Microseconds since the epoch."""


def system_clock() -> int:
    """Microseconds since the epoch."""
    return time.time_ns() // 1000
