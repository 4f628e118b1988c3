"""delete: https://hl7.org/fhir/R4/http.html#delete"""

import httpx

from fhir_server.storage.interface import Store
from tests.support import assert_outcome, found_ids, put, stored_versions

PATIENT = {"resourceType": "Patient", "id": "p1", "name": [{"family": "Synthetic-Deleted"}]}


async def test_answers_without_a_body_and_with_the_version_of_the_deletion(
    client: httpx.AsyncClient,
) -> None:
    await put(client, PATIENT)
    response = await client.delete("Patient/p1")
    assert (response.status_code, response.content) == (204, b"")
    assert response.headers["etag"] == 'W/"2"'
    assert "content-length" not in response.headers


async def test_takes_the_resource_out_of_every_search(client: httpx.AsyncClient) -> None:
    await put(client, PATIENT)
    await client.delete("Patient/p1")
    for search in ("_id=p1", "family=Synthetic-Deleted", "family:not=x", "_id:missing=false"):
        response = await client.get(f"Patient?{search}&_total=accurate")
        if response.status_code == 200:
            assert response.json()["total"] == 0, search
            assert "entry" not in response.json()
    assert await found_ids(client, "Patient") == []


async def test_twice_is_done_once(client: httpx.AsyncClient, store: Store) -> None:
    await put(client, PATIENT)
    first, second = await client.delete("Patient/p1"), await client.delete("Patient/p1")
    assert (first.status_code, second.status_code) == (204, 204)
    assert first.headers["etag"] == second.headers["etag"]
    assert len(await stored_versions(store)) == 2


async def test_of_what_never_was_succeeds_and_writes_nothing(
    client: httpx.AsyncClient, store: Store
) -> None:
    """As R4 has it: "or if the resource does not exist at all"."""
    response = await client.delete("Patient/p1")
    assert (response.status_code, response.content) == (204, b"")
    assert not await stored_versions(store)


async def test_with_if_match_refuses_what_is_not_the_current_version(
    client: httpx.AsyncClient, store: Store
) -> None:
    await put(client, PATIENT)
    response = await client.delete("Patient/p1", headers={"If-Match": 'W/"7"'})
    assert_outcome(response, 412, "conflict", "the current version is 1", "http.If-Match")
    assert len(await stored_versions(store)) == 1


async def test_with_if_match_deletes_the_version_that_it_names(client: httpx.AsyncClient) -> None:
    await put(client, PATIENT)
    response = await client.delete("Patient/p1", headers={"If-Match": 'W/"1"'})
    assert response.status_code == 204
