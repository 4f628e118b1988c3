"""The versions of one resource, looked at: each readable and as its row says, none missing."""

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from fhir_server.errors import FhirError
from fhir_server.fhir import json
from fhir_server.fhir.dates import instant
from fhir_server.storage.sqlite.findings import RESTORE

_RESOURCE: Final = """
    SELECT rid, type, id, version, seq, updated, deleted FROM resource WHERE rid = ?
"""
_VERSIONS: Final = """
    SELECT version, seq, updated, method, body FROM version WHERE rid = ? ORDER BY version
"""
_PRUNED: Final = "SELECT version FROM pruned WHERE rid = ?"
_POINT: Final = """
    UPDATE resource SET (version, seq, updated, deleted) = (
        SELECT version, seq, updated, length(body) = 0 FROM version
        WHERE version.rid = resource.rid ORDER BY version.version DESC LIMIT 1
    ) WHERE rid = ? AND EXISTS (SELECT 1 FROM version WHERE version.rid = resource.rid)
"""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of `resource`: what the current version is said to be."""

    rid: int
    type: str
    id: str
    version: int
    seq: int
    updated: int
    deleted: int

    @property
    def name(self) -> str:
        return f"{self.type}/{self.id}"


@dataclass(frozen=True, slots=True)
class VersionRow:
    """A row of `version`; in a damaged file, any of it may be of any type."""

    version: int
    seq: int
    updated: int
    method: str
    body: Any


def row_of(connection: sqlite3.Connection, rid: int) -> Row | None:
    found = connection.execute(_RESOURCE, (rid,)).fetchone()
    return None if found is None else Row(*found)


def point_anew(connection: sqlite3.Connection, rid: int) -> None:
    """The newest version that is there becomes the current one."""
    connection.execute(_POINT, (rid,))


def first_kept(connection: sqlite3.Connection, rid: int) -> int:
    """The lowest version that retention has left there."""
    found = connection.execute(_PRUNED, (rid,)).fetchone()
    return 1 if found is None else int(found[0]) + 1


@dataclass(slots=True)
class Versions:
    """Of one resource: `problems` of each version, the last one, and how many there are."""

    problems: list[str]
    last: VersionRow | None
    count: int


def versions_of(connection: sqlite3.Connection, row: Row, first: int) -> Versions:
    """Gone through one by one, however many there are."""
    found = Versions([], None, 0)
    for one in connection.execute(_VERSIONS, (row.rid,)):
        current = VersionRow(*one)
        found.problems += _order_problems(found.last, current, first)
        found.problems += body_problems(row.type, row.id, current)
        found.last, found.count = current, found.count + 1
    if found.last is None:
        found.problems.append(f"has no version; {RESTORE}")
    return found


def pointer_problems(row: Row, last: VersionRow) -> Iterator[str]:
    """Where the row of `resource` does not say what the newest version is."""
    said = (row.version, row.seq, row.updated, row.deleted)
    if said != (last.version, last.seq, last.updated, int(not last.body)):
        yield (
            f"its row points to version {row.version} (number {row.seq}), "
            f"and the newest is version {last.version} (number {last.seq})"
        )


def _order_problems(before: VersionRow | None, one: VersionRow, first: int) -> Iterator[str]:
    expected = first if before is None else before.version + 1
    if one.version != expected:
        missing = f"version {expected}" if one.version == expected + 1 else _span(expected, one)
        yield f"{missing} is missing; {RESTORE}"
    if before is not None and (one.seq <= before.seq or one.updated <= before.updated):
        yield f"version {one.version} is not later than version {before.version}; {RESTORE}"


def _span(expected: int, one: VersionRow) -> str:
    return f"what lies between version {expected - 1} and version {one.version}"


def body_problems(resource_type: str, resource_id: str, one: VersionRow) -> Iterable[str]:
    """Where the body is not readable, or is not that of its row."""
    name = f"version {one.version}"
    if not isinstance(one.body, bytes):
        return (f"{name} is not stored as bytes; {RESTORE}",)
    if not one.body or one.method == "DELETE":
        fits = not one.body and one.method == "DELETE"
        return () if fits else (f"{name} is half a deletion; {RESTORE}",)
    try:
        resource = json.decode_resource(one.body)
    except FhirError as error:
        return (f"{name} cannot be read ({error}); {RESTORE}",)
    said, expected = _said(resource), _expected(resource_type, resource_id, one)
    wrong = [member for member in expected if said.get(member) != expected[member]]
    return [f"{name} has another {member} than its row; {RESTORE}" for member in wrong]


def _said(resource: json.Resource) -> dict[str, Any]:
    meta = resource.get("meta")
    told = meta if isinstance(meta, dict) else {}
    of_meta = {member: told.get(member) for member in ("versionId", "lastUpdated")}
    return {**resource, **of_meta}


def _expected(resource_type: str, resource_id: str, one: VersionRow) -> dict[str, str]:
    return {
        "resourceType": resource_type,
        "id": resource_id,
        "versionId": str(one.version),
        "lastUpdated": instant(one.updated),
    }
