"""Group commit: works that wait share one transaction, and each fails for itself.

Where MongoDB asks to try a transaction again (a write conflict, a new primary), all of the group
is run again, which works are made for.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from pymongo.errors import PyMongoError

from fhir_server.errors import FhirError, Kind
from fhir_server.storage.groups import Groups, Pending, runner_is_cancelled
from fhir_server.storage.interface import Unit
from fhir_server.storage.mongo import turns
from fhir_server.storage.mongo.batch import Batch
from fhir_server.storage.mongo.driver import Database, Transaction
from fhir_server.storage.mongo.faults import (
    out_of_time,
    passing,
    refused,
    unknown_outcome,
)
from fhir_server.storage.mongo.parameters import StoredParameters
from fhir_server.storage.mongo.turns import Presence, Waiting
from fhir_server.storage.patience import OutOfTime

PATIENCE_INSIDE: Final = 1.0
"""Seconds that a search within a commit may take: every other commit waits for it."""


class _Spoilt(Exception):
    """A work failed after something of it was in the transaction; it has its error."""


class Committer:
    """Runs commits in groups, one group at a time.

    Args:
        patience: seconds to wait for others' commits, and for an answer to one's own.
    """

    def __init__(
        self,
        database: Database,
        parameters: StoredParameters,
        unit: Callable[[Transaction, Batch], Unit],
        patience: float,
    ) -> None:
        self._database = database
        self._parameters = parameters
        self._unit = unit
        self._patience = patience
        self._presence = Presence(database)
        self._session: Transaction | None = None
        self._groups = Groups(self._commit_group, _refusal)

    async def commit(self, work: Callable[[Unit], Awaitable[Any]]) -> Any:
        return await self._groups.commit(work)

    async def close(self) -> None:
        await self._groups.close()
        if self._session is not None:
            await self._session.end()
            await self._presence.leave()

    async def _commit_group(self, group: Sequence[Pending]) -> None:
        waiting = Waiting(self._database, self._presence, self._patience)
        spoilers: set[int] = set()
        await self._presence.give_way()
        while True:
            try:
                await self._attempt(group, spoilers)
            except _Spoilt:
                spoilers = {number for number, one in enumerate(group) if one.error is not None}
            except PyMongoError as error:
                if not passing(error) or waiting.over:
                    raise
                # What the others were refused for may be otherwise now.
                spoilers = set()
                await waiting.pause()
            else:
                return

    async def _attempt(self, group: Sequence[Pending], spoilers: set[int]) -> None:
        session = await self._ready_session()
        await self._presence.begin(session)
        try:
            session.begin()
            turn = await turns.take(self._database, session)
            await self._presence.served()
            batch = Batch(self._database, session, turn, self._parameters)
            for number, pending in enumerate(group):
                if number not in spoilers:
                    await self._run(pending, session, batch)
            seq = await batch.finish()
            await turns.leave(self._database, session, seq, batch.link)
            await session.commit(self._patience)
        except BaseException as error:
            await self._give_up(session, error)
            raise
        finally:
            await self._presence.end()

    async def _run(self, pending: Pending, session: Transaction, batch: Batch) -> None:
        pending.error = None
        if pending.gone:
            return
        batch.next_work()
        try:
            pending.result = await pending.work(self._unit(session, batch))
        except (Exception, asyncio.CancelledError) as error:
            if runner_is_cancelled():
                raise
            pending.error = error
        if batch.fault is not None:
            _judge(pending, batch.fault)
        elif pending.error is not None:
            if batch.spoilt:
                raise _Spoilt
            batch.take_back()

    async def _ready_session(self) -> Transaction:
        if self._session is None:
            self._session = await self._database.session()
        return self._session

    async def _give_up(self, session: Transaction, error: BaseException) -> None:
        """A session that met a fault is not used again, but for what is every day's."""
        try:
            await session.abort()
        except PyMongoError:
            self._session = None
        if isinstance(error, PyMongoError) and not passing(error):
            self._session = None
        if self._session is None:
            await session.end()


def _judge(pending: Pending, fault: BaseException) -> None:
    """A search that took too long is that work's; every other fault is everybody's."""
    if not out_of_time(fault):
        raise fault
    # Whatever the work has made of it since.
    pending.error = OutOfTime(PATIENCE_INSIDE)
    raise _Spoilt


def _refusal(error: BaseException) -> BaseException:
    if unknown_outcome(error):
        refused(error, "write")
        return FhirError(
            Kind.UNAVAILABLE,
            "The store does not answer whether it has written this; look before you send it again",
        )
    if isinstance(error, PyMongoError):
        return refused(error, "write")
    return error
