"""A server of a test's own, and the rows that its requests leave."""

from collections.abc import Awaitable, Callable

import httpx
import pytest

from fhir_server.app import Application
from fhir_server.storage.audited import AuditQuery, AuditRow

Rows = Callable[[], Awaitable[list[AuditRow]]]


@pytest.fixture
def rows(app: Application) -> Rows:
    """All rows by now, in their order."""

    async def found() -> list[AuditRow]:
        await app.state.trail.flushed()
        entries = await app.state.store.audited(AuditQuery(), 10_000)
        return [entry.row for entry in entries]

    return found


@pytest.fixture
async def patient(client: httpx.AsyncClient) -> str:
    """Its id."""
    answer = await client.put("Patient/kim", json={"resourceType": "Patient", "id": "kim"})
    assert answer.status_code == 201
    return "kim"
