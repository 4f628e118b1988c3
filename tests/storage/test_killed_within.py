"""SIGKILL at every step of a commit: all of it is there or nothing, and that is seen.

https://www.sqlite.org/atomiccommit.html and
https://www.mongodb.com/docs/manual/core/transactions/ are what the stores build on. That something
is written beside the transaction, a kill at any moment shows now and then; one at each shows it.
"""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from fhir_server.fhir import json
from fhir_server.storage.interface import Store
from tests.sound import faults_of, rows_of
from tests.storage.dying import KEY, SPACE
from tests.stores import KINDS, MONGODB, NIGHTLY, SQLITE, store_at
from tests.support import opened, stored_versions

ROOT: Final = Path(__file__).parents[2]
STRIDE: Final = {SQLITE: 1 if NIGHTLY else 7, MONGODB: 1}
"""Statements of SQLite are many, and MongoDB's commands few."""
LEAST: Final = 8
"""Kills until a commit comes through."""


@pytest.mark.parametrize("kind", KINDS)
async def test_a_commit_that_is_killed_at_any_step_is_whole_or_absent(
    kind: str, tmp_path: Path
) -> None:
    address = store_at(tmp_path / "killed.db", kind)
    killed = 0
    for ended in dying(address, STRIDE[kind]):
        assert await unsound(address) == []
        killed += ended == signal.SIGKILL
    assert ended == 0
    assert killed >= LEAST
    store = await opened(address)
    assert await generations(store), "one has come through"
    await store.close()


LEAKS: Final = ("version", "trail", "memo") if NIGHTLY else ("trail",)


@pytest.mark.parametrize("collection", LEAKS)
@pytest.mark.skipif(MONGODB not in KINDS, reason="of MongoDB")
async def test_what_is_written_beside_the_transaction_is_noticed(
    collection: str, tmp_path: Path
) -> None:
    """Of the test above, that it can fail."""
    address = store_at(tmp_path / "leaking.db", MONGODB)
    found: list[str] = []
    for _ in dying(address, 1, collection):
        if found := await unsound(address):
            break
    assert found


def dying(address: str, stride: int, *leaking: str) -> Iterator[int]:
    """How each commit ended; the next begins when the one before was looked at."""
    command = [sys.executable, "-m", "tests.storage.dying", address, str(stride), *leaking]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        try:
            for line in running.stdout:
                yield int(line)
                running.stdin.write(b".")
                running.stdin.flush()
        finally:
            running.kill()


async def unsound(address: str) -> list[str]:
    """What the parts of the store say against each other."""
    store = await opened(address)
    try:
        faults = await faults_of(address, store)
        made = await generations(store)
        memos = [one.key for one in await store.memos(SPACE)]
        rows = [one.request_id for one in await rows_of(store)]
    finally:
        await store.close()
    if rows != made:
        faults.append(f"rows of the audit are of {rows}, and versions of {made}")
    if memos != made[-1:]:
        faults.append(f"memos are of {memos}, and versions of {made}")
    return faults


async def generations(store: Store) -> list[str]:
    """Of the commits, by the versions in their order."""
    versions = await stored_versions(store)
    said = [json.decode_resource(one.body)["identifier"][1]["value"] for one in versions]
    return [one.removeprefix(f"{KEY}-") for one in dict.fromkeys(said)]
