"""The backends that keep the contract of `fhir_server.storage.interface.Store`.

A new backend is a line in `BACKENDS`. What it cannot keep stands in `EXCEPTIONS` with a reason,
and a test that passes in spite of it fails.
"""

import json
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

from pymongo import MongoClient

from fhir_server.storage.interface import Store
from fhir_server.storage.mongo.store import open_mongo
from fhir_server.storage.sqlite.store import SqliteStore
from tests.mongo import mongo_url


@dataclass(frozen=True, slots=True)
class Backend:
    """How to open a store at a place, and to look behind it.

    `open` may be called again for the same place: another process would do the same.
    """

    open: Callable[[Path], Awaitable[Store]]
    audited: Callable[[Path], list[str]]
    """The actions in the audit, in order."""
    share: int = 1
    """One in so many examples of a property test is tried: a test server may be slow."""

    def fewer(self, usual: int, least: int) -> int:
        """So many resources, or a share of them that is still enough."""
        return max(usual // self.share, least)


async def _open_sqlite(place: Path) -> Store:
    return SqliteStore(place / "store.db")


def _audited_sqlite(place: Path) -> list[str]:
    with closing(sqlite3.connect(place / "store.db")) as connection:
        found = connection.execute("SELECT told FROM audit ORDER BY number")
        return [json.loads(told)["action"] for (told,) in found]


_left: Final[dict[str, str]] = {}
"""Databases that tests of this process have made -> where they say they are."""


def database_of(place: Path) -> str:
    """The database that stands for a folder."""
    return "t" + blake2b(str(place).encode(), digest_size=12).hexdigest()


async def _open_mongo(place: Path) -> Store:
    name = database_of(place)
    _drop_all_but(name)
    _left[name] = str(place)
    return await open_mongo(mongo_url(name))


def _drop_all_but(name: str) -> None:
    """A server with hundreds of databases is slow; a test has one."""
    done = _left.keys() - {name}
    if done:
        with MongoClient[dict[str, Any]](mongo_url("admin")) as client:
            for other in done:
                drop(client, other)
                del _left[other]


def drop(client: MongoClient[dict[str, Any]], name: str) -> None:
    """A drop waits for the transactions of processes that were killed: they are ended first."""
    sessions = [one["session"] for one in client[name].writer.find()]
    if sessions:
        client.admin.command({"killSessions": sessions})
    client.drop_database(name)


def _audited_mongo(place: Path) -> list[str]:
    with MongoClient[dict[str, Any]](mongo_url("admin")) as client:
        rows = client[database_of(place)]["trail"].find(sort=[("_id", 1)])
        return [json.loads(row["told"])["action"] for row in rows]


BACKENDS: Final[Mapping[str, Backend]] = {
    "mongo": Backend(_open_mongo, _audited_mongo, share=12),
    "sqlite": Backend(_open_sqlite, _audited_sqlite),
}

EXCEPTIONS: Final[Mapping[str, Mapping[str, str]]] = {
    "mongo": {},
    "sqlite": {},
}
"""Backend -> test -> why it does not hold there."""
