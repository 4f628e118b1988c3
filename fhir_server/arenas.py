"""Two arenas of glibc's allocator for all threads, where each would have one of its own; and what
they have free goes back to the system now and then.

What a thread's arena has freed is not for others and seldom goes back: with a dozen threads that
search and commit, it was a tenth of a server's memory. Python allocates under its own lock, so that
threads hardly wait for each other's arenas. Two arenas keep what is free, too, where something that
is in use lies behind it: SQLite frees a connection's pages when another has written.
https://man7.org/linux/man-pages/man3/mallopt.3.html
https://man7.org/linux/man-pages/man3/malloc_trim.3.html
"""

import asyncio
import ctypes
import gc
import os
from typing import Final

_VARIABLE: Final = "MALLOC_ARENA_MAX"
_M_ARENA_MAX: Final = -8
_MOST: Final = 2
_EVERY: Final = 10.0
"""Seconds; giving back and fetching again take some milliseconds of each."""
_YOUNG: Final = 1
"""The generations of what was made lately: they take a millisecond, where all take tens."""


def limit() -> None:
    """In this process and those that it starts; what the operator has set stands.

    An allocator other than glibc's has no `mallopt`, and stays as it is.
    """
    if _VARIABLE in os.environ:
        return
    os.environ[_VARIABLE] = str(_MOST)
    try:
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _MOST)
    except (AttributeError, OSError, TypeError):
        return


async def giving_back() -> None:
    """Give back what is free, until cancelled; in a thread, as others need not wait for it."""
    while True:
        await asyncio.sleep(_EVERY)
        await asyncio.to_thread(give_back)


def give_back() -> None:
    """Whole pages that are free, wherever they are; nothing where the allocator has no way.

    First the cycles of what was made lately (`garbage`): a few objects may hold a large body.
    """
    gc.collect(_YOUNG)
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        return
