"""update: https://hl7.org/fhir/R4/http.html#update, create-by-update: #upsert"""

import asyncio

import httpx
import pytest

from fhir_server.settings import Settings
from fhir_server.storage.interface import Store
from tests.support import assert_outcome, body, exact, found_ids, put, stored_versions

PATIENT = {"resourceType": "Patient", "id": "p1", "name": [{"family": "Synthetic-Before"}]}
CHANGED = {**PATIENT, "name": [{"family": "Synthetic-After"}]}


async def test_writes_the_next_version(client: httpx.AsyncClient, settings: Settings) -> None:
    await put(client, PATIENT)
    response = await client.put("Patient/p1", **body(CHANGED))
    assert response.status_code == 200
    assert response.headers["etag"] == 'W/"2"'
    assert response.headers["location"] == f"{settings.base}/Patient/p1/_history/2"
    assert exact(response) == exact(await client.get("Patient/p1"))
    assert response.json()["meta"]["versionId"] == "2"


async def test_moves_the_resource_in_the_index(client: httpx.AsyncClient) -> None:
    await put(client, PATIENT)
    await put(client, CHANGED)
    assert await found_ids(client, "Patient?family=Synthetic-Before") == []
    assert await found_ids(client, "Patient?family=Synthetic-After") == ["p1"]


async def test_creates_under_the_id_that_the_client_gives(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    response = await client.put("Patient/p1", **body(PATIENT))
    assert response.status_code == 201
    assert response.headers["location"] == f"{settings.base}/Patient/p1/_history/1"


async def test_on_a_deleted_resource_creates_its_next_version(client: httpx.AsyncClient) -> None:
    await put(client, PATIENT)
    await client.delete("Patient/p1")
    response = await client.put("Patient/p1", **body(PATIENT))
    assert response.status_code == 201
    assert response.headers["etag"] == 'W/"3"'
    assert await found_ids(client, "Patient?_id=p1") == ["p1"]


@pytest.mark.parametrize("resource_id", ["metadata", "a" * 64, "A-1.b", "1", "-", "."])
async def test_takes_every_id_that_the_standard_allows(
    client: httpx.AsyncClient, resource_id: str
) -> None:
    # An address of "." alone is shortened away by clients, so its dot is escaped.
    address = f"Patient/{resource_id}" if resource_id != "." else "Patient/%2E"
    response = await client.put(address, **body({**PATIENT, "id": resource_id}))
    assert response.status_code == 201, response.text
    assert (await client.get(address)).json()["id"] == resource_id


async def test_refuses_a_resource_without_the_id_of_the_address(
    client: httpx.AsyncClient, store: Store
) -> None:
    nameless = {name: value for name, value in PATIENT.items() if name != "id"}
    for resource, text in ((nameless, "has no id"), ({**PATIENT, "id": "p2"}, "'p2'")):
        response = await client.put("Patient/p1", **body(resource))
        assert_outcome(response, 400, "invalid", text, "Patient.id")
    assert not await stored_versions(store)


@pytest.mark.parametrize("tag", ['W/"1"', '"1"'])
async def test_with_if_match_writes_over_the_version_that_it_names(
    client: httpx.AsyncClient, tag: str
) -> None:
    await put(client, PATIENT)
    request = body(CHANGED)
    request["headers"]["If-Match"] = tag
    assert (await client.put("Patient/p1", **request)).status_code == 200


@pytest.mark.parametrize(
    ("tag", "text"),
    [
        ('W/"2"', "asks for version 2; the current version is 1"),
        ('W/"0"', "asks for version 0"),
        ("1", "one ETag such as"),
        ("W/1", "one ETag such as"),
        ("*", "one ETag such as"),
        ('W/"1", W/"2"', "one ETag such as"),
        ('w/"1"', "one ETag such as"),
        ('W/"-1"', "one ETag such as"),
        ('W/"' + "9" * 40 + '"', "one ETag such as"),
        ("", "one ETag such as"),
    ],
)
async def test_with_if_match_refuses_what_does_not_name_the_current_version(
    client: httpx.AsyncClient, store: Store, tag: str, text: str
) -> None:
    await put(client, PATIENT)
    request = body(CHANGED)
    request["headers"]["If-Match"] = tag
    response = await client.put("Patient/p1", **request)
    assert_outcome(response, 412, "conflict", text, "http.If-Match")
    assert len(await stored_versions(store)) == 1


async def test_with_if_match_refuses_to_create(client: httpx.AsyncClient, store: Store) -> None:
    request = body(PATIENT)
    request["headers"]["If-Match"] = 'W/"1"'
    response = await client.put("Patient/p1", **request)
    assert_outcome(response, 412, "conflict", "the resource is not there", "http.If-Match")
    assert not await stored_versions(store)


async def test_of_many_who_saw_the_same_version_one_writes(
    client: httpx.AsyncClient, store: Store
) -> None:
    await put(client, PATIENT)
    request = body(CHANGED)
    request["headers"]["If-Match"] = 'W/"1"'
    answers = await asyncio.gather(*(client.put("Patient/p1", **request) for _ in range(20)))
    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 19
    assert len(await stored_versions(store)) == 2


async def test_returns_no_body_when_minimal_is_preferred(client: httpx.AsyncClient) -> None:
    request = body(PATIENT)
    request["headers"]["Prefer"] = "return=minimal"
    response = await client.put("Patient/p1", **request)
    assert (response.status_code, response.content) == (201, b"")


async def test_time_moves_on_with_every_version(client: httpx.AsyncClient) -> None:
    changes = [{**PATIENT, "active": bool(number % 2)} for number in range(5)]
    times = [(await put(client, change))["meta"]["lastUpdated"] for change in changes]
    assert times == sorted(set(times))


async def test_an_update_that_changes_nothing_makes_no_version(
    client: httpx.AsyncClient, store: Store
) -> None:
    first = await put(client, PATIENT)
    response = await client.put("Patient/p1", **body(dict(reversed(PATIENT.items()))))
    assert (response.status_code, response.headers["etag"]) == (200, 'W/"1"')
    assert response.json() == first
    # What the client read, with the version and time that the server gave it.
    assert (await client.put("Patient/p1", **body(first))).headers["etag"] == 'W/"1"'
    assert len(await stored_versions(store)) == 1


@pytest.mark.parametrize("tag", ["*", 'W/"1"', 'W/"7", W/"1"'])
async def test_with_if_none_match_does_not_write_over_what_it_names(
    client: httpx.AsyncClient, store: Store, tag: str
) -> None:
    request = body(PATIENT)
    request["headers"]["If-None-Match"] = tag
    assert (await client.put("Patient/p1", **request)).status_code == 201
    response = await client.put("Patient/p1", **request)
    assert_outcome(response, 412, "conflict", "version 1 is there", "http.If-None-Match")
    assert len(await stored_versions(store)) == 1


async def test_one_version_is_asked_for_not_two(client: httpx.AsyncClient, store: Store) -> None:
    await put(client, PATIENT)
    request = body(CHANGED)
    tags = [("If-Match", 'W/"7"'), ("If-Match", 'W/"1"')]
    response = await client.put(
        "Patient/p1", content=request["content"], headers=[*request["headers"].items(), *tags]
    )
    assert_outcome(response, 400, "invalid", "If-Match stands twice", "http.If-Match")
    assert len(await stored_versions(store)) == 1
