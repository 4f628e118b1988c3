"""`kill -9` at any moment: what was acknowledged is there, whole, and nothing is half there."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from fhir_server.storage.interface import HistoryOf, Store
from tests.storage.backends import BACKENDS
from tests.storage.crash_writer import TYPES
from tests.storage.questions import found, put, versions
from tests.stores import NIGHTLY

ROOT = Path(__file__).parents[2]


def write_until_killed(backend: str, place: Path, acknowledged: int) -> dict[str, int]:
    """The last acknowledged generation of every key."""
    command = [sys.executable, "-m", "tests.storage.crash_writer", backend, str(place)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(acknowledged)]
        process.kill()
        lines += process.stdout.readlines()
    # The kill may cut the last line.
    whole = [line.decode().split() for line in lines if line.endswith(b"\n")]
    assert len(whole) >= acknowledged, "the writer died by itself"
    return {key: int(generation) for key, generation in whole}


async def assert_whole(store: Store, acknowledged: Mapping[str, int], share: int) -> None:
    made = await all_versions(store)
    assert set(acknowledged) <= made.keys()
    for key, of_types in made.items():
        newest = max(of_types["Patient"])
        assert of_types == {name: [*range(1, newest + 1)] for name in TYPES}, key
        assert newest >= acknowledged.get(key, 1)
    # Those that were written last are in danger; a slow server is asked for them alone.
    for key in [*made][-max(8, len(made) // share) :]:
        await assert_found(store, key, len(made[key]["Patient"]))


async def all_versions(store: Store) -> dict[str, dict[str, list[int]]]:
    """Of each key and type, those written last at the end."""
    made: dict[str, dict[str, list[int]]] = {}
    for _, stored in await store.changes(0, 1_000_000):
        of_types = made[stored.id] = made.pop(stored.id, {})
        of_types.setdefault(stored.type, []).append(stored.version)
    return made


async def assert_found(store: Store, key: str, newest: int) -> None:
    for type_ in TYPES:
        history = await store.history(HistoryOf(type_, key), 1_000_000)
        assert versions(history) == list(range(newest, 0, -1))
        assert await found(store, f"{type_}?identifier=urn:key|{key}") == [key]
        current = f"{type_}?identifier=urn:generation|{key}-"
        assert await found(store, current + str(newest)) == [key]
        assert await found(store, current + str(newest - 1)) == []
    assert await found(store, f"CarePlan?subject=Patient/{key}") == [key]


@pytest.mark.parametrize(
    ("backend", "round_"),
    [(name, number) for name in sorted(BACKENDS) for number in range(3 if NIGHTLY else 1)],
)
async def test_an_acknowledged_commit_survives_the_death_of_the_process(
    backend: str, round_: int, tmp_path: Path
) -> None:
    # Here first: a server that the killed process had started would outlive it.
    await (await BACKENDS[backend].open(tmp_path)).close()
    enough = BACKENDS[backend].fewer(200, 70) + 37 * round_
    acknowledged = write_until_killed(backend, tmp_path, enough)
    store = await BACKENDS[backend].open(tmp_path)
    try:
        await assert_whole(store, acknowledged, BACKENDS[backend].share)
        await put(store, {"resourceType": "Patient", "id": "after"})
        assert await found(store, "Patient?_id=after") == ["after"]
    finally:
        await store.close()
