"""Tables of definitions, left in their files: an entry is read when it is asked for.

A server needs a part of them, and workers share with each other what the system has read of a file.
"""

import mmap
from pathlib import Path

import msgspec


def mapped(path: Path) -> dict[str, msgspec.Raw]:
    """The entries of a JSON object, still undecoded.

    Where each begins is found by reading all of it, of which nothing has to stay in memory. An
    upgrade puts another file in the place of this one, which is read on as it was.
    """
    with path.open("rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    entries = msgspec.json.decode(memoryview(content), type=dict[str, msgspec.Raw])
    if hasattr(mmap, "MADV_DONTNEED"):  # not every system has it
        content.madvise(mmap.MADV_DONTNEED)
    return entries
