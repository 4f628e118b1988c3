"""Pieces of SQL with their arguments."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

MANY: Final = 100
"""Beyond so many, alternatives are not walked one by one, and lists are one JSON argument:
SQLite bounds the selects of a UNION, the depth of an expression and the number of variables."""

THOUSANDS: Final = 1000
"""Beyond so many, alternatives do not lead a search of which the first rows are enough."""


class Place:
    """Where a value of a question stands, while its SQL is compiled without the values.

    Whatever would look into the value fails, instead of deciding by what is not there.
    """

    __match_args__ = ("number",)
    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number: Final = number

    def __str__(self) -> str:
        raise TypeError("a place is no text")

    def __bool__(self) -> bool:
        raise TypeError("whether there is a value is said by the form")


class Unfit(Exception):
    """The question is compiled with its values."""


class ListPlace:
    """Where a list of thousands stands: no more is known of it than that it is so long."""

    __match_args__ = ("number",)
    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number: Final = number

    def __len__(self) -> int:
        return THOUSANDS + 1

    def __iter__(self) -> Iterator[str]:
        """Raises: Unfit, as what is in the list would decide."""
        raise Unfit


class Later(NamedTuple):
    """An argument that is worked out of a value, once there is one."""

    make: Callable[[Any], Any]
    place: Place


def made(make: Callable[[Any], Any], value: Any) -> Any:
    """What comes of the value: now, or where that is a place, later."""
    return Later(make, value) if isinstance(value, Place) else make(value)


@dataclass(slots=True)
class Sql:
    """A piece of SQL with its arguments in order."""

    text: str
    arguments: list[Any] = field(default_factory=list)
    loose: bool = False
    """With an OR at its top: it needs brackets beside others."""


class Lists:
    """Long lists of one statement, each by a number: a candidate is looked up in them.

    Handed over as JSON, a list of thousands is read anew by each statement, however few the
    candidates. Of one connection, and so of one thread at a time.
    """

    def __init__(self) -> None:
        self._lists: list[frozenset[str]] = []

    def __len__(self) -> int:
        return len(self._lists)

    def clear(self) -> None:
        """Before the next statement."""
        self._lists.clear()

    def taken(self) -> tuple[frozenset[str], ...]:
        """Those of the statement that was made last, to be put back before it is run again."""
        return tuple(self._lists)

    def put_back(self, lists: Iterable[frozenset[str]]) -> None:
        self._lists[:] = lists

    def add(self, texts: tuple[str, ...]) -> int:
        """Its number."""
        self._lists.append(_as_set(texts))
        return len(self._lists) - 1

    def has(self, number: int, text: str | None) -> bool:
        """The SQL function `is_listed`."""
        return text in self._lists[number]

    def holds(self, column: str, texts: tuple[str, ...] | ListPlace) -> Sql:
        listed = texts if isinstance(texts, ListPlace) else self.add(texts)
        return Sql(f"is_listed(?, {column})", [listed])


def _as_set(texts: tuple[str, ...]) -> frozenset[str]:
    """The same for the very same list, which to hash would take as long as to make the set."""
    known = _sets.get(id(texts))
    if known is None or known[0] is not texts:
        if len(_sets) >= _MOST_SETS:
            _sets.clear()
        known = _sets[id(texts)] = (texts, frozenset(texts))
    return known[1]


_MOST_SETS: Final = 64
_sets: Final[dict[int, tuple[tuple[str, ...], frozenset[str]]]] = {}


def joined(operator: str, parts: Sequence[Sql]) -> Sql:
    """With no more brackets than are needed: SQLite bounds how deep they may go."""
    if len(parts) == 1:
        return parts[0]
    texts = [f"({part.text})" if part.loose else part.text for part in parts]
    arguments = [argument for part in parts for argument in part.arguments]
    return Sql(operator.join(texts), arguments, loose=operator == " OR ")


def either(parts: Sequence[Sql]) -> Sql:
    """Bracketed by halves: SQLite bounds the depth of an expression."""
    if len(parts) <= 2:
        return joined(" OR ", parts) if parts else Sql("0")
    half = len(parts) // 2
    return joined(" OR ", [either(parts[:half]), either(parts[half:])])


def every(parts: Sequence[Sql]) -> Sql:
    """All of them; many are bracketed by halves, as in `either`."""
    if len(parts) <= MANY:
        return joined(" AND ", parts) if parts else Sql("1")
    half = len(parts) // 2
    halves = [every(parts[:half]), every(parts[half:])]
    return joined(" AND ", [Sql(f"({one.text})", one.arguments) for one in halves])


def among(column: str, values: Sequence[Any], most: int = MANY) -> Sql:
    """One of the values, told one by one where they are no more than `most`."""
    if len(values) > most:
        return Sql(f"{column} IN (SELECT value FROM json_each(?))", [json.dumps([*values])])
    return Sql(f"{column} IN ({', '.join('?' * len(values))})", list(values))
