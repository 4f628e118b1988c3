"""However many threads a server has, they share two arenas of the allocator; and what these have
free goes back to the system."""

import ctypes
import gc
import os
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Final

import pytest

from fhir_server import arenas

_MANY: Final = """
import ctypes, threading
from fhir_server import arenas
arenas.limit()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
barrier = threading.Barrier(8)
def work():
    libc.malloc(100_000)
    barrier.wait(20)
threads = [threading.Thread(target=work) for _ in range(8)]
for one in threads: one.start()
for one in threads: one.join()
file = libc.fopen
file.restype = ctypes.c_void_p
out = ctypes.c_void_p(file(b"/dev/stdout", b"w"))
libc.malloc_info(0, out)
libc.fclose(out)
"""


def _arenas(**environment: str) -> int:
    """https://man7.org/linux/man-pages/man3/malloc_info.3.html"""
    plain = {name: one for name, one in os.environ.items() if name != "MALLOC_ARENA_MAX"}
    told = subprocess.run(
        [sys.executable, "-c", _MANY],
        capture_output=True,
        text=True,
        check=True,
        env={**plain, **environment},
        timeout=60,
    ).stdout
    return told.count("<heap nr=")


def test_threads_share_two_arenas_unless_the_operator_says_otherwise() -> None:
    if not hasattr(ctypes.CDLL(None), "malloc_info"):
        pytest.skip("another allocator than glibc's")
    assert _arenas() <= 2
    assert _arenas(MALLOC_ARENA_MAX="8") > 2


_FREED: Final = """
import asyncio, ctypes, os
from contextlib import suppress
from fhir_server import arenas
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
def megabytes():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
held = [libc.malloc(4360) for _ in range(8000)]
for one in held:
    ctypes.memset(one, 1, 4360)
last = held.pop()
for one in held:
    libc.free(one)
before = megabytes()
arenas._EVERY = 0.01
async def a_while():
    with suppress(TimeoutError):
        await asyncio.wait_for(arenas.giving_back(), 0.5)
asyncio.run(a_while())
print(before - megabytes())
"""


def test_what_is_free_before_something_in_use_goes_back_to_the_system() -> None:
    if not hasattr(ctypes.CDLL(None), "malloc_trim") or not Path("/proc/self/statm").exists():
        pytest.skip("another allocator than glibc's, or no Linux")
    told = subprocess.run(
        [sys.executable, "-c", _FREED], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert float(told) > 20, told


class _Body:
    """As what a failure left behind that names itself."""

    def __init__(self) -> None:
        self.within: object = self


def test_cycles_go_before_there_are_many_of_them() -> None:
    gc.disable()
    try:
        left = weakref.ref(_Body())
        assert left() is not None
        arenas.give_back()
        assert left() is None
    finally:
        gc.enable()
