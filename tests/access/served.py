"""The whole server under tokens, over a store that is prepared once and copied for each test."""

import shutil
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx

from fhir_server.access.caller import ANONYMOUS
from fhir_server.access.facts import kept, remaking
from fhir_server.access.policy import OpenPolicy
from fhir_server.access.session import Session, SessionUnit
from fhir_server.app import Application, create_app
from fhir_server.fhir.json import Resource
from fhir_server.settings import Settings
from tests.access.cast import Cast
from tests.access.issuing import ISSUER, key_document, rsa_signer
from tests.access.region import SIGNATORIES
from tests.jobs import until
from tests.stores import SQLITE, store_at
from tests.support import FHIR_JSON

REASON: Final = "A neighbour heard shouting, where is she at home"


def settings_of(folder: Path, auth: str = "token", **more: Any) -> Settings:
    keys = folder / "keys.json"
    keys.write_bytes(key_document(rsa_signer().jwk()))
    token = {"issuer": ISSUER, "jwks": str(keys)} if auth == "token" else {}
    told: dict[str, Any] = {
        "auth": auth,
        "store": store_at(folder / "region.db", SQLITE),
        "max_count": 5000,
        "max_includes": 5000,
        "inpatient_units": ("W11",),
        "max_failure_rate": 0,
        "register_signatories": tuple(f"{code}={kind}" for code, kind in SIGNATORIES.items()),
    }
    return Settings(**{**told, **token, **more})


@asynccontextmanager
async def served(
    folder: Path, auth: str = "token", **more: Any
) -> AsyncIterator[tuple[Application, httpx.AsyncClient]]:
    """The application and a client of it, once everybody is let in who may."""
    settings = settings_of(folder, auth, **more)
    app = create_app(settings)

    async def complete() -> bool:
        return auth == "none" or (await kept.state(app.state.store)).usable

    async with app.router.lifespan_context(app):
        await until(complete)
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url=settings.base + "/") as client:
            yield app, client


async def facts_complete(app: Application) -> None:
    """Make the facts, where the server does not by itself."""
    await remaking.ensure(app.state.store)


def copy_all(prepared: Path, folder: Path) -> None:
    for one in prepared.iterdir():
        shutil.copy(one, folder)


@asynccontextmanager
async def copied(prepared: Path, folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server over a copy of what was prepared."""
    copy_all(prepared, folder)
    async with served(folder) as (_, client):
        yield client


async def store_all(
    app: Application, resources: Iterable[Resource], gone: Iterable[str] = ()
) -> None:
    """By somebody who may do everything; `gone` are ids of care plans to delete afterwards."""

    async def work(unit: SessionUnit) -> None:
        for resource in resources:
            await unit.put(resource, "PUT")
        for one in gone:
            there = await unit.read("CarePlan", one)
            assert there is not None
            await unit.delete(there)

    await Session(app.state.store, ANONYMOUS, OpenPolicy()).commit("set up", work)


async def break_glass(client: httpx.AsyncClient, caller: Cast) -> None:
    """For each child of whom the caller is said to have it broken."""
    for key in caller.breaks:
        reason = {"name": "reason", "valueString": REASON}
        told = {"resourceType": "Parameters", "parameter": [reason]}
        headers = {**FHIR_JSON, **caller.headers()}
        found = await client.post(f"Patient/{key}/$break-glass", json=told, headers=headers)
        assert found.status_code == 200, found.text
