"""Stores of a few resources, in which SQLite's words are partly moved and partly new."""

import asyncio
from collections.abc import Iterator

import pytest

from fhir_server.storage.sqlite import fulltext


@pytest.fixture(autouse=True, scope="module")
def words_are_moved_early() -> Iterator[None]:
    """After every third write: else no store of these tests would ever ask FTS5."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fulltext, "MOVED_AT", 3)
        yield


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner
