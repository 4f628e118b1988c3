"""A server with settings of a test's own, within its loop."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from fhir_server.app import create_app
from fhir_server.settings import Settings


@asynccontextmanager
async def served(
    settings: Settings, peer: str = "127.0.0.1", **changed: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """A client that connects from `peer`; its relative addresses are relative to the base."""
    app = create_app(Settings(**{**settings.model_dump(), **changed}))
    transport = httpx.ASGITransport(app=app, client=(peer, 5555))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url=settings.base + "/") as client,
    ):
        yield client
