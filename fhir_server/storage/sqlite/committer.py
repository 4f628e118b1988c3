"""Group commit: everyone who waits shares one fsync.

The statements of a group run on the event loop; only BEGIN's wait and COMMIT leave it. While a
COMMIT is under way, the next group gathers by itself.

A savepoint for each commit of a group costs a copy of all pages that it writes to, and few fail
once they have written. So there is none at first; where one fails, the group is taken back and run
again with savepoints, as are the commits that come next (docs/decisions/0048).
"""

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from fhir_server.storage.groups import Groups, Pending, runner_is_cancelled
from fhir_server.storage.interface import Unit
from fhir_server.storage.sqlite.audit import Tail
from fhir_server.storage.sqlite.faults import is_damage, unwritable

_BUSY_WAIT: Final = 0.002
MOST_REDONE: Final = 8000
"""Rows that a group may have written without a savepoint: as many again would take little."""
WARY: Final = 256
"""Commits that have a savepoint of their own after one has failed."""


class Committer:
    """Runs commits on one connection, in groups, one group at a time.

    Args:
        tail: what the units leave for the audit.
        begun: told when a group has begun, until whose end nobody else commits.
        rolled_back: told when something was taken back.
        patience: seconds to wait for another process's commit.
        require_there: raises FhirError where the connection's file is not the store's any more.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        unit: Callable[[], Unit],
        tail: Tail,
        begun: Callable[[], None],
        rolled_back: Callable[[], None],
        patience: float,
        require_there: Callable[[], None],
    ) -> None:
        self._connection = connection
        self._unit = unit
        self._tail = tail
        self._begun = begun
        self._rolled_back = rolled_back
        self._patience = patience
        self._require_there = require_there
        self._succeeded = 0.0
        self._wary = 0
        self.spoilt = False
        """Whether the connection is of no more use: it is in a transaction that it could not end,
        or may keep what it has read of a damaged file."""
        self._groups = Groups(self._commit_group, self._failed)

    async def commit(self, work: Callable[[Unit], Awaitable[Any]]) -> Any:
        return await self._groups.commit(work)

    def has_committed_within(self, seconds: float) -> bool:
        """Whether a commit was the last thing here, and that lately."""
        return time.monotonic() - self._succeeded < seconds

    async def close(self) -> None:
        await self._groups.close()

    def _failed(self, error: BaseException) -> BaseException:
        """What befell a whole group."""
        self._succeeded = 0.0
        self.spoilt = self.spoilt or is_damage(error)
        return _refusal(error)

    async def _commit_group(self, group: Sequence[Pending]) -> None:
        await self._begin()
        try:
            self._begun()
            self._require_there()
            await self._run(group)
            self._tail.write(self._connection)
            cancelled = await self._to_disk()
            self._require_there()
        except BaseException:
            self._roll_back()
            raise
        self._succeeded = time.monotonic()
        if cancelled:
            for pending in group:
                pending.answer()
            raise asyncio.CancelledError

    async def _to_disk(self) -> bool:
        """COMMIT, to its end: whether the loop wanted to end meanwhile.

        Nothing else may touch the connection until then, and only the outcome says what those
        who wait are to be told. It is a future and not a task: a loop that ends cancels tasks.
        """
        loop = asyncio.get_running_loop()
        ending = loop.run_in_executor(None, self._connection.execute, "COMMIT")
        cancelled = False
        while not ending.done():
            try:
                await asyncio.shield(ending)
            except asyncio.CancelledError:
                cancelled = True
            except sqlite3.Error:
                break
        ending.result()
        return cancelled

    async def _begin(self) -> None:
        deadline = asyncio.get_running_loop().time() + self._patience
        while True:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or asyncio.get_running_loop().time() > deadline:
                    raise
                await asyncio.sleep(_BUSY_WAIT)
            else:
                return

    async def _run(self, group: Sequence[Pending]) -> None:
        """Each in its turn; none leaves anything behind that has failed."""
        begun = self._written()
        for number, pending in enumerate(group, 1):
            before = self._written()
            if self._wary or before[0] - begun[0] > MOST_REDONE:
                await self._in_savepoint(pending)
                continue
            await self._outcome(pending)
            if pending.error is not None and self._written() != before:
                await self._begin_again()
                if before != begun:
                    # Its error may come of what they have written: it runs again with them.
                    self._wary = WARY
                    for one in group[:number]:
                        await self._in_savepoint(one)
                begun = self._written()

    def _written(self) -> tuple[int, int]:
        """Rows that the connection has ever changed, and those that wait for the audit."""
        return self._connection.total_changes, len(self._tail)

    async def _begin_again(self) -> None:
        """As if nothing of the group had been done."""
        self._connection.execute("ROLLBACK")
        self._tail.cut()
        self._rolled_back()
        await self._begin()

    async def _in_savepoint(self, pending: Pending) -> None:
        self._wary = max(0, self._wary - 1)
        self._connection.execute("SAVEPOINT one")
        told = len(self._tail)
        await self._outcome(pending)
        if pending.error is not None:
            self._connection.execute("ROLLBACK TO one")
            self._tail.cut(told)
            self._rolled_back()
        self._connection.execute("RELEASE one")

    async def _outcome(self, pending: Pending) -> None:
        """Run it, if anybody waits for it still; its result, or the error that is its own."""
        pending.result = pending.error = None
        if pending.gone:
            return
        try:
            pending.result = await pending.work(self._unit())
        except (Exception, asyncio.CancelledError) as error:
            # After a grave fault SQLite has rolled back by itself, and the group is gone; what
            # cancels the runner itself ends it.
            if not self._connection.in_transaction or runner_is_cancelled():
                raise
            pending.error = _refusal(error)
            self.spoilt = self.spoilt or is_damage(error)

    def _roll_back(self) -> None:
        self._tail.cut()
        self._rolled_back()
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error:
            self.spoilt = True
            raise


def _refusal(error: BaseException) -> BaseException:
    if isinstance(error, sqlite3.Error):
        return unwritable(error)
    return error
