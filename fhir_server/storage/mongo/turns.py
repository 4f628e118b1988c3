"""Whose turn it is to commit: one commit at a time on the whole database.

Under snapshot isolation two conditional creates with the same criteria could both succeed, as
they write different documents. So every commit begins with a write to one document. Who comes
second meets a write conflict, waits and begins anew, on what the first has left: commits are
serialisable, and there are no deadlocks, as nothing is locked before that document.

A process that dies with its turn taken would hold it until MongoDB ends its transaction, by
default after a minute. Therefore processes show that they are alive, by counting, and who waits
ends the sessions of those that stopped. Ending one that was only slow does no harm: its commit
fails as a whole, and is run again.

MongoDB keeps no queue of those that wait. So they say that they do, and count. Who commits without
a pause looks now and then, and lets those that wait go first: who has had a turn has the next when
each of them has had one.
"""

import asyncio
import random
import time
import uuid
from dataclasses import dataclass
from typing import Any, Final

from pymongo.errors import PyMongoError

from fhir_server.storage.audited import Link
from fhir_server.storage.mongo import audit
from fhir_server.storage.mongo.driver import Database, Document, Transaction
from fhir_server.storage.mongo.faults import passing

_TURN: Final[Document] = {"_id": {"$eq": "commit"}}
_BEAT: Final = 1.0
"""Seconds between two signs of life."""
_DEAD_AFTER: Final = 4.0
"""Seconds without one, by the clock of who waits: no two clocks are compared."""
_FIRST_WAIT: Final = 0.002
_LONGEST_WAIT: Final = 0.02
_LOOK: Final = 0.05
"""Seconds between two looks whether others wait."""
_NEXT_LOOK: Final = 0.005
_STILL: Final = 0.5
"""Seconds after which one that does not count any more is not let go first."""
_COURTESY: Final = 2.0
"""Seconds that others are let go first, at the most: they may have more to do than that."""


@dataclass(frozen=True, slots=True)
class Turn:
    """`number`: of this commit; `seq`: of the last version of the commits before.

    `mark`: of the search parameters, as `StoredParameters` has it. `link`: the end of the audit's
    chain.
    """

    number: int
    seq: int
    mark: str
    link: Link


async def take(database: Database, within: Transaction) -> Turn:
    """The first thing that a transaction does.

    Raises:
        PyMongoError: passing, when it is another's turn.
    """
    before = await database.changed("setting", _TURN, {"$inc": {"turn": 1}}, within)
    if before is None:
        raise RuntimeError("The database has lost its document 'commit' in 'setting'")
    link = audit.link_of(before.get(audit.END))
    return Turn(before["turn"] + 1, before["seq"], before.get("mark", ""), link)


async def leave(database: Database, within: Transaction, seq: int, link: Link) -> None:
    """The last thing before it commits."""
    left = {"seq": seq, audit.END: audit.end_of(link)}
    await database.update("setting", _TURN, {"$set": left}, within=within)


class Presence:
    """The sign of life of one process, beside the id of the session that it commits in."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._me: Final = uuid.uuid4().hex
        self._session: Any = None
        self._shown = 0.0
        self._looked = 0.0
        self._waiting = False
        self._still: dict[str, int] = {}
        """Those that said that they wait and did not count, and how far they had counted."""
        self._task: asyncio.Task[None] | None = None

    async def begin(self, within: Transaction) -> None:
        """Before a group is committed; until `end` it goes on by itself."""
        if self._session != within.id or time.monotonic() - self._shown > _BEAT:
            self._session = within.id
            await self._beat()
        self._task = asyncio.create_task(self._go_on())

    async def end(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    async def wait(self) -> None:
        """Show that this process waits for its turn."""
        self._waiting = True
        await self._show(waits=1, waiting=True)

    async def served(self) -> None:
        """It does not wait any more."""
        if self._waiting:
            await self._show(waits=0, waiting=False)
            self._waiting = False

    async def give_way(self) -> None:
        """Now and then: let those go first that wait already."""
        if time.monotonic() - self._looked < _LOOK:
            return
        waiting = first = await self._who_waits()
        moved = began = time.monotonic()
        while waiting and _recent(moved, _STILL) and _recent(began, _COURTESY):
            await asyncio.sleep(_NEXT_LOOK)
            found = await self._who_waits()
            now = {name: count for name, count in found.items() if name in first}
            if now != waiting:
                waiting, moved = now, time.monotonic()
        self._still |= waiting
        self._looked = time.monotonic()

    async def _who_waits(self) -> dict[str, int]:
        """How far each has counted of those that go on counting."""
        others = await self.others()
        waits = {name: one["waits"] for name, one in others.items() if one.get("waiting")}
        self._still = {name: n for name, n in self._still.items() if waits.get(name) == n}
        return {name: count for name, count in waits.items() if name not in self._still}

    async def leave(self) -> None:
        await self._database.delete("writer", {"_id": {"$eq": self._me}})

    async def others(self) -> dict[str, Document]:
        found = await self._database.find("writer", {"_id": {"$ne": self._me}}, (), 1000)
        return {document["_id"]: document for document in found}

    async def _go_on(self) -> None:
        while True:
            await asyncio.sleep(_BEAT)
            try:
                await self._beat()
            except PyMongoError as error:
                if not passing(error):  # then the commit itself meets the fault too
                    return

    async def _beat(self) -> None:
        await self._show(waits=0)
        self._shown = time.monotonic()

    async def _show(self, *, waits: int, **more: bool) -> None:
        change = {"$set": {"session": self._session, **more}, "$inc": {"beat": 1, "waits": waits}}
        await self._database.update("writer", {"_id": {"$eq": self._me}}, change, upsert=True)


def _recent(moment: float, seconds: float) -> bool:
    return time.monotonic() - moment < seconds


class Waiting:
    """Waits for a turn, and frees it where its holder has died."""

    def __init__(self, database: Database, presence: Presence, patience: float) -> None:
        self._database = database
        self._presence = presence
        self._deadline = time.monotonic() + patience
        self._wait = _FIRST_WAIT
        self._seen: dict[str, Document] | None = None
        self._since = 0.0

    @property
    def over(self) -> bool:
        return time.monotonic() > self._deadline

    async def pause(self) -> None:
        """Longer from time to time, and never in step with others."""
        await asyncio.sleep(self._wait * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
        self._wait = min(self._wait * 1.5, _LONGEST_WAIT)
        await self._presence.wait()
        if self._seen is None:
            self._seen, self._since = await self._presence.others(), time.monotonic()
        elif time.monotonic() - self._since > _DEAD_AFTER:
            await self._free()
            self._seen = None

    async def _free(self) -> None:
        """End the sessions of those that have shown nothing since they were first looked at."""
        now = await self._presence.others()
        dead = [one for name, one in (self._seen or {}).items() if now.get(name) == one]
        if dead:
            await self._database.command({"killSessions": [one["session"] for one in dead]})
            await self._database.delete("writer", {"_id": {"$in": [one["_id"] for one in dead]}})
