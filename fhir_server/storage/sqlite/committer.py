"""Group commit: everyone who waits shares one fsync.

The statements of a group run on the event loop, each commit in a savepoint of its own; only
BEGIN's wait and COMMIT leave it. While a COMMIT is under way, the next group gathers by itself.
"""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from fhir_server.errors import FhirError, Kind
from fhir_server.storage.groups import Groups, Pending, runner_is_cancelled
from fhir_server.storage.interface import Unit

_BUSY_WAIT: Final = 0.002


class Committer:
    """Runs commits on one connection, in groups, one group at a time.

    Args:
        rolled_back: told when something was taken back.
        patience: seconds to wait for another process's commit.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        unit: Callable[[], Unit],
        rolled_back: Callable[[], None],
        patience: float,
    ) -> None:
        self._connection = connection
        self._unit = unit
        self._rolled_back = rolled_back
        self._patience = patience
        self._groups = Groups(self._commit_group, _refusal)

    async def commit(self, work: Callable[[Unit], Awaitable[Any]]) -> Any:
        return await self._groups.commit(work)

    async def close(self) -> None:
        await self._groups.close()

    async def _commit_group(self, group: Sequence[Pending]) -> None:
        await self._begin()
        try:
            for pending in group:
                await self._in_savepoint(pending)
            await asyncio.to_thread(self._connection.execute, "COMMIT")
        except BaseException:
            self._roll_back()
            raise

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
        try:
            pending.result = await pending.work(self._unit())
        except (Exception, asyncio.CancelledError) as error:
            # After a grave fault SQLite has rolled back by itself, and the group is gone; what
            # cancels the runner itself ends it.
            if not self._connection.in_transaction or runner_is_cancelled():
                raise
            pending.error = _refusal(error)
            self._connection.execute("ROLLBACK TO one")
            self._rolled_back()
        self._connection.execute("RELEASE one")

    def _roll_back(self) -> None:
        self._rolled_back()
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")


def _refusal(error: BaseException) -> BaseException:
    if isinstance(error, sqlite3.Error):
        return FhirError(Kind.UNAVAILABLE, "The store cannot write now; try again later")
    return error
