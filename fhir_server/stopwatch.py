"""How long the answer to a request has waited for the store: what `Server-Timing` tells.

https://www.w3.org/TR/server-timing/. Told only where the settings want it, as the time that a
question takes says something about what is stored.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from time import perf_counter
from typing import Final


@dataclass(slots=True)
class Stopwatch:
    """Of one request, in seconds."""

    store: float = 0.0
    """Waiting for the store: its reads, its writes, and what it takes to make them durable."""

    @contextmanager
    def at_the_store(self) -> Iterator[None]:
        began = perf_counter()
        try:
            yield
        finally:
            self.store += perf_counter() - began


RUNNING: Final[ContextVar[Stopwatch | None]] = ContextVar("stopwatch", default=None)
"""That of the request that is being answered; None where nobody measures."""
