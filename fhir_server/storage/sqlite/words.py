"""The full-text index beside the texts that it was made of.

FTS5 has a command for that, but it takes the write lock for as long as it runs
(https://www.sqlite.org/fts5.html#the_integrity_check_command), and to search for each word costs
more with each resource. So every word that the index holds, with its place, is added up, and so is
every word of the texts: the sums must be the same. Both go through once, and read only.
"""

import sqlite3
from collections.abc import Iterator
from typing import Final
from zlib import crc32

from fhir_server.storage.sqlite.findings import Fault

_VOCABULARY: Final = """
    CREATE VIRTUAL TABLE temp.word USING fts5vocab ('main', 'fulltext', 'instance')
"""
"""https://www.sqlite.org/fts5.html#the_fts5vocab_virtual_table_module"""
_OF_INDEX: Final = """
    SELECT count(*), coalesce(sum(word_sum(CAST(term AS BLOB), doc, col, offset)), 0) FROM temp.word
"""
_TEXTS: Final = "SELECT rowid, narrative, content FROM fulltext"
_REBUILD: Final = "INSERT INTO fulltext (fulltext) VALUES ('rebuild')"
_LONGEST: Final = 32_768
"""Bytes of a word that FTS5 keeps."""


def of_words(connection: sqlite3.Connection) -> Iterator[Fault]:
    """In one snapshot, the caller's; what is wrong is cured by making the index anew."""
    texts = _of_texts(connection)
    try:
        indexed = _of_index(connection)
    except sqlite3.DatabaseError:  # its pages are damaged
        indexed = None
    if indexed != texts:
        yield Fault("fulltext", "the index of words is not that of the texts", _rebuild)


def _of_index(connection: sqlite3.Connection) -> tuple[int, int]:
    connection.create_function("word_sum", 4, _word_sum, deterministic=True)
    (read_only,) = connection.execute("PRAGMA query_only").fetchone()
    connection.execute("PRAGMA query_only = 0")  # of the temporary database too, it would be
    connection.execute(_VOCABULARY)
    try:
        count, total = connection.execute(_OF_INDEX).fetchone()
        return int(count), int(total)
    finally:
        connection.execute("DROP TABLE temp.word")
        connection.execute(f"PRAGMA query_only = {read_only}")


def _of_texts(connection: sqlite3.Connection) -> tuple[int, int]:
    count, total = 0, 0
    for rid, *texts in connection.execute(_TEXTS):
        for column, text in zip(("narrative", "content"), texts, strict=True):
            for offset, word in enumerate(text.split()):
                total += _word_sum(word.encode()[:_LONGEST], rid, column, offset)
                count += 1
    return count, total


def _word_sum(word: bytes, rid: int, column: str, offset: int) -> int:
    return crc32(b"%s %d %s %d" % (word, rid, column.encode(), offset))


def _rebuild(connection: sqlite3.Connection) -> None:
    connection.execute(_REBUILD)
