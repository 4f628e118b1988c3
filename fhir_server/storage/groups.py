"""Group commit: works that wait for the writer are committed together.

While one group is being committed, the next gathers by itself.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fhir_server.errors import FhirError, Kind
from fhir_server.storage.interface import Unit

MAX_GROUP: Final = 64
"""Works that are committed together; more would keep the others, and reads, waiting."""


@dataclass(slots=True)
class Pending:
    """A work, and what became of it: a result, or an error that is its own."""

    work: Callable[[Unit], Awaitable[Any]]
    done: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None

    @property
    def gone(self) -> bool:
        """Nobody waits for it any more."""
        return self.done.cancelled()

    def answer(self) -> None:
        """Tell who waits what became of it."""
        if self.done.done():
            return
        if self.error is None:
            self.done.set_result(self.result)
        elif isinstance(self.error, asyncio.CancelledError):
            self.done.cancel()
        else:
            self.done.set_exception(self.error)


class Groups:
    """Hands works to the backend in groups, one group at a time.

    Args:
        commit_group: sets result or error of each, or raises what befell them all.
        refusal: what those who wait are told of an error.
    """

    def __init__(
        self,
        commit_group: Callable[[Sequence[Pending]], Awaitable[None]],
        refusal: Callable[[BaseException], BaseException],
    ) -> None:
        self._commit_group = commit_group
        self._refusal = refusal
        self._waiting: deque[Pending] = deque()
        self._runner: asyncio.Task[None] | None = None
        self._closed = False

    async def commit(self, work: Callable[[Unit], Awaitable[Any]]) -> Any:
        if self._closed:
            raise FhirError(Kind.UNAVAILABLE, "The server is stopping")
        pending = Pending(work, asyncio.get_running_loop().create_future())
        self._waiting.append(pending)
        if self._runner is None or self._runner.done():
            self._runner = asyncio.create_task(self._run())
        return await pending.done

    async def close(self) -> None:
        """Commit what waits, and take no more."""
        self._closed = True
        if self._runner is not None:
            await asyncio.wait([self._runner])  # which may have been cancelled

    async def _run(self) -> None:
        while self._waiting:
            group = [self._waiting.popleft() for _ in range(min(len(self._waiting), MAX_GROUP))]
            try:
                await self._commit_group(group)
            except Exception as error:
                refusal = self._refusal(error)
                for pending in group:
                    pending.error = refusal
            except BaseException:
                # The loop is ending: nobody may wait for ever.
                for pending in [*group, *self._waiting]:
                    pending.done.cancel()
                raise
            for pending in group:
                pending.answer()


def runner_is_cancelled() -> bool:
    """Whether a cancellation is meant for the runner, not for the work that it runs."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
