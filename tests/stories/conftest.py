"""A server for each story."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.events.receiving import QUICK, Receiver, receiving
from tests.stories.telling import Telling, told


@pytest.fixture
async def telling(tmp_path: Path) -> AsyncIterator[Telling]:
    async with told(tmp_path) as found:
        yield found


@pytest.fixture
async def board() -> AsyncIterator[Receiver]:
    """A screen elsewhere, to which notices are sent."""
    async with receiving() as found:
        yield found


@pytest.fixture
async def notifying(tmp_path: Path, board: Receiver) -> AsyncIterator[Telling]:
    """A server that sends notices at once, to the screen among others."""
    quick = {**QUICK, "notice_every": 0.1}
    async with told(tmp_path, notices_to=(board.origin,), **quick) as found:
        yield found
