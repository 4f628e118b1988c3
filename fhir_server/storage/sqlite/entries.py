"""Rows of the index: how index values become integers.

Codes, targets and URIs are kept as 64-bit hashes keyed with a secret of the file, so that nobody
outside can make two of them meet; by chance, among a million values of one parameter, they meet
with a probability of 3e-8.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

from fhir_server.search.ast import component
from fhir_server.search.values import (
    CompositeValue,
    ContainedValue,
    DateValue,
    IndexValue,
    NumberValue,
    PlainValue,
    PositionValue,
    QuantityValue,
    ReferenceValue,
    StringValue,
    TextValue,
    TokenValue,
    UriValue,
)
from fhir_server.storage.sqlite.fulltext import FulltextWriter

_StringRow = tuple[int, int, int, str, str]
_Place = tuple[int, int]
"""Parameter and ordinal."""

Hash = Callable[[str], int]
_Columns = tuple[Any, Any, str | None]


def keyed_hash(secret: bytes) -> Hash:
    """Text to a signed 64-bit integer, never 0 but for the empty text."""

    @lru_cache(maxsize=16384)
    def hashed(text: str) -> int:
        if not text:
            return 0
        digest = blake2b(text.encode("utf-8", "surrogatepass"), key=secret, digest_size=8)
        return int.from_bytes(digest.digest(), "big", signed=True) or 1

    return hashed


class ParameterNumbers:
    """Numbers of (resource type, parameter code), given when first needed."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, str], int] = {}
        self.age = 0
        """How often they were forgotten: what was made of a number may be of another one since."""

    def known(self, connection: sqlite3.Connection, resource_type: str, code: str) -> int:
        """The number, or 0 when no resource has ever had a value for it."""
        number = self._numbers.get((resource_type, code))
        return number or self._load(connection, resource_type, code)

    def assigned(self, connection: sqlite3.Connection, resource_type: str, code: str) -> int:
        """The number, new if need be; `connection` is in a write transaction."""
        number = self._numbers.get((resource_type, code))
        if number:
            return number
        number = self._load(connection, resource_type, code)
        if number:
            return number
        # Not remembered here: the transaction that gives it may yet be rolled back.
        cursor = connection.execute(
            "INSERT INTO parameter (type, code) VALUES (?, ?)", (resource_type, code)
        )
        return int(cursor.lastrowid or 0)

    def forget(self) -> None:
        """After a rollback, which may have taken numbers back."""
        self._numbers.clear()
        self.age += 1  # the last of it: whoever took a number meanwhile sees that it has changed

    def _load(self, connection: sqlite3.Connection, resource_type: str, code: str) -> int:
        row = connection.execute(
            "SELECT number FROM parameter WHERE type = ? AND code = ?", (resource_type, code)
        ).fetchone()
        if row is None:
            return 0
        self._numbers[resource_type, code] = row[0]
        return int(row[0])


_AT_ONCE: Final = 32
"""Rows of one statement: one for each costs half as much again. Each number is a text of its own,
and SQLite compiles it once."""
_INSERT: Final = tuple(
    "INSERT OR FAIL INTO entry (rid, parameter, ordinal, low, high, text) VALUES "
    + ", ".join(["(?, ?, ?, ?, ?, ?)"] * count)
    for count in range(_AT_ONCE + 1)
)
"""By the number of rows. OR FAIL, as whoever fails takes back all of the commit: to be able to take
back the statement alone, SQLite would copy each page that it changes."""
_SET_UNIT: Final = """
    UPDATE entry SET system = ?, unit = ? WHERE rid = ? AND parameter = ? AND ordinal = ?
"""
"""Of quantities, which are few: a NULL for all others costs more than its column."""
_INSERT_STRING: Final = "INSERT INTO entry_string VALUES (?, ?, ?, ?, ?)"

_THERE: Final = "SELECT parameter, ordinal, low, high, text, system, unit FROM entry WHERE rid = ?"
_STRINGS_THERE: Final = "SELECT parameter, ordinal, text, exact FROM entry_string WHERE rid = ?"
_TAKE_OUT: Final = "DELETE FROM entry WHERE rid = ? AND parameter = ? AND ordinal = ?"
_TAKE_OUT_STRING: Final = "DELETE FROM entry_string WHERE rid = ? AND parameter = ? AND ordinal = ?"

