"""Whatever route writes a resource, its part in who may see whom is there with it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from fhir_server.access.caller import Caller
from fhir_server.access.case import Terms
from fhir_server.access.decisions import TableDecisions
from fhir_server.access.facts import remaking
from fhir_server.fhir import json
from fhir_server.fhir.dates import interval
from fhir_server.keeping import open_store
from fhir_server.settings import Settings
from fhir_server.storage.interface import Store
from tests.access.people import NOW, child, consent, episode, somebody
from tests.jobs import later
from tests.stores import store_at
from tests.support import body, caseload, client_of, put

KEYWORKER: Final = somebody("Practitioner/kw", "X1")
AS_OF: Final = interval("2026-06-01T12:00:00Z").low
"""The day of the synthetic caseload."""


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(tmp_path, keyworking_profiles=False) as made:
        yield made


@pytest.fixture
async def store(tmp_path: Path, client: httpx.AsyncClient) -> AsyncIterator[Store]:  # noqa: ARG001 - it makes the file
    """The server's, as another process opens it."""
    address = store_at(tmp_path / "test.db")
    opened = await open_store(Settings(auth="none", store=address))
    await remaking.ensure(opened)
    yield opened
    await opened.close()


async def rows(
    store: Store, caller: Caller, terms: Terms | None = None, now: int = NOW
) -> dict[str, int]:
    known = await TableDecisions(terms).known(store, caller, now)
    return {one: decision.row for decision, ids in known.items() for one in ids}


def transaction(*entries: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    return {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {
                "fullUrl": url,
                "resource": {name: value for name, value in resource.items() if name != "id"},
                "request": {"method": "POST", "url": resource["resourceType"]},
            }
            for url, resource in entries
        ],
    }


async def test_a_transaction_that_makes_everything_opens_it(
    client: httpx.AsyncClient, store: Store
) -> None:
    """References by `urn:uuid:` have become ids by then."""
    patient, keyworker = "urn:uuid:" + "1" * 8 + "-1111-4111-8111-111111111111", "Practitioner/kw"
    papers = (
        episode(keyworker, patient),
        consent(performer=patient, patient={"reference": patient}),
    )
    everything = transaction(
        (patient, child()),
        *(
            (f"urn:uuid:22222222-2222-4222-8222-22222222222{n}", one)
            for n, one in enumerate(papers)
        ),
    )
    practitioner = {"resourceType": "Practitioner", "id": "kw"}
    await put(client, practitioner)
    answer = await client.post("", **body(everything))
    assert answer.status_code == 200, answer.text
    patient_id = answer.json()["entry"][0]["response"]["location"].split("/")[-3]
    assert await rows(store, KEYWORKER) == {patient_id: 2}


async def test_a_reference_below_the_own_base_is_a_local_one(
    client: httpx.AsyncClient, store: Store
) -> None:
    base = str(client.base_url).rstrip("/")
    for one in (child(), {"resourceType": "Practitioner", "id": "kw"}, consent()):
        await put(client, one)
    await put(client, episode(f"{base}/Practitioner/kw", f"{base}/Patient/1"))
    assert await rows(store, KEYWORKER) == {"1": 2}


async def test_patch_and_delete_close_at_once(client: httpx.AsyncClient, store: Store) -> None:
    for one in (child(), episode("Practitioner/kw"), consent()):
        await put(client, one)
    assert await rows(store, KEYWORKER) == {"1": 2}
    patch = [{"op": "replace", "path": "/status", "value": "inactive"}]
    headers = {"content-type": "application/json-patch+json", "if-match": 'W/"1"'}
    answer = await client.patch("Consent/c", content=json.encode(patch), headers=headers)
    assert answer.status_code == 200, answer.text
    assert await rows(store, KEYWORKER) == {"1": 15}
    answer = await client.delete("EpisodeOfCare/e", headers={"if-match": 'W/"1"'})
    assert answer.status_code == 204, answer.text
    assert await rows(store, KEYWORKER) == {}


async def test_an_import_brings_its_facts(client: httpx.AsyncClient, store: Store) -> None:
    lines = (child(), episode("Practitioner/kw"), consent())
    content = b"".join(json.encode(one) + b"\n" for one in lines)
    sent = {"content-type": "application/fhir+ndjson"}
    await later(client, "POST", "$import", content=content, headers=sent)
    assert await rows(store, KEYWORKER) == {"1": 2}


async def test_the_synthetic_caseload_is_seen_by_those_who_work_with_it(
    client: httpx.AsyncClient, store: Store
) -> None:
    """Each keyworker sees the young people whom the episodes say, and signatories the register."""
    for one in caseload():
        assert (await client.post("", **body(one))).status_code == 200
    resources = [entry["resource"] for one in caseload() for entry in one["entry"]]
    for number in (1, 2, 3):
        post = f"PractitionerRole/kw-role-keyworker-{number}"
        caller = somebody(post, "ZZK01", purpose="TREAT")
        found = await rows(store, caller, now=AS_OF)
        mine = {
            one["patient"]["reference"].removeprefix("Patient/")
            for one in resources
            if one["resourceType"] == "EpisodeOfCare"
            and one["status"] == "active"
            and one.get("careManager", {}).get("reference") == post
        }
        assert mine
        assert {one for one, row in found.items() if row == 2} == mine
    council = somebody("", "ZZK05", purpose="TREAT")
    seen = await rows(store, council, Terms({"ZZK05": "social-care"}), AS_OF)
    assert set(seen.values()) == {3, 4}
    assert await rows(store, somebody("", "ZZK99", purpose="TREAT"), now=AS_OF) == {}
    assert [ref async for ref in remaking.differences(store)] == []
