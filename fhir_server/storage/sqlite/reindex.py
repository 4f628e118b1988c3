"""Index entries made anew, in batches, each one transaction: what is interrupted goes on.

`step` goes through the resources beside live traffic, as `storage.remaking` asks. A file whose
index an older release has made is made anew before anything is served (`bring_up_to_date`); the
file says which content its index has, and several processes that start at once share the work.
"""

import sqlite3
import time
from contextlib import closing
from typing import Final

from fhir_server.fhir import json
from fhir_server.fhir.definitions import resource_types
from fhir_server.search.extract import CONTENT, extract
from fhir_server.search.parameters import ParameterSet, Remaking
from fhir_server.search.values import IndexValue
from fhir_server.storage.interface import Progress
from fhir_server.storage.sqlite.entries import EntryWriter
from fhir_server.storage.sqlite.parameters import StoredParameters

BATCH: Final = 500
_LONGEST: Final = 0.1
"""Seconds after which a step ends, with fewer resources than were asked for."""
_CONTENT: Final = "index:content"
_REACHED: Final = "index:reached"
_REMAKING: Final = "index:remaking"
ACCOUNTS: Final = (_CONTENT, _REACHED, _REMAKING)
"""Settings one of which changes whenever a part of the index is made anew."""
_SETTING: Final = "SELECT value FROM setting WHERE name = ?"
_SET: Final = "INSERT OR REPLACE INTO setting VALUES (?, ?)"
_FIRST_CONTENT: Final = 1
"""Of files that are older than this account."""
_NEXT: Final = """
    SELECT r.rid, r.type, v.body FROM resource r JOIN version v ON v.seq = r.seq
    WHERE r.rid > ? AND r.rid <= ? ORDER BY r.rid LIMIT ?
"""
_NEXT_OF_TYPES: Final = """
    SELECT r.rid, r.type, CASE WHEN r.type IN (SELECT value FROM json_each(?)) THEN v.body END
    FROM resource r JOIN version v ON v.seq = r.seq
    WHERE r.rid > ? AND r.rid <= ? ORDER BY r.rid LIMIT ?
"""
"""Others count for the batch, so that it is bounded, but their bodies are not read."""
_LAST: Final = "SELECT coalesce(max(rid), 0) FROM resource"


def step(
    connection: sqlite3.Connection, entries: EntryWriter, known: ParameterSet, count: int
) -> Progress:
    """Some more resources of a remaking; `connection` is in a write transaction.

    What was made after it began has a higher `rid` than it goes to, and all its entries.
    """
    remaking = known.account.remaking
    assert remaking is not None  # noqa: S101 - the contract says so
    reached, until = _place(connection, remaking)
    index = index_anew if remaking.whole else _add
    deadline = time.monotonic() + _LONGEST
    ended = True
    with closing(_rows(connection, known, (reached, until, count))) as rows:
        for row in rows:
            index(connection, entries, known, row)
            reached, ended = row[0], False
            if time.monotonic() > deadline:  # resources of many megabytes, after small ones
                break
    reached = until if ended else reached
    connection.execute(_SET, (_REMAKING, f"{remaking.number} {reached} {until}"))
    return Progress(reached, until)


def _rows(
    connection: sqlite3.Connection, known: ParameterSet, place: tuple[int, int, int]
) -> sqlite3.Cursor:
    """Some resources after a row, up to another; read one by one, however large they are."""
    if known.account.remaking is None or known.account.remaking.whole:
        return connection.execute(_NEXT, place)
    types = [name for name in resource_types() if known.building(name)]
    return connection.execute(_NEXT_OF_TYPES, (json.encode(types).decode(), *place))


def _place(connection: sqlite3.Connection, remaking: Remaking) -> tuple[int, int]:
    """The row that it has reached, and the last that there was when it began."""
    row = connection.execute(_SETTING, (_REMAKING,)).fetchone()
    number, reached, until = map(int, row[0].split()) if row else (0, 0, 0)
    if number == remaking.number:
        return reached, until
    return 0, connection.execute(_LAST).fetchone()[0]


_Row = tuple[int, str, bytes | None]
"""rid, type, body: nothing where it was deleted, or is not looked at"""


def index_anew(
    connection: sqlite3.Connection, entries: EntryWriter, known: ParameterSet, row: _Row
) -> None:
    """As a write would have made them now."""
    rid, resource_type, body = row
    entries.remove(connection, rid)
    if body:
        entries.write(connection, rid, resource_type, index_values(known, body))


def index_values(known: ParameterSet, body: bytes) -> list[tuple[str, IndexValue]]:
    """What the index is to hold of a resource."""
    resource = json.decode_resource(body)
    values = [one for one in extract(resource) if one[0] != "_lastUpdated"]
    return [*values, *known.values(resource)]


def _add(
    connection: sqlite3.Connection, entries: EntryWriter, known: ParameterSet, row: _Row
) -> None:
    """The entries of the parameters being built; it may have been written since they are."""
    rid, resource_type, body = row
    if not body:
        return
    values = known.values(json.decode_resource(body), building_only=True)
    codes = {one.index for one in known.building(resource_type)} | {code for code, _ in values}
    entries.remove_of(connection, rid, resource_type, codes)
    entries.write(connection, rid, resource_type, values)


def mark_as_new(connection: sqlite3.Connection) -> None:
    """A file without resources has the newest content."""
    connection.execute(_SET, (_CONTENT, b"%d" % CONTENT))


def is_current(connection: sqlite3.Connection) -> bool:
    """Whether the index has this release's content, no older one."""
    return _number(connection, _CONTENT, _FIRST_CONTENT) == CONTENT


def bring_up_to_date(connection: sqlite3.Connection, entries: EntryWriter) -> int:
    """Index anew what an older release has indexed; how many resources this process took.

    Raises:
        RuntimeError: when a newer release has made the index.
    """
    taken = 0
    # As with the schema: nobody is waited for where there is nothing to do.
    if _number(connection, _CONTENT, _FIRST_CONTENT) == CONTENT:
        return taken
    while True:
        connection.execute("BEGIN IMMEDIATE")
        try:
            found = _batch(connection, entries)
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        if found is None:
            return taken
        taken += found


def _batch(connection: sqlite3.Connection, entries: EntryWriter) -> int | None:
    """Index some resources anew; None when there is nothing to do."""
    content = _number(connection, _CONTENT, _FIRST_CONTENT)
    if content > CONTENT:
        raise RuntimeError(
            f"The store's index has content {content}; this release knows up to {CONTENT}"
        )
    if content == CONTENT:
        return None
    known = StoredParameters().current(connection)
    (last,) = connection.execute(_LAST).fetchone()
    rows = connection.execute(_NEXT, (_number(connection, _REACHED, 0), last, BATCH)).fetchall()
    for row in rows:
        index_anew(connection, entries, known, row)
    if rows:
        connection.execute(_SET, (_REACHED, b"%d" % rows[-1][0]))
    else:
        connection.execute("DELETE FROM setting WHERE name = ?", (_REACHED,))
        mark_as_new(connection)
    return len(rows)


def _number(connection: sqlite3.Connection, name: str, default: int) -> int:
    row = connection.execute(_SETTING, (name,)).fetchone()
    return default if row is None else int(row[0])
