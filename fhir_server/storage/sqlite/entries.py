"""Rows of the index: how index values become integers.

Codes, targets and URIs are kept as 64-bit hashes keyed with a secret of the file, so that nobody
outside can make two of them meet; by chance, among a million values of one parameter, they meet
with a probability of 3e-8.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator
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

_Row = tuple[int, int, int, Any, Any, str | None, str | None, str | None]
_StringRow = tuple[int, int, int, str, str]

Hash = Callable[[str], int]


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

    def known(self, connection: sqlite3.Connection, resource_type: str, code: str) -> int:
        """The number, or 0 when no resource has ever had a value for it."""
        number = self._numbers.get((resource_type, code))
        return number or self._load(connection, resource_type, code)

    def assigned(self, connection: sqlite3.Connection, resource_type: str, code: str) -> int:
        """The number, new if need be; `connection` is in a write transaction."""
        number = self.known(connection, resource_type, code)
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

    def _load(self, connection: sqlite3.Connection, resource_type: str, code: str) -> int:
        row = connection.execute(
            "SELECT number FROM parameter WHERE type = ? AND code = ?", (resource_type, code)
        ).fetchone()
        if row is None:
            return 0
        self._numbers[resource_type, code] = row[0]
        return int(row[0])


_INSERT: Final = "INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_INSERT_STRING: Final = "INSERT INTO entry_string VALUES (?, ?, ?, ?, ?)"

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
        rows: list[_Row] = []
        strings: list[_StringRow] = []
        within: list[tuple[str, ContainedValue]] = []
        found = list(values)
        self._fulltext.write(connection, rid, _texts(found))
        for ordinal, code, value in _flat(found, within):
            number = self._numbers.assigned(connection, resource_type, code)
            if isinstance(value, StringValue):
                strings.append((rid, number, ordinal, value.text, value.exact))
            else:
                rows.append((rid, number, ordinal, *self._columns(value)))
        connection.executemany(_INSERT, rows)
        if strings:
            connection.executemany(_INSERT_STRING, strings)
        for kind, one in within:
            self._write_contained(connection, rid, f"{resource_type}{kind}", one)

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

    def _columns(self, value: PlainValue) -> tuple[Any, Any, str | None, str | None, str | None]:
        hashed = self._hashed
        match value:
            case TokenValue(system, code):
                return hashed(code), hashed(system), code, None, None
            case ReferenceValue(target, version):
                return hashed(target), hashed(version), target, None, None
            case DateValue(low, high):
                return low, high, None, None, None
            case UriValue(uri):
                return hashed(uri), 0, uri, None, None
            case NumberValue(low_number, high_number):
                return low_number, high_number, None, None, None
            case PositionValue(latitude, longitude):
                return latitude, longitude, None, None, None
            case QuantityValue(low_number, high_number, system, code, unit):
                return low_number, high_number, code, system, unit
            case StringValue():
                raise TypeError("strings have a table of their own")


def _texts(values: Iterable[tuple[str, IndexValue]]) -> list[tuple[str, TextValue]]:
    return [(code, value) for code, value in values if isinstance(value, TextValue)]


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
    values: Iterable[tuple[str, IndexValue]], within: list[tuple[str, ContainedValue]]
) -> Iterator[tuple[int, str, PlainValue]]:
    """With an ordinal; what belongs to one element of a composite shares its upper bits.

    Contained resources are put `within`.
    """
    for ordinal, (code, value) in enumerate(values):
        if isinstance(value, ContainedValue):
            within.append((code, value))
        if isinstance(value, ContainedValue | TextValue):
            continue
        if not isinstance(value, CompositeValue):
            yield ordinal, code, value
            continue
        for index, part in enumerate(value.parts):
            for number, one in enumerate(part[: 1 << GROUP]):
                yield (ordinal << GROUP) + number, component(code, index), one
