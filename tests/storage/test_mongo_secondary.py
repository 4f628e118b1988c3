"""What a secondary may answer: reads for an answer alone, where a setting says so.

https://www.mongodb.com/docs/manual/core/read-preference/. What the driver asks of whom is heard on
the wire's own side of it.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Literal

import httpx
import pytest
from pymongo import monitoring

from fhir_server.access.policy import Caller, OpenPolicy
from fhir_server.access.session import Session
from fhir_server.app import Application, create_app
from fhir_server.search.ast import Everything, Node, Nothing
from fhir_server.settings import Settings
from fhir_server.storage.interface import Store
from tests.mongo import mongo_url
from tests.storage.backends import database_of
from tests.support import body


class Heard(monitoring.CommandListener):
    """Commands on resources and settings, and whether a secondary may answer them."""

    def __init__(self) -> None:
        self.commands: list[tuple[str, bool]] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        preference = event.command.get("$readPreference", {"mode": "primary"})
        collection = event.command.get(event.command_name)
        self.commands.append((str(collection), preference["mode"] != "primary"))

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None: ...

    def failed(self, event: monitoring.CommandFailedEvent) -> None: ...

    def of_secondary(self) -> set[str]:
        """The collections that were asked there since the last time."""
        said = {collection for collection, there in self.commands if there}
        self.commands.clear()
        return said


HEARD: Final = Heard()
monitoring.register(HEARD)
IDENTIFIED: Final = {
    "resourceType": "Patient",
    "identifier": [{"system": "urn:x", "value": "1"}],
}


@asynccontextmanager
async def serving(
    place: Path, read_from: Literal["primary", "secondary"]
) -> AsyncIterator[tuple[Application, httpx.AsyncClient]]:
    store = mongo_url(database_of(place))
    settings = Settings(auth="none", store=store, mongodb_read_from=read_from)
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url=settings.base + "/") as client:
            put = await client.put("Patient/a", **body({**IDENTIFIED, "id": "a"}))
            assert put.status_code == 201
            HEARD.commands.clear()
            yield app, client


ANSWERS: Final = [
    "Patient/a",
    "Patient/a/_history/1",
    "Patient/a/_history",
    "Patient/_history",
    "Patient?identifier=urn:x|1",
    "Patient?identifier=urn:x|1&_total=accurate&_sort=family",
    "Patient?_has:Task:patient:status=draft",
    "Patient/a/Observation",
]


@pytest.mark.parametrize("address", ANSWERS)
async def test_a_plain_answer_may_be_a_secondary_s(tmp_path: Path, address: str) -> None:
    async with serving(tmp_path, "secondary") as (_, client):
        assert (await client.get(address)).status_code == 200
        assert HEARD.of_secondary() == {"version"}


@pytest.mark.parametrize("address", ANSWERS)
async def test_nothing_is_without_the_setting(tmp_path: Path, address: str) -> None:
    async with serving(tmp_path, "primary") as (_, client):
        assert (await client.get(address)).status_code == 200
        assert HEARD.commands
        assert HEARD.of_secondary() == set()


async def test_nothing_is_that_a_write_hangs_on(tmp_path: Path) -> None:
    async with serving(tmp_path, "secondary") as (_, client):
        found = "identifier=urn:x|1"
        sent = body(IDENTIFIED)
        sent["headers"] |= {"if-none-exist": found}
        assert (await client.post("Patient", **sent)).status_code == 200
        put = await client.put(f"Patient?{found}", **body({**IDENTIFIED, "active": True}))
        assert put.status_code == 200, put.text
        entries = [{"request": {"method": "GET", "url": f"Patient?{found}"}}]
        bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
        assert (await client.post("", **body(bundle))).status_code == 200
        prefer = {"prefer": "respond-async"}
        accepted = await client.get(f"Patient?{found}", headers=prefer)
        assert accepted.status_code == 202
        assert (await client.get(accepted.headers["content-location"])).status_code in (200, 202)
        assert (await client.delete(f"Patient?{found}")).status_code in (200, 204)
        assert HEARD.commands
        assert HEARD.of_secondary() == set()


class Some:
    """A policy that has something to decide."""

    def readable(self, resource_type: str) -> Node:
        return Everything() if resource_type == "Patient" else Nothing()

    writable = readable


async def test_nothing_is_where_a_policy_decides(tmp_path: Path) -> None:
    async with serving(tmp_path, "secondary") as (app, _):
        for policy, there in ((Some(), set[str]()), (OpenPolicy(), {"version"})):
            data = Session(app.state.store, Caller("c"), policy).answering()
            found: Any = await data.read("Patient", "a")
            assert found is not None
            assert HEARD.of_secondary() == there
            await data.parameters()
            assert HEARD.of_secondary() == set()


def test_the_setting_is_refused_where_there_is_no_secondary(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is for a MongoDB store"):
        Settings(store=f"sqlite:///{tmp_path}/x.db", mongodb_read_from="secondary")


async def test_a_store_reads_from_the_primary_unless_it_is_told_otherwise(store: Store) -> None:
    assert store.lagging() is store
