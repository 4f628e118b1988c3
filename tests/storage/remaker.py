"""A process that makes the index anew: `python -m tests.storage.remaker sqlite PLACE OPTIONS`.

Each step is a line on standard output: resources gone through, and how many there are. With the
option `stepwise` it waits after each for a byte on standard input; `whole` makes all of it anew.
"""

import asyncio
import os
import sys
from pathlib import Path

from fhir_server.storage.interface import Progress
from fhir_server.storage.remaking import remake
from tests.storage.backends import BACKENDS


async def main(backend: str, place: str, *options: str) -> None:
    def told(progress: Progress) -> None:
        os.write(1, f"{progress.done} {progress.total}\n".encode())
        if "stepwise" in options:
            os.read(0, 1)

    store = await BACKENDS[backend].open(Path(place))
    await remake(store, whole="whole" in options, told=told)
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
