"""Exports with tokens: the whole server, whose table decides about what is stored."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from fhir_server.access.facts import remaking
from fhir_server.app import Application, create_app
from fhir_server.fhir import json
from fhir_server.settings import Settings
from tests.access.conftest import stored
from tests.access.deciding import about
from tests.access.issuing import ISSUER, key_document, rsa_signer
from tests.access.people import child, consent, episode
from tests.access.tokened import bearing
from tests.jobs import finished
from tests.stores import store_at

TODAY: Final = datetime.now(UTC).date()
BORN: Final = f"{TODAY.year - 17}-01-01"
GIVEN: Final = (TODAY - timedelta(days=2)).isoformat()
OWN: Final = consent(basis="consent", outcome=None, dateTime=GIVEN)


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[Application]:
    keys = tmp_path / "keys.json"
    keys.write_bytes(key_document(rsa_signer().jwk()))
    store = store_at(tmp_path / "test.db")
    application = create_app(Settings(auth="token", issuer=ISSUER, jwks=str(keys), store=store))
    async with application.router.lifespan_context(application):
        await remaking.ensure(application.state.store)
        await stored(
            application,
            child("1", born=BORN),
            child("2", born=BORN),
            episode("Practitioner/keyworker"),
            OWN,
            about("CarePlan", "c1", "1", status="active", intent="plan"),
            about("CarePlan", "c2", "2", status="active", intent="plan"),
        )
        yield application


def as_(client: httpx.AsyncClient, user: str) -> httpx.AsyncClient:
    """The same server, to somebody whose token has every scope that reads."""
    headers = bearing("system/*.rs", ods_code="X99", fhirUser=user)
    return httpx.AsyncClient(transport=client._transport, base_url=client.base_url, headers=headers)


async def exported(client: httpx.AsyncClient, address: str) -> list[str]:
    """The addresses of the files, by a job of its own."""
    accepted = await client.get(address, headers={"prefer": "respond-async"})
    assert accepted.status_code == 202, accepted.text
    manifest: dict[str, Any] = (await finished(client, accepted.headers["content-location"])).json()
    return [one["url"] for one in manifest["output"]]


async def names(client: httpx.AsyncClient, files: list[str]) -> set[str]:
    lines = [line for file in files for line in (await client.get(file)).text.splitlines()]
    found = [json.decode(line.encode()) for line in lines]
    return {f"{one['resourceType']}/{one['id']}" for one in found}


@pytest.mark.parametrize("address", ["$export?_type=Patient,CarePlan", "Patient/$export"])
async def test_class_6_an_export_holds_what_its_caller_may_see(
    client: httpx.AsyncClient, address: str
) -> None:
    async with as_(client, "Practitioner/keyworker") as keyworker:
        found = await names(keyworker, await exported(keyworker, address))
        assert {"Patient/1", "CarePlan/c1"} <= found
        assert not found & {"Patient/2", "CarePlan/c2"}
    async with as_(client, "Practitioner/another") as nobody:
        assert await names(nobody, await exported(nobody, address)) == set()


async def test_class_6_files_that_are_there_show_what_may_be_seen_now(
    app: Application, client: httpx.AsyncClient
) -> None:
    async with as_(client, "Practitioner/keyworker") as keyworker:
        files = await exported(keyworker, "$export?_type=CarePlan")
        assert await names(keyworker, files) == {"CarePlan/c1"}
        await stored(app, episode("Practitioner/another"))
        assert await names(keyworker, files) == set()
