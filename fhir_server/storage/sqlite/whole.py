"""A file looked at as a whole: its pages, its tables, and what belongs to nothing in it."""

import sqlite3
from collections.abc import Iterator
from functools import partial
from typing import Final

from fhir_server.storage.sqlite.entries import EntryWriter
from fhir_server.storage.sqlite.findings import RESTORE, Cure, Fault

_MOST: Final = 100
"""Complaints of SQLite about the pages of the file."""
_OF_INDEXES: Final = ("missing from index", "wrong # of entries in index", "non-unique entry in")
_SCHEMA: Final = """
    SELECT type, name, sql, (SELECT json_group_array(t.name || ' ' || t.type || ' ' || t.pk)
        FROM pragma_table_xinfo(m.name) t)
    FROM sqlite_schema m WHERE sql IS NOT NULL
"""
"""Columns, not the statement: in that, comments may differ from release to release."""
_NUMBERS: Final = """
    SELECT coalesce(max(seq), 0) - count(*) - (SELECT coalesce(sum(version), 0) FROM pruned)
    FROM version
"""
_LOST: Final = """
    SELECT v.rid, count(*) FROM version v
    WHERE NOT EXISTS (SELECT 1 FROM resource r WHERE r.rid = v.rid) GROUP BY v.rid
"""
_OF_NOTHING: Final = """
    NOT EXISTS (SELECT 1 FROM resource r WHERE r.rid = one.{rid})
    AND NOT EXISTS (SELECT 1 FROM contained c WHERE c.rid = one.{rid})
"""
_HAS_WORDS: Final = "(one.narrative <> '' OR one.content <> '')"
_STRAY: Final = {
    "entry": f"SELECT DISTINCT one.rid FROM entry one WHERE {_OF_NOTHING.format(rid='rid')}",
    "entry_string": (
        f"SELECT DISTINCT one.rid FROM entry_string one WHERE {_OF_NOTHING.format(rid='rid')}"
    ),
    "fulltext_new": (
        f"SELECT one.rid FROM fulltext_new one WHERE {_HAS_WORDS}"
        f" AND {_OF_NOTHING.format(rid='rid')}"
    ),
    "fulltext": (
        f"SELECT one.rowid FROM fulltext one WHERE {_OF_NOTHING.format(rid='rowid')}"
        " AND NOT EXISTS (SELECT 1 FROM fulltext_new n WHERE n.rid = one.rowid)"
    ),
    "contained": (
        "SELECT one.rid FROM contained one"
        " WHERE NOT EXISTS (SELECT 1 FROM resource r WHERE r.rid = one.container)"
    ),
}
_BELONGS: Final = """
    SELECT 1 FROM resource WHERE rid = ?1
    UNION ALL SELECT 1 FROM contained c JOIN resource r ON r.rid = c.container WHERE c.rid = ?1
"""


def of_pages(connection: sqlite3.Connection) -> Iterator[Fault]:
    """https://www.sqlite.org/pragma.html#pragma_integrity_check"""
    for (text,) in connection.execute(f"PRAGMA integrity_check({_MOST})"):
        if text != "ok":
            of_index = any(one in text for one in _OF_INDEXES)
            name = text.rpartition("index ")[2] if of_index else ""
            cure: Cure | None = partial(_sort_anew, name=name) if of_index else None
            yield Fault("the file", text if cure else f"{text}; {RESTORE}", cure)


def of_tables(connection: sqlite3.Connection, model: sqlite3.Connection) -> Iterator[Fault]:
    """What a new file has, `model`, and this one has not, or has otherwise."""
    found = {name: columns for _, name, _, columns in connection.execute(_SCHEMA)}
    for kind, name, sql, columns in model.execute(_SCHEMA):
        if name not in found and kind == "index":
            yield Fault("the file", f"the index {name} is missing", partial(_execute, sql=sql))
        elif found.get(name) != columns:
            yield Fault("the file", f"the table {name} is missing or another; {RESTORE}")


def of_numbers(connection: sqlite3.Connection) -> Iterator[Fault]:
    """Commits number versions without a gap; what retention took out is accounted for."""
    (gone,) = connection.execute(_NUMBERS).fetchone()
    if gone:
        text = f"{gone} numbers of versions are missing" if gone > 0 else "there are too many"
        yield Fault("version", f"{text}; {RESTORE}")
    for rid, count in connection.execute(_LOST):
        yield Fault("version", f"{count} versions belong to no resource (row {rid}); {RESTORE}")


def of_strays(connection: sqlite3.Connection, entries: EntryWriter) -> Iterator[Fault]:
    """Index entries of resources that there are not."""
    for table, sql in _STRAY.items():
        for (rid,) in connection.execute(sql):
            cure = partial(_take_out, entries=entries, rid=rid)
            yield Fault(table, f"index entries of no resource (row {rid})", cure)


def _sort_anew(connection: sqlite3.Connection, name: str) -> None:
    quoted = name.replace('"', '""')
    connection.execute(f'REINDEX "{quoted}"')


def _execute(connection: sqlite3.Connection, sql: str) -> None:
    connection.execute(sql)


def _take_out(connection: sqlite3.Connection, entries: EntryWriter, rid: int) -> None:
    """Unless a resource that was made meanwhile has been given the number."""
    if connection.execute(_BELONGS, (rid,)).fetchone() is not None:
        return
    entries.remove(connection, rid)
    connection.execute("DELETE FROM contained WHERE rid = ?", (rid,))
