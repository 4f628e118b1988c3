"""What the index holds of one resource, beside what it should hold.

What it should hold is written by the writer itself, into a database in memory; then both are read
in the same way. Ordinals count where they tell which values are of one element of a composite;
others, and those of added parameters, depend on when and by which release it was indexed.
"""

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from fhir_server.search.ast import is_component
from fhir_server.search.parameters import is_added
from fhir_server.search.values import IndexValue
from fhir_server.storage.sqlite.entries import IS_CONTAINED, EntryWriter, Hash, ParameterNumbers
from fhir_server.storage.sqlite.schema import migrate

Content = Counter[tuple[Any, ...]]
"""Rows: the place among the contained resources, what it is, and its columns."""
Holds = Callable[[str], bool]
"""Whether entries under an index code count: those of a parameter that is being built do not."""

_ENTRIES: Final = """
    SELECT p.type, p.code, e.ordinal, e.low, e.high, e.text, e.system, e.unit
    FROM entry e LEFT JOIN parameter p ON p.number = e.parameter WHERE e.rid = ?
"""
_STRINGS: Final = """
    SELECT p.type, p.code, e.ordinal, e.text, e.exact
    FROM entry_string e LEFT JOIN parameter p ON p.number = e.parameter WHERE e.rid = ?
"""
_WORDS: Final = """
    SELECT narrative, content FROM fulltext_new WHERE rid = ?1
    UNION ALL SELECT narrative, content FROM fulltext
    WHERE rowid = ?1 AND NOT EXISTS (SELECT 1 FROM fulltext_new WHERE rid = ?1)
"""
_CONTAINED: Final = """
    SELECT c.rid, c.type, c.id,
        EXISTS (SELECT 1 FROM parameter WHERE type = c.type AND code = ?)
    FROM contained c WHERE c.container = ? ORDER BY c.rid DESC
"""
"""In the order in which they were written: each number is below the one before."""
_TABLES: Final = ("entry", "entry_string", "contained", "fulltext", "fulltext_new")
_RID: Final = 1


class Expected:
    """What the index should hold, by a writer of its own in memory."""

    def __init__(self, hashed: Hash) -> None:
        self._connection = sqlite3.connect(":memory:", isolation_level=None)
        migrate(self._connection)
        self._entries = EntryWriter(hashed, ParameterNumbers())

    @property
    def connection(self) -> sqlite3.Connection:
        """A new file's tables."""
        return self._connection

    def content(
        self, resource_type: str, values: Sequence[tuple[str, IndexValue]], holds: Holds
    ) -> Content:
        """
        Raises:
            sqlite3.Error: for what cannot be indexed.
        """
        for table in _TABLES:
            self._connection.execute(f"DELETE FROM {table}")
        self._entries.write(self._connection, _RID, resource_type, values)
        return content(self._connection, _RID, holds)

    def close(self) -> None:
        self._connection.close()


def content(connection: sqlite3.Connection, rid: int, holds: Holds) -> Content:
    """What the index holds of a resource and of what it contains."""
    return Counter(_rows(connection, rid, holds, ()))


def _rows(
    connection: sqlite3.Connection, rid: int, holds: Holds, place: tuple[int, ...]
) -> Iterator[tuple[Any, ...]]:
    for kind, sql in (("entry", _ENTRIES), ("string", _STRINGS)):
        for resource_type, code, ordinal, *columns in connection.execute(sql, (rid,)):
            named = f"'{code}'"
            if code is None or not is_added(code):
                group = ordinal if code is None or is_component(code) else None
                yield (place, named, kind, resource_type, group, *columns)
            elif holds(code):
                yield (place, named, kind, resource_type, None, *columns)
    for columns in connection.execute(_WORDS, (rid,)):
        if any(columns):
            yield (place, "the words of its text", *columns)
    found = connection.execute(_CONTAINED, (IS_CONTAINED, rid)).fetchall()
    for number, (inner, *columns) in enumerate(found):
        yield ((*place, number), "a contained resource", *columns)
        yield from _rows(connection, inner, holds, (*place, number))


def difference(expected: Content, found: Content) -> Iterator[str]:
    """By parameter, how many entries are missing, and how many there should not be."""
    missing = _by_name(expected - found)
    strange = _by_name(found - expected)
    for name in sorted({*missing, *strange}):
        parts = [f"{missing[name]} missing"] if missing[name] else []
        parts += [f"{strange[name]} that should not be there"] if strange[name] else []
        yield f"index entries of {name}: {', '.join(parts)}"


def _by_name(rows: Content) -> Counter[str]:
    counted: Counter[str] = Counter()
    for row, number in rows.items():
        counted[row[1]] += number
    return counted
