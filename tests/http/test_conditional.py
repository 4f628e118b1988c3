"""Conditional update and delete: https://hl7.org/fhir/R4/http.html#cond-update"""

import asyncio
from collections import Counter
from typing import Any

import httpx
import pytest

from fhir_server.storage.interface import Store
from tests.support import assert_outcome, client_of, found_ids, put, stored_versions

PATIENT: dict[str, Any] = {
    "resourceType": "Patient",
    "identifier": [{"system": "urn:a", "value": "1"}],
    "name": [{"family": "Synthetic-Ash"}],
}
BY_IDENTIFIER = "Patient?identifier=urn:a|1"


async def test_an_update_of_what_the_criteria_find_makes_its_next_version(
    client: httpx.AsyncClient,
) -> None:
    await put(client, {**PATIENT, "id": "p1"})
    response = await client.put(BY_IDENTIFIER, json={**PATIENT, "active": True})
    assert (response.status_code, response.headers["etag"]) == (200, 'W/"2"')
    assert (await client.get("Patient/p1")).json()["active"] is True


async def test_an_update_that_finds_nothing_creates(client: httpx.AsyncClient) -> None:
    response = await client.put(BY_IDENTIFIER, json=PATIENT)
    assert response.status_code == 201
    assert await found_ids(client, BY_IDENTIFIER) == [response.json()["id"]]


async def test_an_update_that_finds_nothing_creates_under_the_id_given(
    client: httpx.AsyncClient,
) -> None:
    response = await client.put(BY_IDENTIFIER, json={**PATIENT, "id": "mine"})
    assert (response.status_code, response.json()["id"]) == (201, "mine")


async def test_an_update_that_finds_several_is_refused(
    client: httpx.AsyncClient, store: Store
) -> None:
    for name in ("p1", "p2"):
        await put(client, {**PATIENT, "id": name})
    response = await client.put(BY_IDENTIFIER, json=PATIENT)
    assert_outcome(response, 412, "multiple-matches", "More than one Patient", "http.criteria")
    assert len(await stored_versions(store)) == 2


async def test_an_update_with_another_id_than_the_match_is_refused(
    client: httpx.AsyncClient, store: Store
) -> None:
    await put(client, {**PATIENT, "id": "p1"})
    response = await client.put(BY_IDENTIFIER, json={**PATIENT, "id": "p2"})
    assert_outcome(response, 400, "invalid", "the criteria find 'p1'", "Patient.id")
    assert len(await stored_versions(store)) == 1


async def test_if_match_holds_for_what_the_criteria_find(client: httpx.AsyncClient) -> None:
    await put(client, {**PATIENT, "id": "p1"})
    stale = await client.put(BY_IDENTIFIER, json=PATIENT, headers={"If-Match": 'W/"9"'})
    assert_outcome(stale, 412, "conflict", "the current version is 1", "http.If-Match")


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("query", ["", "?_format=json", "?_count=1", "?colour=blue"])
async def test_without_criteria_nothing_is_changed(
    client: httpx.AsyncClient, store: Store, method: str, query: str
) -> None:
    await put(client, {**PATIENT, "id": "p1"})
    body = {"resourceType": "Parameters"} if method == "PATCH" else PATIENT
    kwargs: dict[str, Any] = {} if method == "DELETE" else {"json": body}
    headers = {"Content-Type": "application/fhir+json"}
    response = await client.request(method, f"Patient{query}", headers=headers, **kwargs)
    assert_outcome(response, 400, "invalid", "criteri" if "colour" not in query else "'colour'")
    assert len(await stored_versions(store)) == 1


async def test_64_conditional_updates_at_once_make_one_resource(
    client: httpx.AsyncClient, store: Store
) -> None:
    answers = await asyncio.gather(*(client.put(BY_IDENTIFIER, json=PATIENT) for _ in range(64)))
    assert Counter(answer.status_code for answer in answers) == {201: 1, 200: 63}
    assert len({stored.id for stored in await stored_versions(store)}) == 1


async def test_a_delete_takes_the_one_that_the_criteria_find(client: httpx.AsyncClient) -> None:
    await put(client, {**PATIENT, "id": "p1"})
    await put(client, {"resourceType": "Patient", "id": "p2"})
    assert (await client.delete(BY_IDENTIFIER)).status_code == 204
    assert (await client.get("Patient/p1")).status_code == 410
    assert (await client.get("Patient/p2")).status_code == 200
    assert (await client.delete(BY_IDENTIFIER)).status_code == 204


async def test_a_delete_that_finds_several_is_refused(
    client: httpx.AsyncClient, store: Store
) -> None:
    for name in ("p1", "p2"):
        await put(client, {**PATIENT, "id": name})
    response = await client.delete(BY_IDENTIFIER)
    assert_outcome(response, 412, "multiple-matches", "More than one Patient", "http.criteria")
    assert len(await stored_versions(store)) == 2


