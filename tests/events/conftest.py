"""A server that sends notices, and a receiver that it may send them to."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.events.receiving import QUICK, Receiver, patient, receiving
from tests.support import client_of, put


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as found:
        yield found


@pytest.fixture
def changed() -> dict[str, Any]:
    """Settings beyond the quick ones."""
    return {}


@pytest.fixture
async def client(
    tmp_path: Path, receiver: Receiver, changed: dict[str, Any]
) -> AsyncIterator[httpx.AsyncClient]:
    settings: dict[str, Any] = {**QUICK, "notices_to": (receiver.origin,), **changed}
    async with client_of(tmp_path, keyworking_profiles=False, **settings) as found:
        await put(found, patient())
        yield found
