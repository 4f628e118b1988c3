"""However many threads a server has, they share two arenas of the allocator."""

import ctypes
import os
import subprocess
import sys
from typing import Final

import pytest

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
