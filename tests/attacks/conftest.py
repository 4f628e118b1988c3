"""A small region under tokens: a child whom the keyworker may see, and one who is hidden."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from fhir_server.app import Application
from fhir_server.fhir import json
from tests.access.cast import SERVICES, Cast
from tests.access.people import ref
from tests.access.region import CHILDREN, GONE, SHARED, Child
from tests.access.served import copy_all, served, store_all

MINE: Final = next(one for one in CHILDREN if (one.age, one.state) == ("competent", "active"))
HIDDEN: Final = next(one for one in CHILDREN if (one.age, one.state) == ("competent", "never"))
KIND: Final = {one.kind: one for one in SERVICES}
KEYWORKER: Final = KIND["keyworker"]
MEMBER: Final = KIND["care-team member"]
SIGNATORY: Final = KIND["signatory of health"]
STRANGER: Final = KIND["stranger"]
ADMINISTRATOR: Final = KIND["administrator"]
AUDITOR: Final = KIND["auditor"]
FHIR: Final = "application/fhir+json"
JSON_PATCH: Final = "application/json-patch+json"


def hidden(text: str) -> str:
    """An address about the hidden child, from the same about mine."""
    return text.replace(MINE.key, HIDDEN.key)


def of(child: Child, resource_type: str, paper_id: str) -> dict[str, Any]:
    """A paper of the child, as it is stored."""
    name = f"{child.key}-{paper_id}" if resource_type != "Patient" else child.key
    found = [
        one for one in child.stored if (one["resourceType"], one["id"]) == (resource_type, name)
    ]
    return dict(found[0])


def plan(child: Child, **rest: Any) -> dict[str, Any]:
    """A care plan to be created."""
    told = of(child, "CarePlan", "a")
    del told["id"]
    return {**told, "subject": ref(f"Patient/{child.key}"), **rest}


@dataclass
class World:
    """The server and whoever asks it."""

    app: Application
    client: httpx.AsyncClient

    async def ask(
        self,
        who: Cast | None,
        method: str,
        address: str,
        told: Any = None,
        media: str = FHIR,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        sent = {**(who.headers() if who else {}), **(headers or {})}
        if told is not None:
            sent["content-type"] = media
        content = told if isinstance(told, bytes | str) else json.encode(told) if told else None
        return await self.client.request(method, address, headers=sent, content=content)

    async def get(self, who: Cast | None, address: str, **headers: str) -> httpx.Response:
        return await self.ask(who, "GET", address, headers=headers)

    async def ids(self, who: Cast, address: str) -> set[str]:
        found = await self.get(who, address)
        assert found.status_code == 200, found.text
        return {one["resource"]["id"] for one in found.json().get("entry", ())}

    async def store(self, *resources: dict[str, Any]) -> None:
        await store_all(self.app, resources)

    async def version(self, resource_type: str, resource_id: str) -> int:
        """Of what is stored; 0 for nothing."""
        found = await self.app.state.store.read(resource_type, resource_id)
        return 0 if found is None or found.deleted else int(found.version)

    async def withdraw(self, child: Child) -> None:
        await self.store({**of(child, "Consent", "keyworking"), "status": "inactive"})


def same_but_for_names(mine: httpx.Response, other: httpx.Response, names: tuple[str, str]) -> bool:
    """Whether two refusals are one, but for the names that were asked for."""
    told = [
        (found.status_code, found.text.replace(name, "~"), found.headers.get("www-authenticate"))
        for found, name in zip((mine, other), names, strict=True)
    ]
    return told[0] == told[1]


@pytest.fixture(scope="session")
def region(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("attacked")

    async def prepare() -> None:
        async with served(folder) as (app, _):
            gone = [one for one in GONE if one.startswith((MINE.key, HIDDEN.key))]
            await store_all(app, (*SHARED, *MINE.stored, *HIDDEN.stored), gone)

    asyncio.run(prepare())
    return folder


@pytest.fixture
async def world(region: Path, tmp_path: Path) -> AsyncIterator[World]:
    copy_all(region, tmp_path)
    async with served(tmp_path, max_body=256 * 1024, keyworking_profiles=False) as (app, client):
        yield World(app, client)
