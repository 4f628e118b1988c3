"""What searches are put within, as the rows that it comes to.

A policy is the same part of all that its caller searches of a type, and what satisfies it stays the
same until something of the type is written. To find that anew takes longer than all else that is
asked. So its rows are kept, and what else is asked is asked of these alone.
"""

import json
from collections import OrderedDict
from collections.abc import Collection, Sequence
from typing import Any, Final, NamedTuple, Protocol

from fhir_server.search.ast import Node, Query, SortKey
from fhir_server.search.reach import types_of
from fhir_server.storage.sqlite.leading import FEW, UNFIT, breadth, leader

ALL: Final = 256
"""Rows of one criterion: to try more takes as long as to find them by what else is asked."""
FIRST: Final = 64
"""Rows of one that leads no search, as it leaves thousands: enough for a page."""
_TIMES: Final = 3
"""The time from which on it pays to find them: what changes with each search is left alone."""
_MOST: Final = 8192
"""Rows, and what was asked for without any; they take some 2 MiB."""
Row = Sequence[Any]
"""As `compile.FOUND`."""


def most_of(within: Node) -> int:
    """How many rows of a criterion are kept."""
    return FIRST if leader(within, some=True) is None else ALL


class Rows(NamedTuple):
    """The first rows, in the order of their numbers, of what satisfies a criterion."""

    found: dict[int, Row]
    told: str
    """Their numbers, as JSON."""
    complete: bool
    """Whether there are no others."""

    def may_tell(self, asked: Node, sort: tuple[SortKey, ...]) -> bool:
        """Whether they may tell a page of what else is asked, and nothing leads to fewer."""
        rank = breadth(asked)
        if self.complete:
            return rank > FEW
        return rank == UNFIT and not sort and bool(self.found)


UNTOLD: Final = Rows({}, "[]", complete=False)
"""Of what is not found in a moment."""


def rows_of(found: Sequence[Row], most: int) -> Rows:
    """Of at most one more than are kept."""
    kept = {row[1]: row for row in found[:most]}
    return Rows(kept, json.dumps([*kept]), complete=len(found) <= most)


class _Kept:
    """A criterion; its rows, once it was asked for so many times in one generation of its types."""

    __slots__ = ("generation", "rows", "times", "types", "within")

    def __init__(self, within: Node, types: Collection[str]) -> None:
        self.within: Final = within  # so that no other object has its number
        self.types: Final = types
        self.generation = 0
        self.times = 0
        self.rows: Rows | None = None

    @property
    def size(self) -> int:
        return 1 if self.rows is None else 1 + len(self.rows.found)


class State(Protocol):
    """What a connection has seen of the store."""

    @property
    def seen(self) -> object:
        """The epoch at the last look."""

    def generation(self, types: Collection[str], /) -> int:
        """Looks, and gives another number once anything of the types was changed."""


class Within:
    """Of one connection, by the very objects of criteria.

    Whichever was not asked for longest makes room.
    """

    def __init__(self, state: State) -> None:
        self._state: Final = state
        self._size = 0
        self._kept: Final[OrderedDict[int, _Kept]] = OrderedDict()

    @property
    def epoch(self) -> object:
        """That in which rows were found last."""
        return self._state.seen

    def find(self, resource_type: str, within: Node) -> Rows | None:
        """Of resources of the type, as it is now; None where it is not kept, which is counted."""
        kept = self._kept.get(id(within))
        if kept is None:
            kept = self._put(_Kept(within, types_of(Query(resource_type, within))))
        generation = self._state.generation(kept.types)
        if kept.generation != generation:
            self._forget(kept, generation)
        kept.times += 1
        self._kept.move_to_end(id(within))
        return kept.rows

    def is_due(self, within: Node) -> bool:
        """Whether it was asked for so often that it is to be kept."""
        return self._kept[id(within)].times >= _TIMES

    def keep(self, within: Node, rows: Rows) -> Rows:
        """Of the generation in which it was asked for last."""
        kept = self._kept[id(within)]
        kept.rows = rows
        self._size += len(rows.found)
        while self._size > _MOST:
            self._drop(next(iter(self._kept)))
        return rows

    def _put(self, kept: _Kept) -> _Kept:
        self._kept[id(kept.within)] = kept
        self._size += kept.size
        return kept

    def _forget(self, kept: _Kept, generation: int) -> None:
        self._size -= kept.size - 1
        kept.generation, kept.times, kept.rows = generation, 0, None

    def _drop(self, key: int) -> None:
        self._size -= self._kept.pop(key).size
