"""read: https://hl7.org/fhir/R4/http.html#read"""

import httpx
import pytest

from tests.support import assert_outcome, body, create, exact

PATIENT = {"resourceType": "Patient", "name": [{"family": "Synthetic-Reader"}]}


async def test_returns_the_resource_with_its_etag_and_last_modified(
    client: httpx.AsyncClient,
) -> None:
    created = await create(client, PATIENT)
    response = await client.get(f"Patient/{created['id']}")
    assert response.status_code == 200
    assert response.headers["etag"] == 'W/"1"'
    assert response.headers["last-modified"].endswith(" GMT")
    assert response.headers["content-type"] == "application/fhir+json; charset=utf-8"
    assert exact(response) == created


async def test_is_never_kept_by_a_cache_in_between(client: httpx.AsyncClient) -> None:
    created = await create(client, PATIENT)
    response = await client.get(f"Patient/{created['id']}")
    assert response.headers["cache-control"] == "private, no-cache"


async def test_returns_not_found_on_an_id_that_never_was(client: httpx.AsyncClient) -> None:
    response = await client.get("Patient/nobody")
    assert_outcome(response, 404, "not-found", "Patient/nobody is not known")


async def test_returns_not_found_on_the_id_of_another_type(client: httpx.AsyncClient) -> None:
    created = await create(client, PATIENT)
    response = await client.get(f"Practitioner/{created['id']}")
    assert_outcome(response, 404, "not-found", "is not known")


async def test_returns_gone_on_a_deleted_resource(client: httpx.AsyncClient) -> None:
    created = await create(client, PATIENT)
    await client.delete(f"Patient/{created['id']}")
    response = await client.get(f"Patient/{created['id']}")
    assert_outcome(response, 410, "deleted", "was deleted")


@pytest.mark.parametrize("held", ['W/"1"', '"1"', '"7", W/"1"', "*"])
async def test_returns_not_modified_to_who_has_the_current_version(
    client: httpx.AsyncClient, held: str
) -> None:
    created = await create(client, PATIENT)
    response = await client.get(f"Patient/{created['id']}", headers={"If-None-Match": held})
    assert response.status_code == 304
    assert response.content == b""
    assert response.headers["etag"] == 'W/"1"'


async def test_returns_the_resource_to_who_has_an_older_version(client: httpx.AsyncClient) -> None:
    created = await create(client, PATIENT)
    address = f"Patient/{created['id']}"
    await client.put(address, **body({**PATIENT, "id": created["id"], "active": True}))
    response = await client.get(address, headers={"If-None-Match": 'W/"1"'})
    assert response.status_code == 200
    assert response.json()["active"] is True


async def test_head_answers_as_get_without_the_body(client: httpx.AsyncClient) -> None:
    created = await create(client, PATIENT)
    address = f"Patient/{created['id']}"
    read, head = await client.get(address), await client.head(address)
    assert head.status_code == 200
    assert head.content == b""
    for name in ("etag", "last-modified", "content-type", "content-length"):
        assert head.headers[name] == read.headers[name]


async def test_head_on_an_unknown_id_is_not_found_without_a_body(
    client: httpx.AsyncClient,
) -> None:
    head = await client.head("Patient/nobody")
    assert head.status_code == 404
    assert head.content == b""


async def test_pretty_breaks_lines_and_keeps_the_content(client: httpx.AsyncClient) -> None:
    created = await create(client, PATIENT)
    response = await client.get(f"Patient/{created['id']}?_pretty=true")
    assert b"\n  " in response.content
    assert exact(response) == created


@pytest.mark.parametrize(
    "accept",
    [
        "application/fhir+json",
        "application/json",
        "*/*",
        "application/xml;q=0.9, application/fhir+json;q=0.1",
        "application/fhir+json; fhirVersion=4.0",
    ],
)
async def test_answers_in_json_to_whoever_takes_it(client: httpx.AsyncClient, accept: str) -> None:
    created = await create(client, PATIENT)
    response = await client.get(f"Patient/{created['id']}", headers={"Accept": accept})
    assert response.status_code == 200


async def test_format_goes_before_accept(client: httpx.AsyncClient) -> None:
    created = await create(client, PATIENT)
    response = await client.get(
        f"Patient/{created['id']}?_format=json", headers={"Accept": "application/fhir+xml"}
    )
    assert response.status_code == 200
