"""A copy of the file at one moment, while servers write; and the way back.

SQLite's own backup copies it in steps, from one snapshot: without that, each write of another
process would begin the copy anew (https://www.sqlite.org/c3ref/backup_finish.html). A copy gets its
name only when it has been read back and is on disk, so that what has the name is whole.
"""

import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fhir_server.storage.sqlite.connect import connect
from fhir_server.storage.sqlite.schema import require_store
from fhir_server.storage.sqlite.versions import VersionRow, body_problems
from fhir_server.storage.sqlite.words import of_words

_PAGES: Final = 256
"""Pages that are copied in one step."""
_MOST: Final = 20
"""Problems that are told."""
_BESIDE: Final = ("-wal", "-shm", "-journal")
_VERSIONS: Final = """
    SELECT r.type, r.id, v.version, v.seq, v.updated, v.method, v.body
    FROM version v LEFT JOIN resource r ON r.rid = v.rid
"""
_COUNTS: Final = "SELECT (SELECT count(*) FROM resource), (SELECT count(*) FROM version)"
_WORDS_FROM: Final = 3
"""The schema with which full text came."""

Progress = Callable[[int, int], None]
"""Pages copied, of so many."""


class Unusable(Exception):
    """The copy is not made, or not taken; the text says why."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What a copy has in it, as it was counted after it was written."""

    resources: int
    versions: int
    bytes: int


def back_up(store: Path, target: Path, progress: Progress) -> Contents:
    """A copy of the store as it is now, in one file that only its owner may read.

    Raises:
        Unusable: where `target` is there already, or the copy is not what it should be.
        RuntimeError: for a file that is no store, or a newer release's.
        OSError, sqlite3.Error: where one cannot be read or the other not be written.
    """
    if target.exists():
        raise Unusable(f"{target} is there already; a backup is never written over another")
    with _unfinished(target) as copy:
        with closing(connect(store, read_only=True)) as source:
            expected = _copied(source, copy, progress)
        found = _verified(copy, expected)
        _publish(copy, target)
    return found


def restore(backup: Path, store: Path, progress: Progress, *, replace: bool = False) -> Contents:
    """The store as the backup has it; `replace`: in place of one that nobody has open.

    An existing store is written over inside one transaction: it is wholly the old one until it
    is wholly the new one, whenever the machine stops.

    Raises:
        Unusable: where there is a store, or a server has it open, or the backup is not sound.
        RuntimeError, OSError, sqlite3.Error: as of `back_up`.
    """
    _require_place(store, replace=replace)
    store.parent.mkdir(parents=True, exist_ok=True)
    with _unfinished(store) as copy:
        with closing(_opened(backup)) as source:
            expected = _copied(source, copy, progress)
        found = _verified(copy, expected)
        if store.exists():
            _write_over(store, copy, expected)
        else:
            _publish(copy, store)
    return found


def _require_place(store: Path, *, replace: bool) -> None:
    if store.exists():
        if not replace:
            raise Unusable(f"There is a store {store}; --replace writes over it")
        with closing(_alone(store)):
            return
    for beside in _BESIDE:
        rest = store.with_name(store.name + beside)
        if rest.exists():
            raise Unusable(f"{rest} is left of another store; move it away first")


def _opened(backup: Path) -> sqlite3.Connection:
    """For reading alone: it may lie where nothing can be written."""
    return sqlite3.connect(f"{backup.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)


def _copied(source: sqlite3.Connection, copy: Path, progress: Progress) -> tuple[int, int]:
    """How many resources and versions there are in the snapshot that was copied."""
    with closing(sqlite3.connect(copy, isolation_level=None)) as target:
        source.execute("BEGIN")
        try:
            require_store(source)
            expected = source.execute(_COUNTS).fetchone()
            _pour(source, target, progress)
        finally:
            source.execute("ROLLBACK")
        # One file that stands alone, not one with a log beside it.
        target.execute("PRAGMA journal_mode = DELETE")
    return int(expected[0]), int(expected[1])


def _pour(source: sqlite3.Connection, target: sqlite3.Connection, progress: Progress) -> None:
    def told(_status: int, remaining: int, total: int) -> None:
        progress(total - remaining, total)

    source.backup(target, pages=_PAGES, progress=told)


def _verified(copy: Path, expected: tuple[int, int]) -> Contents:
    """What was written, read back: pages, index of words, counts, and every version.

    Raises:
        Unusable: naming what is wrong.
    """
    with closing(sqlite3.connect(copy, isolation_level=None)) as connection:
        problems = [*_problems(connection, expected)][:_MOST]
    if problems:
        raise Unusable(f"The copy is not sound: {'; '.join(problems)}")
    return Contents(*expected, copy.stat().st_size)


def _problems(connection: sqlite3.Connection, expected: tuple[int, int]) -> Iterator[str]:
    try:
        for (text,) in connection.execute(f"PRAGMA integrity_check({_MOST})"):
            if text != "ok":
                yield text
        counted = connection.execute(_COUNTS).fetchone()
        if counted != expected:
            yield f"{counted} resources and versions, and not {expected}"
        for resource_type, resource_id, *version in connection.execute(_VERSIONS):
            name = f"{resource_type}/{resource_id}"
            for problem in body_problems(resource_type, resource_id, VersionRow(*version)):
                yield f"{name}: {problem}"
        if require_store(connection) >= _WORDS_FROM:
            yield from map(str, of_words(connection))
    except sqlite3.DatabaseError as error:
        yield str(error)


def _write_over(store: Path, copy: Path, expected: tuple[int, int]) -> None:
    with (
        closing(_alone(store)) as target,
        closing(sqlite3.connect(copy, isolation_level=None)) as source,
    ):
        _pour(source, target, lambda _done, _total: None)
        if target.execute(_COUNTS).fetchone() != expected:
            raise Unusable(f"{store} does not have what was written; restore it again")


def _alone(store: Path) -> sqlite3.Connection:
    """A connection that keeps everybody else out.

    Whoever has a file in WAL mode open holds a shared lock on it, which the operating system
    takes away when the process ends, however it ends: so this lock is there to be had exactly
    when nobody has it open (https://www.sqlite.org/pragma.html#pragma_locking_mode).

    Raises:
        Unusable: where somebody has.
    """
    connection = sqlite3.connect(store, isolation_level=None, timeout=0)
    try:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute("COMMIT")
    except sqlite3.DatabaseError as error:
        connection.close()
        raise Unusable(_why_not_alone(store, error)) from None
    return connection


def _why_not_alone(store: Path, error: sqlite3.DatabaseError) -> str:
    if "locked" in str(error):
        return f"A server or another command has {store} open; stop it first"
    return f"What is at {store} cannot be written over ({error}); move it away and restore again"


@contextmanager
def _unfinished(target: Path) -> Iterator[Path]:
    """A file beside the target that only its owner may read; gone at the end, if not renamed."""
    handle, name = tempfile.mkstemp(prefix=f"{target.name}.", suffix=".part", dir=target.parent)
    os.close(handle)
    path = Path(name)
    try:
        yield path
    finally:
        for end in ("", *_BESIDE):
            with suppress(FileNotFoundError):
                path.with_name(path.name + end).unlink()


def _publish(copy: Path, target: Path) -> None:
    """On disk before it has its name, and the name with it; never in place of another file."""
    _flush(copy)
    try:
        os.link(copy, target)
    except FileExistsError:
        raise Unusable(f"{target} is there already") from None
    except OSError:  # a file system without links
        copy.rename(target)
    _flush(target.parent)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
