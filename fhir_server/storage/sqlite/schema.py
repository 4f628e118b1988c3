"""Tables of the SQLite backend, and how an older file is brought up to date.

Index entries are small integers in one table clustered by resource: a new resource appends to
it, a probe for one resource and parameter is one seek, and the only scattered write is its one
index by value. See docs/decisions/0004-sqlite-index.md.
"""

import sqlite3
from collections.abc import Callable, Mapping
from typing import Final

from fhir_server.storage.sqlite import audit, fulltext, reindex

MIGRATIONS: Final[tuple[str, ...]] = (
    """
    CREATE TABLE setting (
        name TEXT PRIMARY KEY,
        value BLOB NOT NULL
    ) WITHOUT ROWID;

    -- Numbers for (resource type, parameter code): stable in this file for ever.
    CREATE TABLE parameter (
        number INTEGER PRIMARY KEY,
        type TEXT NOT NULL,
        code TEXT NOT NULL,
        UNIQUE (type, code)
    );

    -- One row a resource: where its current version is.
    CREATE TABLE resource (
        rid INTEGER PRIMARY KEY,
        type TEXT NOT NULL,
        id TEXT NOT NULL,
        version INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        updated INTEGER NOT NULL,
        deleted INTEGER NOT NULL,
        UNIQUE (type, id)
    );
    CREATE INDEX resource_by_type ON resource (type) WHERE NOT deleted;
    CREATE INDEX resource_by_time ON resource (type, updated) WHERE NOT deleted;

    -- Every version ever, in the order of the commits: history and outbox in one.
    CREATE TABLE version (
        seq INTEGER PRIMARY KEY,
        rid INTEGER NOT NULL,
        version INTEGER NOT NULL,
        updated INTEGER NOT NULL,
        method TEXT NOT NULL,
        body BLOB NOT NULL,
        UNIQUE (rid, version)
    );

    -- token: low = hash of the code, high = hash of the system, text = code
    -- reference: low = hash of the target, high = hash of the version, text = target
    -- uri: low = hash, text = uri
    -- date: [low, high) in microseconds; number and quantity: [low, high] as doubles,
    -- a quantity with text = code, system and unit beside it
    -- position: low = latitude, high = longitude.
    CREATE TABLE entry (
        rid INTEGER NOT NULL,
        parameter INTEGER NOT NULL,
        ordinal INTEGER NOT NULL,
        low NOT NULL,
        high NOT NULL,
        text TEXT,
        system TEXT,
        unit TEXT,
        PRIMARY KEY (rid, parameter, ordinal)
    ) WITHOUT ROWID;
    CREATE INDEX entry_by_value ON entry (parameter, low, high);

    CREATE TABLE entry_string (
        rid INTEGER NOT NULL,
        parameter INTEGER NOT NULL,
        ordinal INTEGER NOT NULL,
        text TEXT NOT NULL,
        exact TEXT NOT NULL,
        PRIMARY KEY (rid, parameter, ordinal)
    ) WITHOUT ROWID;
    CREATE INDEX entry_string_by_text ON entry_string (parameter, text);

    CREATE TABLE audit (
        number INTEGER PRIMARY KEY,
        at INTEGER NOT NULL,
        caller TEXT NOT NULL,
        action TEXT NOT NULL,
        request_id TEXT NOT NULL,
        targets TEXT NOT NULL
    );
    """,
    """
    -- What the server keeps for itself: answers to repeat, jobs and their files.
    CREATE TABLE memo (
        space TEXT NOT NULL,
        key TEXT NOT NULL,
        value BLOB NOT NULL,
        expires INTEGER NOT NULL,
        UNIQUE (space, key)
    );
    CREATE INDEX memo_by_expiry ON memo (expires) WHERE expires > 0;
    """,
    """
    -- Words of the narrative, and of all other text, with a space between and at both ends.
    -- Each is a token as it stands: the tokenizer parts at the spaces and leaves the rest.
    CREATE VIRTUAL TABLE fulltext USING fts5 (
        narrative, content, tokenize = 'ascii', columnsize = 0
    );

    -- The same of resources that were written since words were last moved there; it comes first.
    CREATE TABLE fulltext_new (
        rid INTEGER PRIMARY KEY,
        narrative TEXT NOT NULL,
        content TEXT NOT NULL
    );
    """,
    """
    -- Contained resources, so that they are found as others are: `type` is Container#Type. Their
    -- numbers are below 0, apart from those of `resource`, and stand in the entries as `rid`.
    CREATE TABLE contained (
        rid INTEGER PRIMARY KEY,
        type TEXT NOT NULL,
        id TEXT NOT NULL,
        container INTEGER NOT NULL
    );
    CREATE INDEX contained_by_container ON contained (container, type);
    CREATE INDEX contained_by_type ON contained (type);
    """,
    """
    -- Up to which version those of a resource were taken out by the retention settings.
    CREATE TABLE pruned (
        rid INTEGER PRIMARY KEY,
        version INTEGER NOT NULL
    );
    """,
    """
    -- The audit as a chain of hashes (storage/audited.py), and what its rows are found by.
    ALTER TABLE audit RENAME TO audit_before;
    CREATE TABLE audit (
        number INTEGER PRIMARY KEY,
        at INTEGER NOT NULL,
        told BLOB NOT NULL,
        hash BLOB NOT NULL
    );
    CREATE TABLE audit_name (
        name INTEGER NOT NULL,
        number INTEGER NOT NULL,
        PRIMARY KEY (name, number)
    ) WITHOUT ROWID;
    """,
    """
    -- The one memo that is read with each resource: beside thousands of others, to find it takes
    -- as long as to find the resource.
    CREATE INDEX memo_watched ON memo (key, expires, value) WHERE space = 'access-state';
    """,
)
"""Forward only; the file's `user_version` counts those that it has had. What the index holds is
counted apart (`reindex`): it changes without the tables."""
_THEN: Final[Mapping[int, Callable[[sqlite3.Connection], None]]] = {6: audit.take_over}
"""What is done after the script of that number, which SQL alone could not."""


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the file to the newest schema, whichever process comes first.

    Raises:
        RuntimeError: when a newer release has written the file, or SQLite lacks FTS5.
    """
    fulltext.require(connection)
    # Others may be writing without a pause, and there is seldom a reason to wait for them.
    if _done(connection) == len(MIGRATIONS):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        done = _done(connection)
        if done > len(MIGRATIONS):
            raise RuntimeError(
                f"The store has schema {done}; this release knows up to {len(MIGRATIONS)}"
            )
        for number, script in enumerate(MIGRATIONS[done:], done + 1):
            for statement in _statements(script):
                connection.execute(statement)
            if number in _THEN:
                _THEN[number](connection)
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        if not done:
            reindex.mark_as_new(connection)
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def require_store(connection: sqlite3.Connection) -> int:
    """The schema of a file of this release or an earlier one.

    Raises:
        RuntimeError: for a file of a newer release, and for one that is no store.
    """
    done = _done(connection)
    if done > len(MIGRATIONS):
        raise RuntimeError(f"it has schema {done}; this release knows up to {len(MIGRATIONS)}")
    if not done or not {name for (name,) in connection.execute(_TABLES)} >= _HAS:
        raise RuntimeError("it is not a store of this server")
    return done


_HAS: Final = {"setting", "parameter", "resource", "version", "entry", "entry_string", "audit"}
"""The tables of the first schema."""
_TABLES: Final = "SELECT name FROM sqlite_schema WHERE type = 'table'"


def require_current(connection: sqlite3.Connection) -> None:
    """
    Raises:
        RuntimeError: for a file whose schema or index an earlier or newer release has made.
    """
    if require_store(connection) < len(MIGRATIONS) or not reindex.is_current(connection):
        raise RuntimeError(
            "an earlier release has made it; start this release's server once, "
            "which brings it up to date"
        )


def _done(connection: sqlite3.Connection) -> int:
    (done,) = connection.execute("PRAGMA user_version").fetchone()
    return int(done)


def _statements(script: str) -> list[str]:
    """Its statements one by one: `executescript` would commit in between."""
    statements, current = [], ""
    for line in script.splitlines(keepends=True):
        current += line
        if sqlite3.complete_statement(current):
            statements.append(current)
            current = ""
    return statements
