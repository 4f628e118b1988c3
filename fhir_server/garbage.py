"""Python's collector of cycles looks seldom, and never at what is there before anybody asks.

What a request makes goes when the last reference to it goes: reads, searches, writes and refusals
leave no cycle behind. They must not: a few objects may hold a large body, and the collector counts
objects alone (`errors.let_go`; what does leave one goes after some seconds, `arenas`). But it looks
whenever 700 of them more than before are alive, which a handful of requests under way have: that
was a thirtieth of a create. And a look at everything goes through modules, definitions and
checkers, during which nobody is answered.
https://docs.python.org/3/library/gc.html#gc.freeze
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

MOST: Final = 10_000
"""Objects more than at the last look, some two megabytes: as many as 64 requests under way have."""


@contextmanager
def seldom() -> Iterator[None]:
    """While the application serves; what is there by then is not looked at.

    Whoever has frozen something before does so for longer: there is no way to thaw but of all.
    """
    before, is_first = gc.get_threshold(), not gc.get_freeze_count()
    if is_first:
        gc.freeze()
    gc.set_threshold(MOST, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        if is_first:
            gc.unfreeze()
