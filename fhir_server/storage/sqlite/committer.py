"""Group commit: everyone who waits shares one fsync.

The statements of a group run on the event loop, each commit in a savepoint of its own; only
BEGIN's wait and COMMIT leave it. While a COMMIT is under way, the next group gathers by itself.
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


class Committer:
    """Runs commits on one connection, in groups, one group at a time.

    Args:
        tail: what the units leave for the audit.
        rolled_back: told when something was taken back.
        patience: seconds to wait for another process's commit.
        require_there: raises FhirError where the connection's file is not the store's any more.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        unit: Callable[[], Unit],
        tail: Tail,
        rolled_back: Callable[[], None],
        patience: float,
        require_there: Callable[[], None],
    ) -> None:
        self._connection = connection
        self._unit = unit
        self._tail = tail
        self._rolled_back = rolled_back
        self._patience = patience
        self._require_there = require_there
        self._succeeded = 0.0
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
            self._require_there()
            for pending in group:
                await self._in_savepoint(pending)
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

    async def _in_savepoint(self, pending: Pending) -> None:
        if pending.gone:
            return
        self._connection.execute("SAVEPOINT one")
        told = len(self._tail)
        try:
            pending.result = await pending.work(self._unit())
        except (Exception, asyncio.CancelledError) as error:
            # After a grave fault SQLite has rolled back by itself, and the group is gone; what
            # cancels the runner itself ends it.
            if not self._connection.in_transaction or runner_is_cancelled():
                raise
            pending.error = _refusal(error)
            self.spoilt = self.spoilt or is_damage(error)
            self._connection.execute("ROLLBACK TO one")
            self._tail.cut(told)
            self._rolled_back()
        self._connection.execute("RELEASE one")

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
