"""The time that stores and the server go by."""

import os
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final

Clock = Callable[[], int]
"""Microseconds since the epoch."""


def system_clock() -> int:
    """Microseconds since the epoch."""
    return time.time_ns() // 1000


class MovableClock:
    """The system's clock, ahead by what a file says: for tests and demonstrations.

    The file has a number of microseconds, and may be written by any process; those that go by it
    follow at once. Time runs on from there and never goes back.
    """

    def __init__(self, path: Path, system: Clock = system_clock) -> None:
        self._path: Final = path
        self._system = system

    def __call__(self) -> int:
        return self._system() + self._ahead()

    def move_to(self, moment: datetime) -> None:
        """Let it be that moment now.

        Raises:
            ValueError: for a moment without a time zone, or one that has passed.
        """
        if moment.tzinfo is None:
            raise ValueError(f"{moment} has no time zone")
        self.move_by(round(moment.timestamp() * 1_000_000) - self())

    def move_by(self, microseconds: int) -> None:
        """Move it on.

        Raises:
            ValueError: for less than nothing.
        """
        if microseconds < 0:
            raise ValueError("The clock does not go back: what is stored has its times already")
        beside = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        beside.write_text(str(self._ahead() + microseconds), encoding="ascii")
        beside.replace(self._path)

    def _ahead(self) -> int:
        try:
            return int(self._path.read_text(encoding="ascii"))
        except FileNotFoundError:
            return 0
