"""The index made anew beside live traffic, in small commits: whatever the backend.

A remaking begins with a commit that makes every new parameter one that is being built: from then
on, whatever any process writes has its entries. Then it goes through what was there before, some
resources in each commit, and the last commit makes the parameters ready. All of it is in the
store, so that a killed one is gone on with, and several share the work.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from fhir_server.search.parameters import ParameterSet
from fhir_server.storage.interface import Progress, Store, Unit

_FIRST: Final = 16
"""Resources in the first commit; how long it took says how many come next."""
_FEWEST: Final = 16
"""However slow the store is: most of what so few cost is the commit itself, and were they fewer
still, whoever writes much would keep the remaking from ever ending."""
_MOST: Final = 4096
_SHORT: Final = 0.02
_LONG: Final = 0.05
"""Seconds that a commit may hold up the other writers."""
_PAUSE: Final = 0.005

Told = Callable[[Progress], None]


async def remake(store: Store, *, whole: bool = False, told: Told = lambda _: None) -> bool:
    """Index all that is not indexed yet; `whole`: and everything else anew.

    Returns:
        Whether there was anything to do.

    Raises:
        FhirError: UNAVAILABLE when the store cannot write; what was done is kept.
    """
    did, count = False, _FIRST
    while True:
        progress, taken = await _commit(store, count, whole)
        if progress is None:
            return did
        did, whole = True, False
        told(progress)
        count = _next_count(count, taken)
        # As long as it held up the others, they have for themselves.
        await asyncio.sleep(max(taken, _PAUSE))


async def _commit(store: Store, count: int, whole: bool) -> tuple[Progress | None, float]:
    """One step, and the seconds that it took once it had the store for itself."""

    async def work(unit: Unit) -> tuple[Progress | None, float]:
        begun = time.perf_counter()
        return await _step(unit, count, whole), time.perf_counter() - begun

    return await store.commit(work)


async def _step(unit: Unit, count: int, whole: bool) -> Progress | None:
    """None when there is nothing to do."""
    known = await unit.parameters()
    if _begins(known, whole):
        known = known.begun(whole=whole)
        await unit.define(known)
    elif known.account.remaking is None:
        return None
    progress = await unit.reindex(count)
    if progress.finished:
        await unit.define(known.finished())
    return progress


def _begins(known: ParameterSet, whole: bool) -> bool:
    """Whether another remaking begins; one that is under way is gone on with."""
    remaking = known.account.remaking
    if whole:
        return remaking is None or not remaking.whole
    return remaking is None and known.has_new


def _next_count(count: int, taken: float) -> int:
    if taken > _LONG:
        return max(count // 2, _FEWEST)
    return min(count * 2, _MOST) if taken < _SHORT else count
