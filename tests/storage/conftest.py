"""Every test that asks for a `store` or a `backend` runs on each backend."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from fhir_server.storage.interface import Store
from tests.storage.backends import BACKENDS, EXCEPTIONS, Backend


@pytest.fixture(params=sorted(BACKENDS))
def backend(request: pytest.FixtureRequest) -> Backend:
    name: str = request.param
    test = request.node.originalname
    if test in EXCEPTIONS[name]:
        request.applymarker(pytest.mark.xfail(reason=EXCEPTIONS[name][test], strict=True))
    return BACKENDS[name]


@pytest_asyncio.fixture
async def store(backend: Backend, tmp_path: Path) -> AsyncIterator[Store]:
    opened = await backend.open(tmp_path)
    yield opened
    await opened.close()
