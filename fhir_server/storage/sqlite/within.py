"""What searches are put within, as the rows that it comes to.

A policy is the same part of all that its caller searches of a type, and what satisfies it stays the
same until something of the type is written. To find that anew takes longer than all else that is
asked. So its rows are kept, and what else is asked is asked of these alone.
"""

import json
from collections import OrderedDict
from collections.abc import Collection, Sequence
from typing import Any, Final, NamedTuple, Protocol

from fhir_server.search.ast import (
    And,
    Differs,
    IdIn,
    Node,
    Not,
    Or,
    Query,
    ReferenceTo,
    SortKey,
)
from fhir_server.search.reach import types_of
from fhir_server.storage.sqlite.leading import FEW, UNFIT, leader

ALL: Final = 256
"""Rows of one criterion: to try more takes as long as to find them by what else is asked."""
FIRST: Final = 64
"""Rows of one that leads no search, as it leaves thousands: enough for a page."""
_TIMES: Final = 3
"""The time from which on it pays to find them: what changes with each search is left alone."""
_MOST: Final = 8192
"""Rows, or names of criteria by `_NAMES`: they take some 2 to 6 MiB."""
_NAMES: Final = 8
"""Of a criterion that is of use the names are the policy's own; of another they are kept for it."""
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

    def may_tell(self, rank: int, sort: tuple[SortKey, ...]) -> bool:
        """Whether they may tell a page of what else is asked, and that leads to no fewer.

        Args:
            rank: of what else is asked, as `leading.breadth` has it.
        """
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

    __slots__ = ("_names", "epoch", "generation", "rows", "times", "types", "within")

    def __init__(self, within: Node, types: Collection[str]) -> None:
        self.within: Final = within  # so that no other object has its number
        self.types: Final = types
        self._names: Final = 1 + _names(within) // _NAMES
        self.epoch: object = None
        """The last one of which it is known that the generation was the same in it."""
        self.generation = 0
        self.times = 0
        self.rows: Rows | None = None

    @property
    def size(self) -> int:
        return self._names + (0 if self.rows is None else len(self.rows.found))


def _names(node: Node) -> int:
    """How many patients, or others, it names."""
    match node:
        case And(nodes) | Or(nodes):
            return sum(map(_names, nodes))
        case Not(inner) | Differs(node=inner):
            return _names(inner)
        case ReferenceTo(targets=names) | IdIn(ids=names):
            return len(names)
        case _:
            return 0


class State(Protocol):
    """What a connection sees of the store."""

    def epoch(self) -> object:
        """Another object once anybody has committed."""

    def generation(self, types: Collection[str], /) -> int:
        """Another number once anything of the types was changed."""


class Within:
    """Of one connection, by the very objects of criteria.

    Whichever was not asked for longest makes room.
    """

    def __init__(self, state: State) -> None:
        self._state: Final = state
        self._size = 0
        self._kept: Final[OrderedDict[int, _Kept]] = OrderedDict()

    def find(self, resource_type: str, within: Node, epoch: object) -> Rows | None:
        """Of resources of the type, in the epoch that is now or was just; None where it is not
        kept, which is counted."""
        kept = self._kept.get(id(within))
        if kept is None:
            kept = self._put(_Kept(within, types_of(Query(resource_type, within))))
        if kept.epoch is not epoch:
            self._look(kept, epoch)
        kept.times += 1
        self._kept.move_to_end(id(within))
        return kept.rows

    def is_due(self, within: Node) -> bool:
        """Whether it was asked for so often that it is to be kept."""
        return self._kept[id(within)].times >= _TIMES

    def keep(self, within: Node, rows: Rows) -> None:
        """Of the generation in which it was asked for last."""
        kept = self._kept[id(within)]
        kept.rows = rows
        self._size += len(rows.found)
        self._make_room()

    def _put(self, kept: _Kept) -> _Kept:
        self._kept[id(kept.within)] = kept
        self._size += kept.size
        self._make_room()
        return kept

    def _make_room(self) -> None:
        """For the one that was asked for last, however large it is."""
        while self._size > _MOST and len(self._kept) > 1:
            self._size -= self._kept.popitem(last=False)[1].size

    def _look(self, kept: _Kept, epoch: object) -> None:
        """Whether it is as it was: else it is let go."""
        generation = self._state.generation(kept.types)
        if generation != kept.generation:
            self._size -= kept.size
            kept.generation, kept.times, kept.rows = generation, 0, None
            self._size += kept.size
        kept.epoch = epoch