_CONTAINED: Final = "SELECT rid FROM contained WHERE container = ?"
_INSERT_CONTAINED: Final = """
    INSERT INTO contained (rid, type, id, container)
    VALUES ((SELECT coalesce(min(rid), 0) - 1 FROM contained), ?, ?, ?) RETURNING rid
"""


IS_CONTAINED: Final = "#"
"""The pseudo-parameter of Container#Type whose number says that there ever was one."""


class EntryWriter:
    """Writes and removes the index entries of one resource."""

    def __init__(self, hashed: Hash, numbers: ParameterNumbers) -> None:
        self._hashed = hashed
        self._numbers = numbers
        self._fulltext = FulltextWriter()

    def write(
        self,
        connection: sqlite3.Connection,
        rid: int,
        resource_type: str,
        values: Iterable[tuple[str, IndexValue]],
    ) -> None:
        """Of a resource that has no entries."""
        self._put(connection, self._rows(connection, rid, resource_type, values))

    def rewrite(
        self,
        connection: sqlite3.Connection,
        rid: int,
        resource_type: str,
        values: Iterable[tuple[str, IndexValue]],
    ) -> None:
        """In the place of those of the version before: most stay as they are."""
        rows = self._rows(connection, rid, resource_type, values)
        if rows.within or connection.execute(_CONTAINED, (rid,)).fetchone():
            self.remove(connection, rid)
        else:
            rows.leave_out_what_is_there(connection)
            if not rows.texts:
                self._fulltext.remove(connection, rid)
        self._put(connection, rows)

    def _rows(
        self,
        connection: sqlite3.Connection,
        rid: int,
        resource_type: str,
        values: Iterable[tuple[str, IndexValue]],
    ) -> "_Rows":
        rows = _Rows(rid, resource_type)
        columns, strings, hashed, numbers = rows.columns, rows.strings, self._hashed, self._numbers
        for ordinal, code, value in _flat(values, rows.within, rows.texts):
            number = numbers.assigned(connection, resource_type, code)
            if type(value) is StringValue:
                strings.append((rid, number, ordinal, *value))
            else:
                columns += (rid, number, ordinal, *_COLUMNS[type(value)](hashed, value))
                if type(value) is QuantityValue:
                    rows.units[number, ordinal] = value.system, value.unit
        return rows

    def _put(self, connection: sqlite3.Connection, rows: "_Rows") -> None:
        rid = rows.rid
        self._fulltext.write(connection, rid, rows.texts)
        _insert(connection, rows.columns)
        if rows.units:
            told = [(*unit, rid, *place) for place, unit in rows.units.items()]
            connection.executemany(_SET_UNIT, told)
        if rows.strings:
            connection.executemany(_INSERT_STRING, rows.strings)
        for kind, one in rows.within:
            self._write_contained(connection, rid, f"{rows.resource_type}{kind}", one)

    def _write_contained(
        self, connection: sqlite3.Connection, container: int, kind: str, one: ContainedValue
    ) -> None:
        self._numbers.assigned(connection, kind, IS_CONTAINED)
        row = connection.execute(_INSERT_CONTAINED, (kind, one.id, container)).fetchone()
        self.write(connection, row[0], kind, one.values)

    def remove(self, connection: sqlite3.Connection, rid: int) -> None:
        for gone in remove_entries(connection, rid):
            self._fulltext.remove(connection, gone)

    def remove_of(
        self, connection: sqlite3.Connection, rid: int, resource_type: str, codes: Iterable[str]
    ) -> None:
        """Its entries under some index codes alone."""
        for code in codes:
            pair = rid, self._numbers.known(connection, resource_type, code)
            connection.execute("DELETE FROM entry WHERE rid = ? AND parameter = ?", pair)
            connection.execute("DELETE FROM entry_string WHERE rid = ? AND parameter = ?", pair)