async def test_a_server_set_so_deletes_several_at_once(tmp_path: Any) -> None:
    async with client_of(tmp_path, conditional_delete="multiple") as client:
        for name in ("p1", "p2", "p3"):
            await put(client, {**PATIENT, "id": name})
        await put(client, {"resourceType": "Patient", "id": "other"})
        assert (await client.delete(BY_IDENTIFIER)).status_code == 204
        assert await found_ids(client, "Patient") == ["other"]


async def test_a_delete_of_what_criteria_find_heeds_if_match(tmp_path: Any) -> None:
    """Also where the server deletes several: the one that was read is meant, and no other."""
    async with client_of(tmp_path, conditional_delete="multiple") as client:
        await put(client, {**PATIENT, "id": "p1"})
        stale = await client.delete(BY_IDENTIFIER, headers={"If-Match": 'W/"9"'})
        assert_outcome(stale, 412, "conflict", "the current version is 1", "http.If-Match")
        await put(client, {**PATIENT, "id": "p2"})
        several = await client.delete(BY_IDENTIFIER, headers={"If-Match": 'W/"1"'})
        assert_outcome(several, 412, "multiple-matches", "If-Match is about one", "http.If-Match")
        assert await found_ids(client, "Patient") == ["p1", "p2"]
        await client.delete("Patient/p2")
        fresh = await client.delete(BY_IDENTIFIER, headers={"If-Match": 'W/"1"'})
        assert fresh.status_code == 204
        gone = await client.delete(BY_IDENTIFIER, headers={"If-Match": 'W/"1"'})
        assert_outcome(gone, 412, "conflict", "is not there", "http.If-Match")


async def test_a_server_set_so_deletes_one_goal_with_if_match(tmp_path: Any) -> None:
    async with client_of(tmp_path, conditional_delete="multiple") as client:
        goal = _flag_about("Patient/p1")["entry"][0]["resource"]
        await put(client, {**goal, "id": "f1"})
        answer = await client.delete("Flag?subject=Patient/p1", headers={"If-Match": 'W/"1"'})
        assert answer.status_code == 204
        assert await found_ids(client, "Flag") == []


async def test_a_transaction_links_to_what_a_conditional_update_finds(
    client: httpx.AsyncClient,
) -> None:
    await put(client, {**PATIENT, "id": "p1"})
    flag = {
        "resourceType": "Flag",
        "status": "active",
        "code": {"text": "x"},
        "subject": {"reference": "urn:uuid:3f1bd7e6-4a1f-4e9d-8a4c-0f7a1c2d3e4f"},
    }
    bundle = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {
                "fullUrl": "urn:uuid:3f1bd7e6-4a1f-4e9d-8a4c-0f7a1c2d3e4f",
                "resource": PATIENT,
                "request": {"method": "PUT", "url": BY_IDENTIFIER},
            },
            {"resource": flag, "request": {"method": "POST", "url": "Flag"}},
        ],
    }
    (await client.post("", json=bundle)).raise_for_status()
    assert len(await found_ids(client, "Flag?subject=Patient/p1")) == 1


async def test_a_transaction_may_not_write_by_criteria_what_it_writes_by_id(
    client: httpx.AsyncClient, store: Store
) -> None:
    await put(client, {**PATIENT, "id": "p1"})
    bundle = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {"resource": PATIENT, "request": {"method": "PUT", "url": BY_IDENTIFIER}},
            {"request": {"method": "DELETE", "url": "Patient/p1"}},
        ],
    }
    response = await client.post("", json=bundle)
    assert_outcome(response, 400, "invalid", "already written by entry[0]", "Bundle.entry[1]")
    assert len(await stored_versions(store)) == 1


def _flag_about(reference: str) -> dict[str, Any]:
    flag = {
        "resourceType": "Flag",
        "status": "active",
        "code": {"text": "x"},
        "subject": {"reference": reference},
    }
    entry = {"resource": flag, "request": {"method": "POST", "url": "Flag"}}
    return {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}


async def test_a_transaction_resolves_references_by_criteria(client: httpx.AsyncClient) -> None:
    await put(client, {**PATIENT, "id": "p1"})
    (await client.post("", json=_flag_about(BY_IDENTIFIER))).raise_for_status()
    assert len(await found_ids(client, "Flag?subject=Patient/p1")) == 1


async def test_a_reference_by_criteria_finds_one_or_nothing_is_stored(
    client: httpx.AsyncClient, store: Store
) -> None:
    place = "Bundle.entry[0].resource.subject.reference"
    nobody = await client.post("", json=_flag_about(BY_IDENTIFIER))
    assert_outcome(nobody, 412, "conflict", "finds nothing", place)
    assert not await stored_versions(store)
    for name in ("p1", "p2"):
        await put(client, {**PATIENT, "id": name})
    several = await client.post("", json=_flag_about(BY_IDENTIFIER))
    assert_outcome(several, 412, "multiple-matches", "More than one Patient", place)
    assert len(await stored_versions(store)) == 2


