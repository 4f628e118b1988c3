"""Connections to the store's file, and the secrets that lie in it."""

import os
import sqlite3
import time
from pathlib import Path
from typing import Any, Final

_STATEMENTS: Final = 256
_BUSY_WAIT: Final = 0.005
WRITER_PAGES: Final = 2 * 1024
READER_PAGES: Final = 2 * 1024
SIDE_PAGES: Final = 1024
"""KiB of the file that a connection may keep: the writer, the loop's reader, and the others. What a
reader keeps is for nothing once somebody has written; the system has the file in memory anyhow, and
writes took as long with four times as much."""
_SETTING: Final = "SELECT value FROM setting WHERE name = ?"


def connect(
    path: Path,
    *,
    new: bool = False,
    read_only: bool = False,
    busy_timeout_ms: int = 5_000,
    pages: int = WRITER_PAGES,
) -> sqlite3.Connection:
    """A connection to the file, which is made where it may be `new`, with so many KiB of `pages`.

    Otherwise it must be there: an empty one in place of a file that was moved away would be
    taken for the store.
    """
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={'rwc' if new else 'rw'}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=_STATEMENTS,
    )
    pragmas: list[tuple[str, Any]] = [
        ("busy_timeout", busy_timeout_ms),
        ("synchronous", "FULL"),
        ("cache_size", -pages),
        ("temp_store", "MEMORY"),
        ("query_only", int(read_only)),
    ]
    try:
        _use_wal(connection, busy_timeout_ms / 1000)
        for name, value in pragmas:
            connection.execute(f"PRAGMA {name} = {value}")
    except BaseException:
        connection.close()
        raise
    return connection


def _use_wal(connection: sqlite3.Connection, patience: float) -> None:
    """The switch to WAL, once in a file's life, does not honour `busy_timeout`."""
    deadline = time.monotonic() + patience
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(_BUSY_WAIT)
        else:
            return


def secret_of_file(path: Path, name: str, patience: float) -> bytes:
    connection = connect(path, busy_timeout_ms=int(patience * 1000))
    try:
        return secret_of(connection, name)
    finally:
        connection.close()


def secret_of(connection: sqlite3.Connection, name: str) -> bytes:
    """32 random bytes that are made when first asked for."""
    key = f"secret:{name}"
    row = connection.execute(_SETTING, (key,)).fetchone()
    if row is None:
        connection.execute("INSERT OR IGNORE INTO setting VALUES (?, ?)", (key, os.urandom(32)))
        row = connection.execute(_SETTING, (key,)).fetchone()
    return bytes(row[0])
