"""The queue of rows: what is read is audited, or it is not read (ATTACKS.md class 29)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from fhir_server.access.audit.trail import Trail
from fhir_server.app import Application, create_app
from fhir_server.errors import FhirError, Kind
from fhir_server.settings import Settings
from fhir_server.storage.audited import AuditQuery, AuditRow
from fhir_server.storage.interface import Store
from fhir_server.storage.sqlite.connect import connect
from tests.audit.conftest import Rows
from tests.stores import sqlite_alone
from tests.support import assert_outcome

KIM = {"resourceType": "Patient", "id": "kim"}


@asynccontextmanager
async def serving(
    settings: Settings, **changed: Any
) -> AsyncIterator[tuple[Application, httpx.AsyncClient]]:
    app = create_app(Settings(**{**settings.model_dump(), **changed}))
    transport = httpx.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url=settings.base + "/") as client,
    ):
        await client.put("Patient/kim", json=KIM)
        yield app, client


@asynccontextmanager
async def _held(settings: Settings) -> AsyncIterator[None]:
    """Another process holds the file: nothing can be written meanwhile."""
    path = Path(settings.store.removeprefix("sqlite:///"))
    with closing(connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            other.execute("ROLLBACK")


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await holds():  # noqa: ASYNC110 - what it looks at tells nobody
            await asyncio.sleep(0.02)


async def _by_now(app: Application) -> list[str]:
    store: Store = app.state.store
    return [entry.row.action for entry in await store.audited(AuditQuery(), 1000)]


async def test_a_read_is_on_disk_shortly_after(settings: Settings) -> None:
    async with serving(settings) as (app, client):
        await client.get("Patient/kim")

        async def there() -> bool:
            return await _by_now(app) == ["update", "read"]

        await until(there)


async def test_strict_answers_when_the_row_is_on_disk(settings: Settings) -> None:
    async with serving(settings, audit="strict") as (app, client):
        for number in range(1, 6):
            assert (await client.get("Patient/kim")).status_code == 200
            assert await _by_now(app) == ["update"] + ["read"] * number


@sqlite_alone
@pytest.mark.parametrize("audit", ["on", "strict"])
async def test_while_rows_cannot_be_written_nothing_is_read(settings: Settings, audit: str) -> None:
    async with serving(settings, audit=audit, write_patience=0.2) as (app, client):
        async with _held(settings):
            first = await client.get("Patient/kim")
            assert first.status_code == (503 if audit == "strict" else 200)

            async def refused() -> bool:
                return (await client.get("Patient/kim")).status_code == 503

            await until(refused)
            answer = await client.get("Patient/kim")
            assert_outcome(answer, 503, "transient", "The audit cannot be written now")
            assert "kim" not in answer.text
            searched = await client.get("Patient")
            assert searched.status_code == 503

        async def read_again() -> bool:
            return (await client.get("Patient/kim")).status_code == 200

        await until(read_again)
        await app.state.trail.flushed()
        # What was read before the store refused was not lost meanwhile.
        assert (await _by_now(app)).count("read") >= 2


@sqlite_alone
async def test_more_rows_than_may_wait_are_not_taken(settings: Settings) -> None:
    async with serving(settings, audit_queue=10, write_patience=60) as (app, client):
        async with _held(settings):
            statuses = [(await client.get("Patient/kim")).status_code for _ in range(15)]
        assert statuses == [200] * 10 + [503] * 5
        await app.state.trail.flushed()
        assert (await _by_now(app)).count("read") == 10


async def test_the_end_of_the_server_waits_for_the_last_rows(settings: Settings) -> None:
    async with serving(settings) as (_, client):
        for _ in range(5):
            await client.get("Patient/kim")
    async with serving(settings) as (app, _):
        assert (await _by_now(app)).count("read") == 5


async def test_requests_at_once_leave_a_row_each(client: httpx.AsyncClient, rows: Rows) -> None:
    await client.put("Patient/kim", json=KIM)
    asked = [f"Patient/kim?_pretty=true&_format=json&n={number}" for number in range(40)]
    asked += [f"Patient?_count={number}" for number in range(1, 41)]
    await asyncio.gather(*map(client.get, asked))
    assert {one.asked for one in await rows()} == {
        "PUT /Patient/kim",
        *(f"GET /{a}" for a in asked),
    }
    assert len(await rows()) == 81


async def test_audit_may_be_off_without_tokens_alone(settings: Settings) -> None:
    async with serving(settings, audit="off") as (app, client):
        assert (await client.get("Patient/kim")).status_code == 200
        assert app.state.trail is None
        assert await _by_now(app) == ["update"]
    with pytest.raises(ValidationError, match="audit 'off' is for auth 'none' alone"):
        Settings(auth=None, audit="off")


async def test_text_from_outside_cannot_forge_rows(client: httpx.AsyncClient, rows: Rows) -> None:
    """ATTACKS.md class 29: line ends, control characters and length are harmless in the audit."""
    forged = "a%0d%0a2026-01-01%20read%20Patient/other%1b%5b2J%00"
    await client.get(f"Patient?name={forged}")
    await client.get("Patient?name=" + "x" * 50_000)
    await client.get("Patient/kim", headers={"x-request-id": "no\tid"})
    await client.post("Patient/_search", data={"name": "a\r\nforged\x1b"})
    for row in await rows():
        for text in (row.asked, row.description, row.request_id, *row.targets, *row.patients):
            assert text.isprintable()
        assert len(row.asked) < 2100
        assert len(row.description) < 600
        assert row.patients in ((), ("kim",))


class _Refusing:
    """A store that takes no row for a while, as one on a full disk."""

    def __init__(self) -> None:
        self.refuses = True
        self.commits = 0

    async def commit(self, work: Callable[[Any], Awaitable[None]]) -> None:
        if self.refuses:
            raise FhirError(Kind.UNAVAILABLE, "the disk is full")
        self.commits += 1
        await work(self)

    async def audit(self, *rows: AuditRow) -> None:
        pass


async def test_rows_wait_on_until_the_store_takes_them() -> None:
    store = _Refusing()
    trail = Trail(store)  # type: ignore[arg-type]
    trail.start()
    trail.put(AuditRow("caller", "read"))
    with pytest.raises(FhirError, match="The audit cannot be written now"):
        await trail.flushed()
    with pytest.raises(FhirError):
        trail.require_open()
    assert trail.behind == 1
    store.refuses = False

    async def kept() -> bool:
        return trail.behind == 0

    await until(kept)
    trail.require_open()
    await trail.stop()
    assert store.commits == 1


class _Slow(_Refusing):
    """Takes rows, and some time for each commit."""

    def __init__(self) -> None:
        super().__init__()
        self.refuses = False

    async def commit(self, work: Callable[[Any], Awaitable[None]]) -> None:
        await asyncio.sleep(0.005)
        await super().commit(work)


async def test_rows_that_come_during_a_commit_wait_for_others() -> None:
    store = _Slow()
    trail = Trail(store)  # type: ignore[arg-type]
    trail.start()
    started = asyncio.get_running_loop().time()
    for _ in range(100):
        trail.put(AuditRow("caller", "read"))
        await asyncio.sleep(0.002)
    await trail.flushed()
    passed = asyncio.get_running_loop().time() - started
    assert store.commits <= passed / 0.05 + 1
    await trail.stop()


async def test_many_rows_do_not_wait() -> None:
    store = _Slow()
    trail = Trail(store)  # type: ignore[arg-type]
    trail.start()
    for _ in range(5_100):
        trail.put(AuditRow("caller", "read"))
    await trail.flushed()
    assert store.commits == 11
    await trail.stop()


async def test_a_row_that_somebody_waits_for_goes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as the end of the server: others that could share the commit are not waited for."""
    monkeypatch.setattr("fhir_server.access.audit.trail._WITHIN", 3600.0)
    store = _Slow()
    trail = Trail(store)  # type: ignore[arg-type]
    trail.start()
    async with asyncio.timeout(60):
        for number in range(3):
            trail.put(AuditRow("caller", "read"))
            await asyncio.sleep(0.01)
            assert store.commits == number, "nobody waits yet"
            await trail.flushed()
        trail.put(AuditRow("caller", "read"))
        await trail.stop()
    assert (store.commits, trail.behind) == (4, 0)
