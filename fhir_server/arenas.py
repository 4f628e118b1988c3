"""Two arenas of glibc's allocator for all threads, where each would have one of its own.

What a thread's arena has freed is not for others and seldom goes back to the system: with a dozen
threads that search and commit, it was a tenth of a server's memory. Python allocates under its own
lock, so that threads hardly wait for each other's arenas.
https://man7.org/linux/man-pages/man3/mallopt.3.html
"""

import ctypes
import os
from typing import Final

_VARIABLE: Final = "MALLOC_ARENA_MAX"
_M_ARENA_MAX: Final = -8
_MOST: Final = 2


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
