"""From a query to SQL: which matches come, in which order, page by page."""

from functools import cached_property
from typing import Any, Final

from fhir_server.search.ast import LAST_UPDATED, Queries, Query, SortKey
from fhir_server.storage.interface import Position
from fhir_server.storage.sqlite.conditions import Conditions, NumberOf
from fhir_server.storage.sqlite.entries import Hash
from fhir_server.storage.sqlite.leading import leader
from fhir_server.storage.sqlite.sql import Lists, joined
from fhir_server.storage.sqlite.sql import Sql as Sql

FOUND: Final = ("seq", "rid", "type", "id", "updated")
"""The columns of a match before those that it is sorted by."""
_COLUMNS_FOUND: Final = ", ".join(f"r.{name}" for name in FOUND)


class Compiler:
    """Compiles queries of one resource type.

    Args:
        among: the rows of which it is asked, as a JSON list, where these are known to be current
            and of the type; then a page has the numbers of rows in the place of `FOUND`.
    """

    def __init__(
        self, query: Query, hashed: Hash, number: NumberOf, lists: Lists, among: Any = None
    ) -> None:
        self._query = query
        self._number = number
        self._conditions = Conditions(query.resource_type, hashed, number, lists)
        self._among = among

    def total(self) -> Sql:
        where = self._conditions.where(self._query.where)
        return Sql(
            f"SELECT count(*) AS matches FROM resource r WHERE {where.text}", where.arguments
        )

    def page(self, most: int, after: Position | None, until: Position | None = None) -> Sql:
        """Rows of `FOUND` and the sort values."""
        source = self._found() if self._computed else Sql("resource")
        conditions = [] if self._computed else [self._where(some=True)]
        if after is not None:
            conditions.append(self._beyond(after))
        if until is not None:
            beyond = self._beyond(until)
            conditions.append(Sql(f"NOT ({beyond.text})", beyond.arguments))
        where = joined(" AND ", conditions) if conditions else Sql("1")
        columns = _COLUMNS_FOUND if self._among is None else "r.rid"
        keys = "".join(f", {self._place(i)} AS s{i}" for i in range(len(self._query.sort)))
        return Sql(
            f"SELECT {columns}{keys} FROM {source.text} r WHERE {where.text}"
            f" ORDER BY {self._order()} LIMIT ?",
            [*source.arguments, *where.arguments, most],
        )

    def _where(self, *, some: bool) -> Sql:
        if self._among is not None:
            return self._conditions.among(self._among, self._query.where)
        return self._conditions.where(self._query.where, some=some)

    @property
    def _computed(self) -> bool:
        """Whether it is sorted by what stands in the index, not in `resource` itself."""
        return any(key.code not in _COLUMNS for key in self._query.sort)

    def _found(self) -> Sql:
        """The matches with their sort values, worked out once for each."""
        where = self._where(some=False)
        keys = [self._sort_value(key) for key in self._query.sort]
        columns = "".join(f", {key.text} AS k{i}" for i, key in enumerate(keys))
        return Sql(
            # The LIMIT keeps SQLite from working the columns out again wherever they are named.
            f"(SELECT {_COLUMNS_FOUND}{columns} FROM resource r WHERE {where.text} LIMIT -1)",
            [arg for key in keys for arg in key.arguments] + where.arguments,
        )

    def _place(self, i: int) -> str:
        """Where the value of the i-th sort key stands."""
        return f"r.k{i}" if self._computed else _COLUMNS[self._query.sort[i].code]

    def _sort_value(self, key: SortKey) -> Sql:
        if key.code in _COLUMNS:
            return Sql(_COLUMNS[key.code])
        table = "entry_string" if key.kind == "string" else "entry"
        column = _SORT_COLUMNS[key.kind][key.descending]
        # The + keeps SQLite from walking the parameter's index in order until the row turns up.
        return Sql(
            f"(SELECT {'max' if key.descending else 'min'}(+e.{column}) FROM {table} e"
            " WHERE e.rid = r.rid AND e.parameter = ?)",
            [self._number(self._query.resource_type, key.code)],
        )

    def _order(self) -> str:
        keys = [
            f"{self._plainly}{self._place(i)} {_direction(key)}"
            if key.code in _COLUMNS
            else f"{self._place(i)} IS NULL, {self._place(i)} {_direction(key)}"
            for i, key in enumerate(self._query.sort)
        ]
        return ", ".join([*keys, f"r.rid {'DESC' if self._backwards else 'ASC'}"])

    @property
    def _plainly(self) -> str:
        """Where a criterion leads, the few that it leaves are sorted: no walk in the order."""
        return "+" if self._led else ""

    @cached_property
    def _led(self) -> bool:
        some = not self._computed
        return self._among is not None or leader(self._query.where, some=some) is not None

    @property
    def _backwards(self) -> bool:
        """Equals follow the last key's direction, so that one index gives the whole order."""
        return bool(self._query.sort) and self._query.sort[-1].descending

    def _beyond(self, after: Position) -> Sql:
        """Rows that come later in the order than the row at `after`."""
        *values, rid = after
        alternatives: list[Sql] = []
        equal: list[Sql] = []
        for i, (key, value) in enumerate(zip(self._query.sort, values, strict=True)):
            if value is not None:
                alternatives.append(joined(" AND ", [*equal, self._later(i, key, value)]))
            equal.append(Sql(f"{self._plainly}{self._place(i)} IS ?", [value]))
        further = Sql(f"r.rid {'<' if self._backwards else '>'} ?", [rid])
        alternatives.append(joined(" AND ", [*equal, further]))
        beyond = joined(" OR ", alternatives)
        if not self._query.sort or self._query.sort[0].code not in _COLUMNS:
            return beyond
        # Says nothing new, but lets SQLite begin in the index where the last page ended.
        sign = "<=" if self._query.sort[0].descending else ">="
        bound = Sql(f"{self._plainly}{self._place(0)} {sign} ?", [values[0]])
        return joined(" AND ", [bound, beyond])

    def _later(self, i: int, key: SortKey, value: Any) -> Sql:
        sign = "<" if key.descending else ">"
        later = Sql(f"{self._plainly}{self._place(i)} {sign} ?", [value])
        if key.code in _COLUMNS:
            return later
        return Sql(f"({later.text} OR {self._place(i)} IS NULL)", later.arguments)


