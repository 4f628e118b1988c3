"""A process that writes until it is killed: `python -m tests.storage.crash_writer sqlite PLACE`.

32 writers, or as many as are asked for; each commit puts a Patient, a CarePlan and an Observation
that belong together. A commit that was acknowledged is a line on standard output: the key and its
generation.
"""

import asyncio
import os
import sys
from pathlib import Path
from typing import Final

from fhir_server.fhir.json import Resource
from fhir_server.storage.interface import Store
from tests.storage.backends import BACKENDS
from tests.storage.questions import put

TYPES: Final = ("Patient", "CarePlan", "Observation")
WRITERS: Final = 32
KEYS: Final = 5
"""Sets of resources that each writer makes and then updates, over and over."""


def resources(key: str, generation: int) -> list[Resource]:
    identifier = [
        {"system": "urn:key", "value": key},
        {"system": "urn:generation", "value": f"{key}-{generation}"},
    ]
    subject = {"reference": f"Patient/{key}"}
    return [
        {"resourceType": "Patient", "id": key, "identifier": identifier, "name": [{"family": key}]},
        {"resourceType": "CarePlan", "id": key, "identifier": identifier, "subject": subject},
        {"resourceType": "Observation", "id": key, "identifier": identifier, "subject": subject},
    ]


async def write(store: Store, writer: int) -> None:
    for generation in range(1, 1_000_000):
        for number in range(KEYS):
            key = f"w{writer}-{number}"
            await put(store, *resources(key, generation))
            os.write(1, f"{key} {generation}\n".encode())


async def main(backend: str, place: str, writers: str = str(WRITERS)) -> None:
    store = await BACKENDS[backend].open(Path(place))
    await asyncio.gather(*(write(store, writer) for writer in range(int(writers))))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
