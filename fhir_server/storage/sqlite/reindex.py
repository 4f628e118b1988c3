"""An index whose content an older release extracted is made anew before anything is served.

The file says which content its index has, and while it is being made anew, how far that is. Each
batch is one transaction, so an interrupted start goes on where it ended, and several processes
that start at once share the work.
"""

import sqlite3
from typing import Final

from fhir_server.fhir import json
from fhir_server.search.extract import CONTENT, extract
from fhir_server.storage.sqlite.entries import EntryWriter

BATCH: Final = 500
_CONTENT: Final = "index:content"
_REACHED: Final = "index:reached"
_SETTING: Final = "SELECT value FROM setting WHERE name = ?"
_SET: Final = "INSERT OR REPLACE INTO setting VALUES (?, ?)"
_FIRST_CONTENT: Final = 1
"""Of files that are older than this account."""
_NEXT: Final = """
    SELECT r.rid, r.type, v.body FROM resource r JOIN version v ON v.seq = r.seq
    WHERE r.rid > ? ORDER BY r.rid LIMIT ?
"""


def mark_as_new(connection: sqlite3.Connection) -> None:
    """A file without resources has the newest content."""
    connection.execute(_SET, (_CONTENT, b"%d" % CONTENT))


def bring_up_to_date(connection: sqlite3.Connection, entries: EntryWriter) -> int:
    """Index anew what an older release has indexed; how many resources this process took.

    Raises:
        RuntimeError: when a newer release has made the index.
    """
    taken = 0
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
    rows = connection.execute(_NEXT, (_number(connection, _REACHED, 0), BATCH)).fetchall()
    for rid, resource_type, body in rows:
        entries.remove(connection, rid)
        if body:
            values = extract(json.decode_resource(body))
            entries.write(
                connection, rid, resource_type, (one for one in values if one[0] != "_lastUpdated")
            )
    if rows:
        connection.execute(_SET, (_REACHED, b"%d" % rows[-1][0]))
    else:
        connection.execute("DELETE FROM setting WHERE name = ?", (_REACHED,))
        mark_as_new(connection)
    return len(rows)


def _number(connection: sqlite3.Connection, name: str, default: int) -> int:
    row = connection.execute(_SETTING, (name,)).fetchone()
    return default if row is None else int(row[0])
