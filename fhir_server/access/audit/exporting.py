"""Rows of the audit for other programs: AuditEvents as ndjson, or a table as CSV."""

import csv
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Final

from msgspec import structs

from fhir_server.access.audit.events import event_of
from fhir_server.fhir import json
from fhir_server.fhir.dates import instant
from fhir_server.storage.audited import AuditEntry, AuditQuery, AuditRow, received_of
from fhir_server.storage.interface import Store

_AT_ONCE: Final = 1000
_MEMBERS: Final = tuple(field.name for field in structs.fields(AuditRow))
COLUMNS: Final = ("number", "recorded", *_MEMBERS, "hash")
_FORMULA: Final = ("=", "+", "-", "@")
"""What a spreadsheet takes for the beginning of a formula."""


async def entries(store: Store, low: int | None, high: int | None) -> AsyncIterator[AuditEntry]:
    """All rows that were made in `[low, high)` (microseconds) and are there by now, in order."""
    head = (await store.audit_ends())[1]
    after = 0
    while found := await store.audited(
        AuditQuery(low=low, high=high, after=after, before=head.number + 1), _AT_ONCE
    ):
        for entry in found:
            yield entry
        after = found[-1].link.number


async def ndjson(store: Store, entry: AuditEntry) -> str:
    """The AuditEvent of a row, and after it those that it tells were received."""
    lines = [json.encode(event_of(entry))]
    with suppress(ValueError):  # of a row that somebody spoilt
        for resource_type, resource_id in received_of(entry.row):
            found = await store.read(resource_type, resource_id)
            lines += [] if found is None else [found.body]
    return "".join(f"{one.decode()}\n" for one in lines)


async def comma_separated(store: Store, entry: AuditEntry) -> str:  # noqa: ARG001
    row = entry.row
    values = [getattr(row, name) for name in _MEMBERS]
    cells = [" ".join(one) if isinstance(one, tuple) else str(one) for one in values]
    link = entry.link
    return line([str(link.number), instant(link.at), *map(_harmless, cells), link.hash.hex()])


def line(cells: list[str]) -> str:
    text = io.StringIO()
    csv.writer(text).writerow(cells)
    return text.getvalue()


def _harmless(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


FORMATS: Final[dict[str, Callable[[Store, AuditEntry], Awaitable[str]]]] = {
    "ndjson": ndjson,
    "csv": comma_separated,
}
