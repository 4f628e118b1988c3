"""Which store the servers of tests stand on: a SQLite file or a MongoDB database, fresh each.

`KEYWORKING_TEST_STORE` names one of `KINDS`: every test runs on it. Without it tests run on SQLite,
and those that `on_both` names run on both.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

SQLITE: Final = "sqlite"
MONGODB: Final = "mongodb"
_ASKED: Final = os.environ.get("KEYWORKING_TEST_STORE", "")
KINDS: Final = (_ASKED,) if _ASKED else (SQLITE, MONGODB)
"""For tests that are of both."""
if not {*KINDS} <= {SQLITE, MONGODB}:
    raise ValueError(f"KEYWORKING_TEST_STORE is {_ASKED}; it may be {SQLITE} or {MONGODB}")

_ROOT: Final = Path(__file__).parent
NIGHTLY: Final = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
_INTERFACE: Final = ("events", "fhir_operations", "http", "operations")
_CENTRAL: Final = frozenset(
    {
        "audit/test_jobs.py",
        "audit/test_received.py",
        "authorisation/test_ends.py",
        "authorisation/test_keys.py",
        "authorisation/test_races.py",
        "authorisation/test_token.py",
        "authorisation/test_trusted.py",
        "events/test_operations.py",
        "http/test_batch.py",
        "http/test_conditional.py",
        "http/test_create.py",
        "http/test_delete.py",
        "http/test_history.py",
        "http/test_preconditions.py",
        "http/test_read.py",
        "http/test_search.py",
        "http/test_search_several.py",
        "http/test_transaction.py",
        "http/test_transaction_links.py",
        "http/test_update.py",
        "http/test_vread.py",
        "operations/test_commit.py",
        "operations/test_discharge_plan.py",
        "operations/test_real_messages.py",
    }
)
"""The interface in short: what a change is judged by on MongoDB too."""

sqlite_alone: Final = pytest.mark.sqlite_alone
"""The test looks into the file of a SQLite store, or needs what only that backend has."""

_PATIENCE_INSIDE: Final = 20.0
_chosen = KINDS[0]
_made: Final[list[str]] = []
"""MongoDB databases that stand for a place, and are not dropped yet."""


def on_both(path: Path) -> bool:
    """Whether the tests of that file run on each store: the central ones, every night all."""
    if not path.is_relative_to(_ROOT):
        return False
    name = path.relative_to(_ROOT).as_posix()
    return name in _CENTRAL or (NIGHTLY and name.startswith(_INTERFACE))


def fewer(number: int, share: int) -> int:
    """So many, and one in `share` of them where the server of MongoDB for tests is too slow."""
    return number if _chosen == SQLITE else number // share


def store_at(place: Path, kind: str | None = None) -> str:
    """The address of the store that stands for a place: of the chosen kind, or of that one.

    Args:
        place: the file, for SQLite; the database has a name made of it.
    """
    if (kind or _chosen) == SQLITE:
        return f"sqlite:///{place}"
    # Here: the driver is half a second.
    from fhir_server.storage.mongo import store
    from tests.mongo import mongo_url
    from tests.storage.backends import database_of

    # What a search within a commit may take is 1 s, which says more of this machine than of it.
    store.PATIENCE_INSIDE = _PATIENCE_INSIDE  # type: ignore[attr-defined]
    name = database_of(place)
    if name not in _made:
        _made.append(name)
    return mongo_url(name)


@contextmanager
def on_store(kind: str) -> Iterator[None]:
    """Choose the store; what was made on the way is dropped in the end."""
    global _chosen
    before, there = _chosen, len(_made)
    _chosen = kind
    try:
        yield
    finally:
        _chosen = before
        _drop_from(there)


def _drop_from(number: int) -> None:
    if number < len(_made):
        from pymongo import MongoClient

        from tests.mongo import mongo_url
        from tests.storage.backends import drop

        with MongoClient[dict[str, Any]](mongo_url("admin"), timeoutMS=90_000) as client:
            while number < len(_made):
                drop(client, _made.pop())
