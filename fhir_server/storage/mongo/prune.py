"""Retention of the audit in MongoDB: old rows taken out, in small commits beside live traffic.

Versions of resources are all kept there.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from fhir_server.storage.audited import AuditEntry, AuditQuery
from fhir_server.storage.interface import Unit
from fhir_server.storage.mongo.store import MongoStore
from fhir_server.storage.mongo.unit import MongoUnit

_ROWS: Final = 512
"""Of one commit."""


async def prune_audit(store: MongoStore, before: int, *, dry: bool = False) -> int:
    """Take out the rows that were made before that moment (microseconds), but for the newest.

    Returns:
        How many went, or would have gone.

    Raises:
        FhirError: UNAVAILABLE; what was done until then is kept.
    """
    newest = (await store.audit_ends())[1].number
    count, after = 0, 0
    while due := await store.audited(AuditQuery(high=before, after=after, before=newest), _ROWS):
        began = time.monotonic()
        if not dry:
            await store.commit(_taking(due))
            await asyncio.sleep(time.monotonic() - began)
        count, after = count + len(due), due[-1].link.number
    return count


def _taking(due: Sequence[AuditEntry]) -> Callable[[Unit], Awaitable[None]]:
    async def work(unit: Unit) -> None:
        assert isinstance(unit, MongoUnit)  # noqa: S101 - the store is one of MongoDB
        await unit.take_out(due)

    return work
