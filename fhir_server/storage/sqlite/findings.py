"""What a check finds wrong in a file: names and numbers, nothing of what resources say."""

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

Cure = Callable[[sqlite3.Connection], None]
"""Puts it right; the connection is in a write transaction."""

RESTORE: Final = "only a backup has what was there"


@dataclass(frozen=True, slots=True)
class Fault:
    """`where` is `Patient/123`, or a table of the file; without a cure nothing can rebuild it."""

    where: str
    text: str
    cure: Cure | None = None

    def __str__(self) -> str:
        return f"{self.where}: {self.text}"
