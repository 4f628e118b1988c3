"""The backends that keep the contract of `fhir_server.storage.interface.Store`.

A new backend is a line in `BACKENDS`. What it cannot keep stands in `EXCEPTIONS` with a reason,
and a test that passes in spite of it fails.
"""

import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fhir_server.storage.interface import Store
from fhir_server.storage.sqlite.store import SqliteStore


@dataclass(frozen=True, slots=True)
class Backend:
    """How to open a store at a place, and to look behind it.

    `open` may be called again for the same place: another process would do the same.
    """

    open: Callable[[Path], Awaitable[Store]]
    audited: Callable[[Path], list[str]]
    """The actions in the audit, in order."""


async def _open_sqlite(place: Path) -> Store:
    return SqliteStore(place / "store.db")


def _audited_sqlite(place: Path) -> list[str]:
    with closing(sqlite3.connect(place / "store.db")) as connection:
        return [row[0] for row in connection.execute("SELECT action FROM audit ORDER BY number")]


BACKENDS: Final[Mapping[str, Backend]] = {
    "sqlite": Backend(_open_sqlite, _audited_sqlite),
}

EXCEPTIONS: Final[Mapping[str, Mapping[str, str]]] = {
    "sqlite": {},
}
"""Backend -> test -> why it does not hold there."""
