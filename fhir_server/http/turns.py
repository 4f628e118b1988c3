"""How much one process works at at once: so many requests, a queue, and 503 beyond it.

https://www.rfc-editor.org/rfc/rfc9110#section-15.6.4. Without a bound, a server that is asked for
more than it can do answers everybody later and later, and in the end nobody in time. With one,
whoever has a turn is answered about as quickly as ever, and the others are soon told to come back.
Nothing was begun for who is refused, so a write may be sent again.

A turn is taken once the whole request is there and who asks is known: who sends a body slowly, or
has no token, keeps nobody else from a turn. While it is hopeless to wait, requests are refused at
the door, before they cost anything.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from math import ceil
from time import monotonic
from typing import Final, TypeVar

from fhir_server.errors import FhirError, Kind

T = TypeVar("T")

_QUEUE: Final = 16
"""Requests that may wait for each that is worked at: bodies of those that wait take memory."""


_MOMENT: Final = 0.25
"""The share of the patience for which nobody new may wait once somebody has given up."""


class Turns:
    """The turns of one process, first come, first served.

    Args:
        most: requests that are worked at at once; 0 for no bound.
        patience: seconds that one waits for its turn.
    """

    def __init__(self, most: int = 0, patience: float = 1.0) -> None:
        self._bounded: Final = most > 0
        self._free = most
        self._queue: Final = most * _QUEUE
        self._patience: Final = patience
        self._waiting: Final[deque[asyncio.Future[bool]]] = deque()
        self._hopeless_until = 0.0

    @property
    def is_free(self) -> bool:
        """Whether there is a turn at once, and nobody waits for one."""
        return not self._bounded or self._free > 0

    @property
    def is_hopeless(self) -> bool:
        """Whether who comes now would wait in vain: the queue is full, or somebody has given up
        a moment ago. To find that out by waiting would cost the server more."""
        if not self._waiting:
            return False
        return len(self._waiting) >= self._queue or monotonic() < self._hopeless_until

    async def in_turn(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do the work once there is a turn.

        Raises:
            FhirError: UNAVAILABLE, where there is none in time; the work has not begun.
        """
        if not self._bounded:
            return await work()
        if self._free:
            self._free -= 1
        else:
            await self._wait()
        try:
            return await work()
        finally:
            self._pass_on()

    async def _wait(self) -> None:
        if len(self._waiting) >= self._queue:
            raise self.refusal()
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[bool] = loop.create_future()
        timer = loop.call_later(self._patience, self._give_up, turn)
        self._waiting.append(turn)
        try:
            has_come = await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.result():
                self._pass_on()  # it came, and nobody was there any more
            raise
        finally:
            timer.cancel()
        if not has_come:
            raise self.refusal()

    def _pass_on(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(True)
                return
        self._free += 1

    def _give_up(self, turn: asyncio.Future[bool]) -> None:
        """All have the same patience, so who gives up is the first that still waits."""
        if not turn.done():
            turn.set_result(False)
            self._hopeless_until = monotonic() + self._patience * _MOMENT
        while self._waiting and self._waiting[0].done():
            self._waiting.popleft()

    def refusal(self) -> FhirError:
        whole = max(1, ceil(self._patience))
        return FhirError(
            Kind.UNAVAILABLE,
            f"The server has too much to do now; nothing was done, try again in {whole} s",
            retry_after=whole,
        )