def _transaction(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": "transaction", "entry": list(entries)}


_CREATE = {"resource": PATIENT, "request": {"method": "POST", "url": "Patient"}}


@pytest.mark.parametrize("backwards", [False, True])
async def test_a_reference_by_criteria_finds_what_the_transaction_stores(
    client: httpx.AsyncClient, *, backwards: bool
) -> None:
    """https://hl7.org/fhir/R4/http.html#trules: they are resolved last, whatever the order."""
    by_name = "Organization?name=Synthetic-Trust"
    patient = {**PATIENT, "managingOrganization": {"reference": by_name}}
    organisation = {"resourceType": "Organization", "name": "Synthetic-Trust"}
    entries = [
        {"resource": organisation, "request": {"method": "POST", "url": "Organization"}},
        {"resource": patient, "request": {"method": "POST", "url": "Patient"}},
        *_flag_about(BY_IDENTIFIER)["entry"],
    ]
    answer = await client.post("", json=_transaction(*entries[:: -1 if backwards else 1]))
    answer.raise_for_status()
    found = await found_ids(client, "Flag?subject:Patient.organization.name=Synthetic-Trust")
    assert len(found) == 1
    assert (await client.get(f"Flag/{found[0]}/_history/1")).status_code == 200


async def test_a_reference_by_criteria_does_not_find_what_the_transaction_deletes(
    client: httpx.AsyncClient,
) -> None:
    await put(client, {**PATIENT, "id": "p1"})
    delete = {"request": {"method": "DELETE", "url": "Patient/p1"}}
    flag = _flag_about(BY_IDENTIFIER)["entry"][0]
    place = "Bundle.entry[0].resource.subject.reference"
    response = await client.post("", json=_transaction(flag, delete))
    assert_outcome(response, 412, "conflict", "finds nothing", place)
    assert (await client.get("Patient/p1")).status_code == 200


async def test_a_reference_by_criteria_counts_what_the_transaction_stores(
    client: httpx.AsyncClient, store: Store
) -> None:
    """Also a resource that itself waits for what it refers to."""
    await put(client, {**PATIENT, "id": "p1"})
    flag = _flag_about(BY_IDENTIFIER)["entry"][0]
    place = "Bundle.entry[0].resource.subject.reference"
    linked = {**PATIENT, "link": [{"other": {"reference": BY_IDENTIFIER}, "type": "seealso"}]}
    waits = {"resource": linked, "request": {"method": "POST", "url": "Patient"}}
    for second in (_CREATE, waits):
        response = await client.post("", json=_transaction(flag, second))
        assert_outcome(response, 412, "multiple-matches", "More than one Patient", place)
    assert len(await stored_versions(store)) == 1


async def test_a_chain_of_references_by_criteria_has_a_bound(
    client: httpx.AsyncClient, store: Store
) -> None:
    """Each step would go through what is left once more, while all other writers wait."""
    entries = [
        {
            "resource": {
                "resourceType": "Organization",
                "name": f"Synthetic-{step}",
                "partOf": {"reference": f"Organization?name:exact=Synthetic-{step + 1}"},
            },
            "request": {"method": "POST", "url": "Organization"},
        }
        for step in range(9)
    ]
    last = {"resourceType": "Organization", "name": "Synthetic-9"}
    top = {"resource": last, "request": {"method": "POST", "url": "Organization"}}
    response = await client.post("", json=_transaction(top, *entries))
    place = "Bundle.entry[1].resource.partOf.reference"
    assert_outcome(response, 412, "conflict", "finds nothing", place)
    assert not await stored_versions(store)
    (await client.post("", json=_transaction(top, *entries[5:]))).raise_for_status()
    assert len(await stored_versions(store)) == 5


@pytest.mark.parametrize("reference", ["Patient?", "Patient?identifier=", "Patient?favourite=1"])
async def test_a_reference_by_no_criteria_is_refused_where_it_stands(
    client: httpx.AsyncClient, store: Store, reference: str
) -> None:
    place = "Bundle.entry[0].resource.subject.reference"
    response = await client.post("", json=_flag_about(reference))
    assert_outcome(response, 400, "invalid", "", place)
    assert not await stored_versions(store)


async def test_two_updates_by_the_same_criteria_are_refused(
    client: httpx.AsyncClient, store: Store
) -> None:
    """Each would store what the other asks for: two where one was meant."""
    update = {"resource": PATIENT, "request": {"method": "PUT", "url": BY_IDENTIFIER}}
    for other in (update, _CREATE):
        response = await client.post("", json=_transaction(other, update))
        assert_outcome(response, 400, "invalid", "this transaction writes itself")
        assert not await stored_versions(store)


async def test_a_condition_may_not_find_what_the_transaction_updates(
    client: httpx.AsyncClient, store: Store
) -> None:
    """Its answer would name a version that is no longer the current one."""
    await put(client, {**PATIENT, "id": "p1"})
    create = {"method": "POST", "url": "Patient", "ifNoneExist": "identifier=urn:a|1"}
    update = {"method": "PUT", "url": "Patient/p1"}
    bundle = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {"resource": PATIENT, "request": create},
            {"resource": {**PATIENT, "id": "p1", "active": True}, "request": update},
        ],
    }
    response = await client.post("", json=bundle)
    assert_outcome(response, 400, "invalid", "which entry[1] writes", "Bundle.entry[0].request")
    assert len(await stored_versions(store)) == 1
