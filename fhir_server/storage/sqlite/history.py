"""History in SQL: versions of one resource, a type or everything, the newest first."""

from typing import Any, Final

from fhir_server.storage.interface import HistoryOf
from fhir_server.storage.sqlite.compile import Sql

_COLUMNS: Final = """
    SELECT r.type, r.id, v.version, v.updated, v.method, v.body, v.seq,
        v.version = 1 OR EXISTS (SELECT 1 FROM version p
            WHERE p.rid = v.rid AND p.version = v.version - 1 AND length(p.body) = 0)
    FROM version v JOIN resource r ON r.rid = v.rid WHERE v.seq < ?
"""
_NEXT_COMES_LATER: Final = """NOT EXISTS (SELECT 1 FROM version n
    WHERE n.rid = v.rid AND n.version = v.version + 1 AND n.updated <= ?)"""
_BEYOND_ALL: Final = 2**62


def history(scope: HistoryOf, count: int, before: int | None) -> Sql:
    """At most `count` versions with a number below `before`."""
    conditions: list[str] = []
    arguments: list[Any] = [_BEYOND_ALL if before is None else before]
    if scope.id:
        # One row: SQLite then walks the versions of that resource alone.
        conditions.append("v.rid = (SELECT rid FROM resource WHERE type = ? AND id = ?)")
        arguments += [scope.resource_type, scope.id]
    elif scope.resource_type:
        conditions.append("r.type = ?")
        arguments.append(scope.resource_type)
    if scope.since is not None:
        conditions.append("v.updated >= ?")
        arguments.append(scope.since)
    if scope.at is not None:
        low, high = scope.at
        conditions += ["v.updated < ?", _NEXT_COMES_LATER]
        arguments += [high, low]
    where = "".join(f" AND {condition}" for condition in conditions)
    # The same order for one resource, and one that an index has: no version is read to be sorted.
    order = "v.version" if scope.id else "v.seq"
    return Sql(f"{_COLUMNS}{where} ORDER BY {order} DESC LIMIT ?", [*arguments, count])
