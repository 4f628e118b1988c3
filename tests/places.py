"""Where tests write: to memory where there is room for it, and what the processes that they start
have compiled to a folder that they share.

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


def share_bytecode() -> Path | None:
    """The folder that was made for it, to be removed in the end; None where nothing is to be done.

    Tests start hundreds of processes. Where Python is told to write no bytecode, as in containers,
    each would compile all of the server: a third of its start.
    """
    if "PYTHONDONTWRITEBYTECODE" not in os.environ or "PYTHONPYCACHEPREFIX" in os.environ:
        return None
    folder = tempfile.mkdtemp(prefix="keyworking-bytecode-")
    os.environ["PYTHONPYCACHEPREFIX"] = folder
    del os.environ["PYTHONDONTWRITEBYTECODE"]
    return Path(folder)


def _has_room(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK) and shutil.disk_usage(folder).free >= _ROOM