class SeveralCompiler:
    """Compiles a search of several types: the pages of each, put in one order."""

    def __init__(self, queries: Queries, hashed: Hash, number: NumberOf, lists: Lists) -> None:
        self._sort = queries.sort
        self._parts = [Compiler(part, hashed, number, lists) for part in queries.parts]

    def total(self) -> Sql:
        counts = joined(" UNION ALL ", [part.total() for part in self._parts])
        return Sql(f"SELECT sum(matches) FROM ({counts.text})", counts.arguments)

    def page(self, most: int, after: Position | None, until: Position | None = None) -> Sql:
        pages = [part.page(most, after, until) for part in self._parts]
        together = joined(
            " UNION ALL ", [Sql(f"SELECT * FROM ({one.text})", one.arguments) for one in pages]
        )
        keys = [f"s{i} IS NULL, s{i} {_direction(key)}" for i, key in enumerate(self._sort)]
        last = "DESC" if self._sort and self._sort[-1].descending else "ASC"
        order = ", ".join([*keys, f"rid {last}"])
        return Sql(
            f"SELECT * FROM ({together.text}) ORDER BY {order} LIMIT ?",
            [*together.arguments, most],
        )


def _direction(key: SortKey) -> str:
    return "DESC" if key.descending else "ASC"


_COLUMNS: Final = {"_id": "r.id", LAST_UPDATED: "r.updated"}
"""Sort keys that every resource has, in its own row."""

_SORT_COLUMNS: Final = {
    "string": ("text", "text"),
    "token": ("text", "text"),
    "reference": ("text", "text"),
    "uri": ("text", "text"),
    "date": ("low", "high"),
    "number": ("low", "high"),
    "quantity": ("low", "high"),
}
"""The column to sort by, ascending and descending."""
