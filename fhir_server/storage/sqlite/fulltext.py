"""Full text in SQLite: FTS5 over words that `search.words` has cut and folded.

FTS5 writes a segment of its own for every savepoint, which would cost as much as all the rest of
a write. So a commit puts its words into a plain table (`fulltext_new`), where a search looks too,
and every so many writes they are moved into FTS5 together. See docs/decisions/0008-full-text.md.
"""

import sqlite3
from collections.abc import Iterable
from typing import Final

from fhir_server.search.ast import TextMatches
from fhir_server.search.fulltext import NARRATIVE
from fhir_server.search.values import TextValue
from fhir_server.search.words import MARK
from fhir_server.storage.sqlite.sql import Sql

MODULE: Final = "fts5"
MOVED_AT: Final = 256
"""Writes of one process after which the new words are moved."""
_COLUMNS: Final = {NARRATIVE: ("narrative",)}
_ALL_COLUMNS: Final = ("narrative", "content")

_PUT: Final = "INSERT OR REPLACE INTO fulltext_new VALUES (?, ?, ?)"
_WAITING: Final = "SELECT count(*) FROM fulltext_new"
_MOVE: Final = (
    "DELETE FROM fulltext WHERE rowid IN (SELECT rid FROM fulltext_new)",
    "INSERT INTO fulltext (rowid, narrative, content) SELECT rid, narrative, content"
    " FROM fulltext_new WHERE narrative <> '' OR content <> ''",
    "DELETE FROM fulltext_new",
)


def require(connection: sqlite3.Connection) -> None:
    """
    Raises:
        RuntimeError: where SQLite was built without full-text search.
    """
    modules = "SELECT count(*) FROM pragma_module_list WHERE name = ?"
    if connection.execute(modules, (MODULE,)).fetchone() == (0,):
        raise RuntimeError(
            f"This Python's SQLite ({sqlite3.sqlite_version}) was built without {MODULE.upper()}, "
            "which _text and _content need; use a Python whose SQLite has it"
        )


class FulltextWriter:
    """Writes and removes the words of one resource."""

    def __init__(self) -> None:
        self._waiting: int | None = None
        """Rows that wait to be moved, as far as this process knows."""

    def write(
        self, connection: sqlite3.Connection, rid: int, values: Iterable[tuple[str, TextValue]]
    ) -> None:
        columns = _by_column(values)
        if any(columns):
            self._put(connection, (rid, *columns))

    def remove(self, connection: sqlite3.Connection, rid: int) -> None:
        """An empty row hides what FTS5 still has of the resource, until it is moved there."""
        self._put(connection, (rid, "", ""))

    def move(self, connection: sqlite3.Connection) -> None:
        """In the caller's transaction: if that is rolled back, nothing was moved."""
        for statement in _MOVE:
            connection.execute(statement)
        self._waiting = 0

    def _put(self, connection: sqlite3.Connection, row: tuple[int, str, str]) -> None:
        if self._waiting is None:
            (self._waiting,) = connection.execute(_WAITING).fetchone()
        connection.execute(_PUT, row)
        self._waiting += 1
        if self._waiting >= MOVED_AT:
            self.move(connection)


def _by_column(values: Iterable[tuple[str, TextValue]]) -> tuple[str, str]:
    """The narrative, and the rest of the content; with a space at both ends, '' for none."""
    found = list(values)
    narrative = [value.words for code, value in found if code == NARRATIVE]
    rest = [v.words for code, v in found if code != NARRATIVE and v.words not in narrative]
    return _padded(narrative), _padded(rest)


def _padded(texts: list[str]) -> str:
    return f" {f' {MARK} '.join(texts)} " if texts else ""


def select(node: TextMatches) -> Sql:
    """The rows of `resource` whose text has the words."""
    columns = _COLUMNS.get(node.code, _ALL_COLUMNS)
    phrase = f'{{{" ".join(columns)}}} : "{node.words}"{" *" if node.prefix else ""}'
    wanted = f" {node.words}" if node.prefix else f" {node.words} "
    found = " OR ".join(f"instr(n.{column}, ?) > 0" for column in columns)
    return Sql(
        "SELECT f.rowid FROM fulltext f"
        " WHERE f.fulltext MATCH ? AND f.rowid NOT IN (SELECT rid FROM fulltext_new)"
        f" UNION ALL SELECT n.rid FROM fulltext_new n WHERE {found}",
        [phrase, *[wanted] * len(columns)],
    )


def present(code: str, row: str) -> Sql:
    """The resource in the row has some text."""
    columns = _COLUMNS.get(code, _ALL_COLUMNS)
    new, moved = (" OR ".join(f"{t}.{column} <> ''" for column in columns) for t in "nf")
    return Sql(
        f"CASE WHEN EXISTS (SELECT 1 FROM fulltext_new n WHERE n.rid = {row}.rid)"
        f" THEN EXISTS (SELECT 1 FROM fulltext_new n WHERE n.rid = {row}.rid AND ({new}))"
        f" ELSE EXISTS (SELECT 1 FROM fulltext f WHERE f.rowid = {row}.rid AND ({moved})) END"
    )
