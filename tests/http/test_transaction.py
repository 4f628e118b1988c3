"""transaction: https://hl7.org/fhir/R4/http.html#transaction, rules: #trules"""

from typing import Any

import httpx
import pytest
from fhir.resources.R4B.bundle import Bundle

from fhir_server.storage.interface import Store
from tests.http.transactions import CHILD, PATIENT, Entry, entry_of, plan_of, transact
from tests.support import assert_outcome, body, found_ids, outcome_issues, put, stored_versions


async def test_answers_every_entry_in_its_place(client: httpx.AsyncClient) -> None:
    await put(client, {**PATIENT, "id": "gone"})
    await put(client, {**PATIENT, "id": "there"})
    response = await transact(
        client,
        entry_of("GET", "Patient/there"),
        entry_of("PUT", "Patient/there", {**PATIENT, "id": "there", "active": True}),
        entry_of("POST", "Patient", PATIENT),
        entry_of("DELETE", "Patient/gone"),
    )
    bundle = response.json()
    assert bundle["type"] == "transaction-response"
    assert [entry["response"]["status"] for entry in bundle["entry"]] == [
        "200 OK",
        "200 OK",
        "201 Created",
        "204 No Content",
    ]
    assert [entry["response"]["etag"] for entry in bundle["entry"]] == [
        'W/"2"',
        'W/"2"',
        'W/"1"',
        'W/"2"',
    ]
    Bundle.model_validate_json(response.content)


async def test_reads_see_what_the_same_transaction_wrote(client: httpx.AsyncClient) -> None:
    response = await transact(
        client,
        entry_of("GET", "Patient/p1"),
        entry_of("GET", "Patient?family=Synthetic-Entry"),
        entry_of("PUT", "Patient/p1", {**PATIENT, "id": "p1"}),
    )
    read, searched, _ = response.json()["entry"]
    assert read["resource"]["id"] == "p1"
    assert [entry["resource"]["id"] for entry in searched["resource"]["entry"]] == ["p1"]


async def test_order_is_delete_create_update_read_whatever_the_bundle_says(
    client: httpx.AsyncClient, store: Store
) -> None:
    await put(client, {**PATIENT, "id": "old"})
    response = await transact(
        client,
        entry_of("GET", "Patient?_total=accurate&_count=0"),
        entry_of("PUT", "Patient/new", {**PATIENT, "id": "new"}),
        entry_of("POST", "Patient", PATIENT),
        entry_of("DELETE", "Patient/old"),
    )
    assert response.json()["entry"][0]["resource"]["total"] == 2
    methods = [version.method for version in await stored_versions(store)]
    assert methods == ["PUT", "DELETE", "POST", "PUT"]


@pytest.mark.parametrize(
    ("wrong", "status", "code", "text", "place"),
    [
        (
            entry_of("POST", "Patient", {"resourceType": "Patient", "colour": "blue"}),
            400,
            "structure",
            "colour",
            "Bundle.entry[1].resource.colour",
        ),
        (entry_of("GET", "Patient/nobody"), 404, "not-found", "nobody", "Bundle.entry[1]"),
        (
            entry_of("GET", "Patient?colour=blue"),
            400,
            "invalid",
            "'colour'",
            "Bundle.entry[1].request",
        ),
        (
            entry_of("PUT", "Patient/there", {**PATIENT, "id": "there"}, ifMatch='W/"9"'),
            412,
            "conflict",
            "current version is 1",
            "Bundle.entry[1].request",
        ),
        (
            entry_of("GET", "metadata"),
            400,
            "not-supported",
            "capabilities",
            "Bundle.entry[1].request",
        ),
        (entry_of("PATCH", "Patient/there"), 400, "structure", "patch", "Bundle.entry[1]"),
        (entry_of("POST", "Patient"), 400, "structure", "empty", "Bundle.entry[1]"),
        (entry_of("GET", "Dragon/1"), 404, "not-found", "'Dragon'", "Bundle.entry[1]"),
    ],
)
async def test_one_wrong_entry_leaves_nothing_of_the_others(
    client: httpx.AsyncClient,
    store: Store,
    wrong: Entry,
    status: int,
    code: str,
    text: str,
    place: str,
) -> None:
    await put(client, {**PATIENT, "id": "there"})
    response = await transact(
        client,
        entry_of("POST", "Patient", PATIENT),
        wrong,
        entry_of("PUT", "Patient/there", {**PATIENT, "id": "there"})
        if "there" not in wrong["request"]["url"]
        else entry_of("POST", "Patient", PATIENT),
    )
    assert_outcome(response, status, code, text, place)
    assert len(await stored_versions(store)) == 1
    assert await found_ids(client, "Patient?family=Synthetic-Entry") == ["there"]


async def test_refuses_to_write_one_resource_twice(client: httpx.AsyncClient, store: Store) -> None:
    named = {**PATIENT, "id": "p1"}
    response = await transact(
        client, entry_of("PUT", "Patient/p1", named), entry_of("DELETE", "Patient/p1")
    )
    assert_outcome(
        response, 400, "invalid", "Patient/p1 is already written by entry[0]", "Bundle.entry[1]"
    )
    assert not await stored_versions(store)


