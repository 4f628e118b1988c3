"""A process that makes the index anew: `python -m tests.storage.remaker sqlite PLACE [whole]`.

Each step is a line on standard output: resources gone through, and how many there are.
"""

import asyncio
import os
import sys
from pathlib import Path

from fhir_server.storage.interface import Progress
from fhir_server.storage.remaking import remake
from tests.storage.backends import BACKENDS


def told(progress: Progress) -> None:
    os.write(1, f"{progress.done} {progress.total}\n".encode())


async def main(backend: str, place: str, whole: str = "") -> None:
    store = await BACKENDS[backend].open(Path(place))
    await remake(store, whole=bool(whole), told=told)
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