@dataclass(slots=True)
class _Rows:
    """What is to be written of one resource; `columns` are six of each row of `entry`."""

    rid: int
    resource_type: str
    columns: list[Any] = field(default_factory=list)
    units: dict[_Place, tuple[str, str]] = field(default_factory=dict)
    """System and unit of those that are quantities."""
    strings: list[_StringRow] = field(default_factory=list)
    within: list[tuple[str, ContainedValue]] = field(default_factory=list)
    texts: list[tuple[str, TextValue]] = field(default_factory=list)

    def leave_out_what_is_there(self, connection: sqlite3.Connection) -> None:
        """Nothing is left of the resource's entries but what is to be there, in its place."""
        rid, units = (self.rid,), self.units
        told: list[Any] = self.columns
        wanted: dict[_Place, tuple[Any, ...]] = {
            (place := (told[at + 1], told[at + 2])): (
                *told[at + 3 : at + 6],
                *units.get(place, (None, None)),
            )
            for at in range(0, len(told), 6)
        }
        there = {(one[0], one[1]): one[2:] for one in connection.execute(_THERE, rid)}
        _take_out(connection, _TAKE_OUT, self.rid, there, wanted)
        missing = [place for place, row in wanted.items() if there.get(place) != row]
        self.columns = [one for at in missing for one in (self.rid, *at, *wanted[at][:3])]
        self.units = {place: units[place] for place in missing if place in units}
        strings: dict[_Place, tuple[Any, ...]] = {(s[1], s[2]): s[3:] for s in self.strings}
        there = {(one[0], one[1]): one[2:] for one in connection.execute(_STRINGS_THERE, rid)}
        _take_out(connection, _TAKE_OUT_STRING, self.rid, there, strings)
        self.strings = [s for s in self.strings if there.get((s[1], s[2])) != s[3:]]


def _take_out(
    connection: sqlite3.Connection,
    statement: str,
    rid: int,
    there: Mapping[_Place, tuple[Any, ...]],
    wanted: Mapping[_Place, tuple[Any, ...]],
) -> None:
    gone = [(rid, *place) for place, row in there.items() if wanted.get(place) != row]
    if gone:
        connection.executemany(statement, gone)


def _insert(connection: sqlite3.Connection, columns: list[Any]) -> None:
    """Rows of `entry`, six columns each."""
    most = 6 * _AT_ONCE
    for start in range(0, len(columns), most):
        some = columns if len(columns) <= most else columns[start : start + most]
        connection.execute(_INSERT[len(some) // 6], some)


def _of_token(hashed: Hash, value: TokenValue) -> _Columns:
    system, code = value
    return hashed(code), hashed(system), code


def _of_reference(hashed: Hash, value: ReferenceValue) -> _Columns:
    target, version = value
    return hashed(target), hashed(version), target


def _of_uri(hashed: Hash, value: UriValue) -> _Columns:
    return hashed(value.uri), 0, value.uri


def _of_quantity(_: Hash, value: QuantityValue) -> _Columns:
    return value.low, value.high, value.code


def _of_range(_: Hash, value: DateValue | NumberValue | PositionValue) -> _Columns:
    low, high = value
    return low, high, None


_COLUMNS: Final[Mapping[type, Callable[[Hash, Any], _Columns]]] = {
    TokenValue: _of_token,
    ReferenceValue: _of_reference,
    UriValue: _of_uri,
    QuantityValue: _of_quantity,
    **dict.fromkeys((DateValue, NumberValue, PositionValue), _of_range),
}
"""What a row says of each kind of value; strings have a table of their own."""


GROUP: Final = 16
"""Bits of an ordinal that tell the values of one component of one element apart."""


def remove_entries(connection: sqlite3.Connection, rid: int) -> list[int]:
    """All but the words; of which rows those are to go as well."""
    gone = [rid]
    for (inner,) in connection.execute(_CONTAINED, (rid,)).fetchall():
        gone += remove_entries(connection, inner)
        connection.execute("DELETE FROM contained WHERE rid = ?", (inner,))
    connection.execute("DELETE FROM entry WHERE rid = ?", (rid,))
    connection.execute("DELETE FROM entry_string WHERE rid = ?", (rid,))
    return gone


def _flat(
    values: Iterable[tuple[str, IndexValue]],
    within: list[tuple[str, ContainedValue]],
    texts: list[tuple[str, TextValue]],
) -> Iterator[tuple[int, str, PlainValue]]:
    """With an ordinal; what belongs to one element of a composite shares its upper bits.

    Contained resources are put `within`, words to the `texts`.
    """
    for ordinal, (code, value) in enumerate(values):
        if isinstance(value, CompositeValue):
            for index, part in enumerate(value.parts):
                for number, one in enumerate(part[: 1 << GROUP]):
                    yield (ordinal << GROUP) + number, component(code, index), one
        elif isinstance(value, TextValue):
            texts.append((code, value))
        elif isinstance(value, ContainedValue):
            within.append((code, value))
        else:
            yield ordinal, code, value