async def test_refuses_more_entries_than_are_allowed(
    client: httpx.AsyncClient, store: Store
) -> None:
    response = await transact(client, *[entry_of("POST", "Patient", PATIENT) for _ in range(51)])
    assert_outcome(response, 403, "too-costly", "51 entries; 50 are allowed", "Bundle.entry")
    assert not await stored_versions(store)


async def test_without_entries_does_nothing(client: httpx.AsyncClient) -> None:
    response = await client.post("", **body({"resourceType": "Bundle", "type": "transaction"}))
    assert response.json() == {"resourceType": "Bundle", "type": "transaction-response"}


async def test_returns_the_resources_when_they_are_preferred(client: httpx.AsyncClient) -> None:
    bundle = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [entry_of("POST", "Patient", PATIENT)],
    }
    request = body(bundle)
    plain = (await client.post("", **request)).json()["entry"][0]
    request["headers"]["Prefer"] = "return=representation"
    full = (await client.post("", **request)).json()["entry"][0]
    assert "resource" not in plain
    assert full["resource"]["name"] == PATIENT["name"]


@pytest.mark.parametrize(
    "url", ["/Patient/p1", "Patient/p1", "http://127.0.0.1:8080/fhir/Patient/p1"]
)
async def test_takes_addresses_with_and_without_the_base(
    client: httpx.AsyncClient, url: str
) -> None:
    response = await transact(client, entry_of("PUT", url, {**PATIENT, "id": "p1"}))
    assert response.json()["entry"][0]["response"]["location"] == "Patient/p1/_history/1"


@pytest.mark.parametrize("url", ["http://elsewhere.example/fhir/Patient/p1", "../Patient/p1", ""])
async def test_refuses_addresses_of_other_servers(
    client: httpx.AsyncClient, store: Store, url: str
) -> None:
    response = await transact(client, entry_of("PUT", url, {**PATIENT, "id": "p1"}))
    assert response.status_code in (400, 404, 405)
    assert not await stored_versions(store)


@pytest.mark.parametrize("kind", ["collection", "searchset", "message", "document"])
async def test_bundles_of_other_types_are_refused_at_the_base(
    client: httpx.AsyncClient, store: Store, kind: str
) -> None:
    bundle: dict[str, Any] = {"resourceType": "Bundle", "type": kind}
    response = await client.post("", **body(bundle))
    assert_outcome(response, 400, "invalid", "transaction and batch can", "Bundle.type")
    assert not await stored_versions(store)


async def test_a_resource_that_is_no_bundle_is_refused_at_the_base(
    client: httpx.AsyncClient, store: Store
) -> None:
    response = await client.post("", **body(PATIENT))
    assert_outcome(response, 400, "structure", "this address takes a Bundle", "resourceType")
    assert not await stored_versions(store)


async def test_tells_what_is_wrong_with_every_entry(
    client: httpx.AsyncClient, store: Store
) -> None:
    response = await transact(
        client,
        entry_of("POST", "Patient", {**PATIENT, "birthDate": "never"}),
        entry_of("POST", "Patient", PATIENT),
        entry_of("POST", "Patient", {**PATIENT, "gender": "blue"}),
    )
    assert response.status_code == 400
    assert [issue["expression"] for issue in outcome_issues(response)] == [
        ["Bundle.entry[0].resource.birthDate"],
        ["Bundle.entry[2].resource.gender"],
    ]
    assert not await stored_versions(store)


@pytest.mark.parametrize("kind", ["transaction", "batch"])
@pytest.mark.parametrize("resource", [5, [], "Patient", None])
async def test_an_entry_whose_resource_is_no_object_is_refused(
    client: httpx.AsyncClient, store: Store, kind: str, resource: Any
) -> None:
    entry = {"request": {"method": "POST", "url": "Patient"}, "resource": resource}
    bundle = {"resourceType": "Bundle", "type": kind, "entry": [entry]}
    response = await client.post("", **body(bundle))
    assert response.status_code == 400
    assert outcome_issues(response)[0]["expression"] == ["Bundle.entry[0].resource"]
    assert not await stored_versions(store)


@pytest.mark.parametrize("kind", ["transaction", "batch"])
async def test_what_a_read_or_deletion_brings_along_is_not_looked_at(
    client: httpx.AsyncClient, kind: str
) -> None:
    await put(client, {**PATIENT, "id": "gone"})
    await put(client, {**PATIENT, "id": "there"})
    bundle = {
        "resourceType": "Bundle",
        "type": kind,
        "entry": [
            entry_of("GET", "Patient/there", {}),
            entry_of("DELETE", "Patient/gone", {"a": 1}),
        ],
    }
    response = await client.post("", **body(bundle))
    statuses = [entry["response"]["status"] for entry in response.json()["entry"]]
    assert statuses == ["200 OK", "204 No Content"]


async def test_refuses_two_entries_of_one_full_url(client: httpx.AsyncClient, store: Store) -> None:
    response = await transact(
        client,
        entry_of("POST", "Patient", PATIENT, CHILD),
        entry_of("POST", "Patient", PATIENT, CHILD),
        entry_of("POST", "CarePlan", plan_of(CHILD)),
    )
    text = f"Another entry has the fullUrl '{CHILD}'"
    assert_outcome(response, 400, "invariant", text, "Bundle.entry[1].fullUrl")
    assert not await stored_versions(store)
