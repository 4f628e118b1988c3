"""What the writer has read, for as long as it is so: a commit need not ask again what the last did.

Rules ask of each write about a young person the same, whoever writes: whether consent has ended,
whether somebody waits for a plan. The commits of this connection say what they write, and that is
forgotten, with what was found about those whom it is about. Of commits of any other connection, in
whatever process, `PRAGMA data_version` tells as a group begins, before anything is asked in it;
after them, and after a rollback, nothing is known.
"""

import sqlite3
from collections.abc import Iterable
from typing import Final, Literal

from fhir_server.search.ast import And, Node, Or, Query, ReferenceTo, Search, TokenIs
from fhir_server.search.parameters import ParameterSet
from fhir_server.search.values import IndexValue, ReferenceValue
from fhir_server.storage.interface import Page, StoredVersion

MOST: Final = 4 * 1024 * 1024
"""Bytes that are kept, or so; with more, all is let go."""
_AROUND: Final = 500
"""Bytes that a version, or an answer without any, takes besides bodies."""
_LARGE: Final = 1024 * 1024
"""Bytes of a version that is not kept: it would stay in the memory while nobody writes."""
_VERSION: Final = "PRAGMA data_version"
_Name = tuple[str, str]
"""Type and id of a resource, or code and target of a reference."""
_Asked = tuple[Query, int]
"""A question and how many were asked for."""
_Unknown = Literal["?"]
UNKNOWN: Final[_Unknown] = "?"


class Known:
    """Of one connection, within its commits."""

    def __init__(self, connection: sqlite3.Connection, most: int = MOST) -> None:
        self._cursor: Final = connection.cursor()
        self._most: Final = most
        self._version = -1
        self._size = 0
        self.parameters: ParameterSet | None = None
        self._current: Final[dict[_Name, StoredVersion | None]] = {}
        self._pages: Final[dict[_Asked, Page]] = {}
        self._about: Final[dict[str, dict[_Name, list[_Asked]]]] = {}
        """By type and reference, what was asked about whom it leads to."""
        self._holding: Final[dict[_Name, list[_Asked]]] = {}
        """By a resource, the questions that it answers."""

    def begin(self) -> None:
        """A group of commits has begun: nobody else commits until it ends."""
        (version,) = self._cursor.execute(_VERSION).fetchone()
        if version != self._version:
            self._version = version
            self.forget()

    def forget(self) -> None:
        self._size, self.parameters = 0, None
        for kept in (self._current, self._pages, self._about, self._holding):
            kept.clear()

    def current(self, resource_type: str, resource_id: str) -> StoredVersion | _Unknown | None:
        """The current version; None where there is none."""
        return self._current.get((resource_type, resource_id), UNKNOWN)

    def keep(self, resource_type: str, resource_id: str, found: StoredVersion | None) -> None:
        size = 0 if found is None else len(found.body)
        if size > _LARGE:
            self._current.pop((resource_type, resource_id), None)
            return
        self._take(_AROUND + size)
        self._current[resource_type, resource_id] = found

    def page(self, query: Search, count: int) -> Page | None:
        """What a search found before, where it would find that again."""
        if type(query) is not Query or query.resource_type not in self._about:
            return None
        return self._pages.get((query, count))

    def keep_page(self, query: Search, count: int, page: Page) -> None:
        """All that a search finds, where that hangs on what is about somebody, and nothing else."""
        about = _about_whom(query)
        if about is None or page.after is not None or type(query) is not Query:
            return
        size = sum(_AROUND + len(one.body) for one in page.matches)
        if size > _LARGE:
            return
        self._take(_AROUND + size)
        asked = (query, count)
        self._pages[asked] = page
        of_type = self._about.setdefault(query.resource_type, {})
        for target in about.targets:
            of_type.setdefault((about.code, target), []).append(asked)
        for one in page.matches:
            self._holding.setdefault((one.type, one.id), []).append(asked)

    def written(self, stored: StoredVersion, values: Iterable[tuple[str, IndexValue]]) -> None:
        """A commit has written a version with these index values."""
        name = (stored.type, stored.id)
        self.keep(*name, stored)
        if asked := self._holding.pop(name, None):
            self._drop(asked)
        of_type = self._about.get(stored.type)
        if not of_type:
            return
        for code, value in values:
            if type(value) is ReferenceValue and (code, value.target) in of_type:
                self._drop(of_type.pop((code, value.target)))

    def _drop(self, questions: Iterable[_Asked]) -> None:
        for asked in questions:
            self._pages.pop(asked, None)

    def _take(self, size: int) -> None:
        if self._size > self._most:
            self.forget()
        self._size += size


def _about_whom(query: Search) -> ReferenceTo | None:
    """The reference that all that is found has, where each criterion is one of the resource's own.

    What does not refer there, before or after it is written, is not found then; so only what does
    can change what is found.
    """
    if type(query) is not Query:
        return None
    nodes = query.where.nodes if type(query.where) is And else (query.where,)
    if nodes and type(nodes[0]) is ReferenceTo and all(map(_is_own, nodes[1:])):
        return nodes[0]
    return None


def _is_own(node: Node) -> bool:
    """Whether it hangs on nothing but the index values of the resource itself."""
    if type(node) is Or:
        return all(map(_is_own, node.nodes))
    return type(node) in (TokenIs, ReferenceTo)
