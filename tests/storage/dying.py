"""A process that dies in commits: `python -m tests.storage.dying ADDRESS STRIDE`.

The first time before the first thing that the commit asks of its database, then so many things
later, and so on until one comes through. Each dies in a fork of its own, as the start is slow. How
it ended is a line on standard output, after which a byte on standard input is waited for.

With the name of a collection of MongoDB it is what a test has to notice: whatever is written there
is not in the transaction.
"""

import asyncio
import os
import signal
import sqlite3
import sys
from itertools import count
from typing import Any, Final

from pymongo import monitoring
from pymongo.monitoring import CommandListener

from fhir_server.storage.audited import AuditRow
from fhir_server.storage.interface import Draft, Memo, Unit
from fhir_server.storage.mongo import turns
from fhir_server.storage.mongo.driver import Database, Operation, Transaction
from tests.storage.crash_writer import resources
from tests.support import opened

KEY: Final = "k"
SPACE: Final = "dying"
_ENDS_AFTER: Final = "commitTransaction"


class _Steps:
    """Counts what the commit asks; who asks for more than it may has been killed."""

    left: int | None = None

    def step(self) -> None:
        if self.left is not None:
            if not self.left:
                os.kill(os.getpid(), signal.SIGKILL)
            self.left -= 1


class _Commands(CommandListener):
    """Each command before it is sent, and a commit's once more when it was answered."""

    def __init__(self, steps: _Steps) -> None:
        self._steps = steps

    def started(self, event: monitoring.CommandStartedEvent) -> None:  # noqa: ARG002
        self._steps.step()

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        if event.command_name == _ENDS_AFTER:
            self._steps.step()

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Nothing comes of it."""


def _watch(steps: _Steps) -> None:
    """Each statement of SQLite before it runs, and each command to MongoDB."""
    connect = sqlite3.connect

    def traced(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **options)
        connection.set_trace_callback(lambda _: steps.step())
        return connection

    sqlite3.connect = traced  # type: ignore[assignment]
    monitoring.register(_Commands(steps))


def _leak(collection: str) -> None:
    write = Database.write

    async def leaking(
        self: Database,
        name: str,
        operations: list[Operation],
        within: Transaction | None = None,
    ) -> None:
        await write(self, name, operations, None if name == collection else within)

    Database.write = leaking  # type: ignore[method-assign,assignment]


async def work(unit: Unit, generation: int) -> None:
    """The same generation of everything that a commit may write."""
    put = [await unit.put(Draft(one), "PUT") for one in resources(KEY, generation)]
    names = tuple(f"{one.type}/{one.id}/_history/{one.version}" for one in put)
    await unit.forget(SPACE, "")
    await unit.keep(Memo(SPACE, f"{generation}", b"kept"))
    await unit.audit(AuditRow("test", "update", f"{generation}", targets=names))


async def _nothing(_: Unit) -> None:
    """As long as it takes until there is a turn."""


async def _commit(address: str, steps: _Steps, allowed: int) -> None:
    store = await opened(address)
    await store.commit(_nothing)  # whose turn the one before has taken with it is waited for
    steps.left = allowed
    await store.commit(lambda unit: work(unit, allowed + 1))
    steps.left = None
    await store.close()


def _ended(address: str, steps: _Steps, allowed: int) -> int:
    """How a commit ended that may ask so much: 0, or the signal that killed it."""
    child = os.fork()
    if child:
        return -os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    asyncio.run(_commit(address, steps, allowed))
    os._exit(0)


def main(address: str, stride: str, leaking: str = "") -> None:
    turns._DEAD_AFTER = 0.2  # type: ignore[misc]
    steps = _Steps()
    _watch(steps)
    if leaking:
        _leak(leaking)
    for allowed in count(0, int(stride)):
        ended = _ended(address, steps, allowed)
        os.write(1, f"{ended}\n".encode())
        if not os.read(0, 1) or not ended:
            return


if __name__ == "__main__":
    main(*sys.argv[1:])
