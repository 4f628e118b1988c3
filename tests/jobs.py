"""What tests of asynchronous requests lean on: kick off, wait, fetch."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx

from fhir_server.access.policy import Caller, OpenPolicy, Policy
from fhir_server.access.session import Session
from fhir_server.app import create_app
from fhir_server.fhir import json
from fhir_server.http.messages import HttpRequest
from fhir_server.settings import Settings
from tests.support import FHIR_JSON, body

LATER: Final = {"prefer": "respond-async"}
_PATIENCE: Final = 120.0


async def kicked_off(client: httpx.AsyncClient, method: str, address: str, **more: Any) -> str:
    """The address where the accepted job is asked for."""
    headers = {**LATER, **more.pop("headers", {})}
    response = await client.request(method, address, headers=headers, **more)
    assert response.status_code == 202, response.text
    assert response.headers["preference-applied"] == "respond-async"
    assert response.json()["resourceType"] == "OperationOutcome"
    return str(response.headers["content-location"])


async def finished(client: httpx.AsyncClient, address: str) -> httpx.Response:
    """The answer at that address once it is not 202 any more."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        response = await client.get(address)
        if response.status_code != 202:
            return response
        assert response.headers["x-progress"]
        assert int(response.headers["retry-after"]) >= 1
        await asyncio.sleep(0.02)
    raise AssertionError(f"{address} is not finished: {response.headers}")


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Look again and again until that holds."""
    deadline = time.monotonic() + _PATIENCE
    while not await holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.002)


async def later(client: httpx.AsyncClient, method: str, address: str, **more: Any) -> Any:
    """The JSON that the job gave in the end."""
    done = await finished(client, await kicked_off(client, method, address, **more))
    assert done.status_code == 200, done.text
    return json.decode(done.content)


def with_body(resource: Any) -> dict[str, Any]:
    return {**body(resource), "headers": {**FHIR_JSON, **LATER}}


async def lines(client: httpx.AsyncClient, listed: list[dict[str, Any]]) -> list[Any]:
    """Everything in the files that a manifest lists; each has as many lines as it says."""
    found = []
    for file in listed:
        response = await client.get(file["url"], headers={"accept": "application/fhir+ndjson"})
        assert response.status_code == 200, response.text
        assert response.headers["content-type"] == "application/fhir+ndjson"
        assert response.content.endswith(b"\n")
        here = [json.decode(line) for line in response.content.splitlines()]
        assert len(here) == file["count"]
        assert {resource["resourceType"] for resource in here} == {file["type"]}
        found += here
    return found


@asynccontextmanager
async def served(
    settings: Settings, policies: Mapping[str, Policy] | None = None
) -> AsyncIterator[Callable[[str], httpx.AsyncClient]]:
    """A server for several callers, each named in a header of his client.

    Jobs run in the sessions of `policies` too; who is not named may do everything.
    """
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        assert app.fhir is not None
        store = app.state.store

        def open_session(caller: Caller) -> Session:
            policy = (policies or {}).get(caller.name) or OpenPolicy()
            return Session(store, caller, policy)

        def of_request(request: HttpRequest) -> Session:
            return open_session(Caller(request.headers["x-test-caller"], request.request_id))

        app.fhir._open_session = of_request
        app.state.jobs._open_session = open_session
        transport = httpx.ASGITransport(app=app)
        base = settings.base + "/"
        yield lambda caller: httpx.AsyncClient(
            transport=transport, base_url=base, headers={"x-test-caller": caller}
        )


def settings_for(tmp_path: Path, **more: Any) -> Settings:
    return Settings(auth="none", store=f"sqlite:///{tmp_path}/test.db", **more)
