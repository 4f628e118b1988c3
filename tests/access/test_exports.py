"""Exports with tokens: the whole server, whose table decides about what is stored."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import httpx
import pytest

from fhir_server.access.caller import Caller, Grant
from fhir_server.access.facts import remaking
from fhir_server.access.session import Session
from fhir_server.app import Application, create_app
from fhir_server.fhir import json
from fhir_server.settings import Settings
from tests.access.conftest import stored
from tests.access.deciding import about
from tests.access.issuing import ISSUER, key_document, rsa_signer
from tests.access.people import YOUNG, agreed, child, episode, organisation, ref
from tests.access.tokened import bearing
from tests.jobs import finished, kicked_off, until
from tests.storage.questions import delete
from tests.stores import store_at

READS: Final = (Grant("system", "*", frozenset("rs")),)
OWN: Final = agreed()


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
            child("1", born=YOUNG),
            child("2", born=YOUNG),
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


async def test_class_4_what_was_counted_is_not_told_any_more_when_less_may_be_seen(
    app: Application, client: httpx.AsyncClient
) -> None:
    """The total of a search that was answered later, and the lines of files."""
    async with as_(client, "Practitioner/keyworker") as keyworker:
        search = await kicked_off(keyworker, "GET", "CarePlan?_summary=count")
        export = await kicked_off(keyworker, "GET", "$export?_type=CarePlan")
        counted = (await finished(keyworker, search)).json()["entry"][0]["resource"]
        assert counted["total"] == 1
        (told,) = (await finished(keyworker, export)).json()["output"]
        assert told["count"] == 1
        await stored(app, episode("Practitioner/another"))
        answer = (await finished(keyworker, search)).json()["entry"][0]
        assert answer["response"]["status"].startswith("200")
        assert "total" not in answer["resource"]
        (told,) = (await finished(keyworker, export)).json()["output"]
        assert "count" not in told


async def test_class_12_what_was_worked_out_is_not_told_any_more_when_less_may_be_seen(
    app: Application, client: httpx.AsyncClient
) -> None:
    """An answer that names nothing which could be looked at again; what was stored is."""
    async with as_(client, "Practitioner/keyworker") as keyworker:
        asked = [("GET", "Patient/1/$admission-risk"), ("GET", "Organization/o")]
        entries = [{"request": {"method": method, "url": url}} for method, url in asked]
        sent = {"resourceType": "Bundle", "type": "batch", "entry": entries}
        await stored(app, organisation("o", "X99"))
        job = await kicked_off(keyworker, "POST", "", json=sent)
        told = (await finished(keyworker, job)).json()["entry"]
        assert [one["resource"]["resourceType"] for one in told] == ["Parameters", "Organization"]
        other = {"patient": ref("Patient/2"), "performer": [ref("Patient/2")], "id": "c2"}
        await stored(app, episode("Practitioner/keyworker", "Patient/2", id="e2"), OWN | other)
        told = (await finished(keyworker, job)).json()["entry"]
        assert [("resource" in one) for one in told] == [False, True]


async def test_class_6_deletions_are_told_of_while_what_was_deleted_may_be_seen(
    app: Application, client: httpx.AsyncClient
) -> None:
    await delete(app.state.store, "CarePlan", "c1")
    async with as_(client, "Practitioner/keyworker") as keyworker:
        job = await kicked_off(
            keyworker, "GET", "$export?_type=CarePlan&_since=2020-01-01T00:00:00Z"
        )
        (told,) = (await finished(keyworker, job)).json()["deleted"]
        assert "CarePlan/c1" in (await keyworker.get(told["url"])).text
        await stored(app, episode("Practitioner/another"))
        assert (await keyworker.get(told["url"])).text == ""


async def test_class_26_a_job_ends_with_the_registration_of_its_client(app: Application) -> None:
    """A client of the built-in issuer that is gone by the time its job is taken up."""
    issuer = app.state.authority.terms.base
    assert app.fhir is not None
    desk = app.fhir.server.desk
    for name, status in ((issuer, 403), ("https://elsewhere.example", 0)):
        who = Caller(f"{quote(name, safe='')}/gone/gone/", client="gone", grants=READS)
        session = Session(app.state.store, who)
        asked = {"address": "CarePlan", "parameters": [], "handling": "", "base": "x"}
        job = await desk.start(session, desk.new(session, "interaction"), json.encode(asked))

        async def is_over(session: Session = session, job_id: str = job.id) -> bool:
            return (await desk.find(session, job_id)).finished

        await until(is_over)
        assert (await desk.find(session, job.id)).status == status
