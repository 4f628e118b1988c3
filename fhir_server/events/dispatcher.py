"""Runs the subscriptions of a server process, each in a task of its own.

Every process looks at every subscription; which one sends, the hold in the record says. A slow
receiver keeps its own task waiting and one slot, and nobody else.
"""

import asyncio
import logging
from typing import Final
from uuid import uuid4

from fhir_server.access.caller import Stands, unchanged
from fhir_server.errors import FhirError
from fhir_server.events.feed import Feed
from fhir_server.events.ledger import Ledger
from fhir_server.events.record import OPEN
from fhir_server.events.sending import Hook, Socket
from fhir_server.events.sockets import ENDED, Sockets
from fhir_server.events.terms import OpenSession, Terms
from fhir_server.events.worker import Tools, Worker
from fhir_server.storage.interface import Store

_log: Final = logging.getLogger(__name__)
_AT_ONCE: Final = 1000


class Dispatcher:
    """Starts and ends what works for subscriptions, and wakes it."""

    def __init__(
        self,
        store: Store,
        terms: Terms,
        open_session: OpenSession,
        sockets: Sockets,
        stands: Stands = unchanged,
    ) -> None:
        self._store = store
        self._terms = terms
        self._sockets = sockets
        self.me: Final = str(uuid4())
        self._feed: Final = Feed(store)
        self._tools: Final = Tools(
            terms,
            self._feed,
            Ledger(store, terms, self.me),
            open_session,
            sockets,
            Hook(terms),
            Socket(terms, sockets),
            asyncio.Semaphore(max(1, terms.concurrency)),
            stands,
        )
        self._workers: Final[dict[str, Worker]] = {}
        self._tasks: Final[dict[str, asyncio.Task[None]]] = {}
        self._watch: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, unless the settings leave it to other processes."""
        if self._terms.concurrency:
            self._watch = asyncio.create_task(self._look_for_ever())

    async def stop(self) -> None:
        """End, and let other processes go on at once."""
        tasks = [*self._tasks.values(), *([self._watch] if self._watch else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for worker in self._workers.values():
            await worker.release()

    async def _look_for_ever(self) -> None:
        told = False
        while True:
            self._sockets.changed.clear()
            try:
                await self._look()
                told = False
            except FhirError as error:
                if not told:
                    _log.warning("Notices wait for the store: %s", error)
                told = True
            except Exception:
                _log.exception("Notices wait")
            try:
                async with asyncio.timeout(self._terms.every):
                    await self._sockets.changed.wait()
            except TimeoutError:
                continue
            self._wake()

    async def _look(self) -> None:
        bound = self._sockets.keys  # before the marks: what is bound meanwhile has one
        marks = await self._marks()
        for key in bound - marks.keys():
            await self._sockets.drop(key, ENDED)
        for key in [*self._workers]:
            if key not in marks or self._tasks[key].done():
                await self._end(key)
        for key, mark in marks.items():
            self._attend(key, mark)
        if self._workers and await self._feed.refresh():
            self._wake()

    async def _marks(self) -> dict[str, str]:
        """Of all subscriptions that are at work, whosever they are."""
        found: dict[str, str] = {}
        after = ""
        while some := await self._store.memos(OPEN, "", _AT_ONCE, after):
            after = some[-1].key
            found |= {memo.key: memo.value.decode() for memo in some}
        return found

    def _attend(self, key: str, mark: str) -> None:
        known = self._workers.get(key)
        if known is None:
            worker = self._workers[key] = Worker(self._tools, key, mark)
            self._tasks[key] = asyncio.create_task(worker.run())
        elif known.mark != mark:
            known.reload(mark)

    async def _end(self, key: str) -> None:
        task = self._tasks.pop(key)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        worker = self._workers.pop(key)
        await worker.release()
        await self._sockets.drop(key, ENDED)

    def _wake(self) -> None:
        for worker in self._workers.values():
            worker.woken.set()
