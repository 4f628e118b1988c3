"""Where tests write: to memory where there is room for it.

Each commit waits for the disk, for 5 ms on a slow one, and tests make a hundred thousand. What is
tried of durability is tried by killing processes, which memory outlives as a disk does. The
nightly form writes to the disk.
"""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - folders in it are made as in any other place
_ROOM: Final = 2 << 30
"""Bytes. A run takes a fourth of it: what a test has written goes when it has passed."""


def write_to_memory() -> None:
    """Unless `TMPDIR` says where to; for this process, and for those that it starts."""
    if "TMPDIR" not in os.environ and _has_room(_MEMORY):
        os.environ["TMPDIR"] = tempfile.tempdir = str(_MEMORY)


def _has_room(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK) and shutil.disk_usage(folder).free >= _ROOM
