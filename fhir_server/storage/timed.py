"""A store that tells the stopwatch of the request how long it was waited for.

Whatever the backend: what is awaited at the store or within a commit counts, and what a commit
works out between does not.
"""

from collections.abc import Awaitable, Callable
from inspect import iscoroutinefunction
from time import perf_counter
from typing import Any, Final, TypeVar, cast

from fhir_server.stopwatch import RUNNING, Stopwatch
from fhir_server.storage.interface import Store, Unit

T = TypeVar("T")
_OTHERS: Final = ("lagging", "patient")
"""What gives another way to read the same store."""


def timed(store: Store) -> Store:
    """The same store, measured."""
    return cast(Store, _Timed(store))


class _Timed:
    """Stands before a store or a commit under way, and has all that it has."""

    def __init__(self, inner: Any, watch: Stopwatch | None = None) -> None:
        self._inner: Final = inner
        self._watch: Final = watch
        """Within a commit, which may run in a task of its own; else that of the context."""

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name in _OTHERS:
            return lambda *given: _Timed(found(*given))
        return self._measured(found) if iscoroutinefunction(found) else found

    def _measured(self, method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def awaited(*given: Any, **named: Any) -> Any:
            watch = self._watch or RUNNING.get()
            if watch is None:
                return await method(*given, **named)
            with watch.at_the_store():
                return await method(*given, **named)

        return awaited

    async def commit(self, work: Callable[[Unit], Awaitable[T]]) -> T:
        """As the store's: of the whole, less what the work took by itself."""
        store = cast(Store, self._inner)
        watch = RUNNING.get()
        if watch is None:
            return await store.commit(work)
        worked = 0.0

        async def measured(unit: Unit) -> T:
            nonlocal worked
            began = perf_counter()
            try:
                return await work(cast(Unit, _Timed(unit, watch)))
            finally:
                worked += perf_counter() - began

        with watch.at_the_store():
            try:
                return await store.commit(measured)
            finally:
                watch.store -= worked
