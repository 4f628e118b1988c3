"""Rows of what was read or refused, on their way into the audit.

They wait in a bounded queue that is flushed in one commit at a time: what is read does not wait
for the disk. When the store does not take them, or they come faster than it does, nothing is
read any more until it has: what could not be audited is not shown.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from typing import Final

from fhir_server.errors import FhirError, Kind
from fhir_server.storage.audited import AuditRow
from fhir_server.storage.interface import Store, Unit

_log: Final = logging.getLogger(__name__)
MOST: Final = 10_000
"""Rows that may wait."""
_WITHIN: Final = 0.05
"""Seconds that a row waits, so that others share its commit; unless somebody waits for it."""
_AT_ONCE: Final = 500
"""Rows of one commit."""
_PAUSE: Final = 0.5
"""Seconds before a flush that failed is tried again."""
_LAST: Final = 5.0
"""Seconds that the end of the server waits for the last rows."""


class Trail:
    """The rows of one server process.

    Args:
        strict: an answer waits until its row is on disk.
        most: rows that may wait.
    """

    def __init__(self, store: Store, *, strict: bool = False, most: int = MOST) -> None:
        self._store = store
        self._most = most
        self.strict: Final = strict
        self._waiting: deque[AuditRow] = deque()
        self._put = 0
        """Rows that were ever put, and how many of those are on disk."""
        self._kept = 0
        self._failing = False
        self._woken = asyncio.Event()
        self._hurried = asyncio.Event()
        self._moved = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._flush_for_ever())

    async def stop(self) -> None:
        """Flush what waits; what the store does not take by then is told in the log."""
        try:
            async with asyncio.timeout(_LAST):
                await self.flushed()
        except (TimeoutError, FhirError):
            _log.error("%d rows of the audit are lost: the store did not take them", self.behind)
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    @property
    def behind(self) -> int:
        """Rows that are not on disk."""
        return self._put - self._kept

    def require_open(self) -> None:
        """Before anything is read.

        Raises:
            FhirError: UNAVAILABLE while what is read could not be audited.
        """
        if self._failing or len(self._waiting) >= self._most:
            raise _blocked()

    def put(self, row: AuditRow) -> None:
        self._waiting.append(row)
        self._put += 1
        self._woken.set()

    async def settle(self) -> None:
        """After `put`, where an answer waits for its row."""
        if self.strict and self.behind:
            await self.flushed()

    async def flushed(self) -> None:
        """Wait until all that was put by now is on disk.

        Raises:
            FhirError: UNAVAILABLE when the store does not take it.
        """
        until = self._put
        if self._waiting:
            self._hurried.set()
        async with self._moved:
            await self._moved.wait_for(lambda: self._kept >= until or self._failing)
        if self._kept < until:
            raise _blocked()

    async def _flush_for_ever(self) -> None:
        while True:
            await self._woken.wait()
            if not self.strict:
                await self._gather()
            self._woken.clear()
            await self._flush()
            # A commit costs as much as many rows: those that came meanwhile wait for others.
            while len(self._waiting) >= (1 if self.strict else _AT_ONCE):
                await self._flush()
            if self._waiting:
                self._woken.set()

    async def _gather(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_WITHIN):
                await self._hurried.wait()
        self._hurried.clear()

    async def _flush(self) -> None:
        """The rows that have waited longest; they wait on where it fails."""
        rows = [*islice(self._waiting, _AT_ONCE)]
        try:
            await self._keep(rows)
        except Exception as error:  # whatever it is, nothing may be read meanwhile
            await self._moved_on(failing=True)
            _log.error("The audit cannot be written, and nothing is read until it can: %s", error)
            await asyncio.sleep(_PAUSE)
            return
        for _ in rows:
            self._waiting.popleft()
        self._kept += len(rows)
        await self._moved_on(failing=False)

    async def _keep(self, rows: Sequence[AuditRow]) -> None:
        async def work(unit: Unit) -> None:
            await unit.audit(*rows)

        await self._store.commit(work)

    async def _moved_on(self, *, failing: bool) -> None:
        self._failing = failing
        async with self._moved:
            self._moved.notify_all()


def _blocked() -> FhirError:
    return FhirError(
        Kind.UNAVAILABLE,
        "The audit cannot be written now, and nothing is read without it; try again later",
    )
