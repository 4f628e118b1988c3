"""vread: https://hl7.org/fhir/R4/http.html#vread"""

import httpx
import pytest

from tests.support import assert_outcome, create, exact, put

PATIENT = {
    "resourceType": "Patient",
    "name": [{"family": "Synthetic-Version"}],
}


async def test_returns_each_version_as_it_was_then(client: httpx.AsyncClient) -> None:
    first = await create(client, PATIENT)
    second = await put(client, {**PATIENT, "id": first["id"], "active": True})
    address = f"Patient/{first['id']}/_history"
    old, new = await client.get(f"{address}/1"), await client.get(f"{address}/2")
    assert (exact(old), old.headers["etag"]) == (first, 'W/"1"')
    assert (exact(new), new.headers["etag"]) == (second, 'W/"2"')


async def test_returns_a_version_from_before_the_deletion(client: httpx.AsyncClient) -> None:
    created = await create(client, PATIENT)
    await client.delete(f"Patient/{created['id']}")
    response = await client.get(f"Patient/{created['id']}/_history/1")
    assert exact(response) == created


async def test_returns_gone_on_the_version_that_is_the_deletion(client: httpx.AsyncClient) -> None:
    created = await create(client, PATIENT)
    await client.delete(f"Patient/{created['id']}")
    response = await client.get(f"Patient/{created['id']}/_history/2")
    assert_outcome(response, 410, "deleted", "_history/2 is a deletion")


@pytest.mark.parametrize("version", ["2", "0", "-1", "abc", "9" * 30, "1.0", "²"])
async def test_returns_not_found_on_a_version_that_never_was(
    client: httpx.AsyncClient, version: str
) -> None:
    created = await create(client, PATIENT)
    response = await client.get(f"Patient/{created['id']}/_history/{version}")
    assert_outcome(response, 404, "not-found", "is not known")


async def test_returns_not_modified_to_who_has_that_version(client: httpx.AsyncClient) -> None:
    created = await create(client, PATIENT)
    response = await client.get(
        f"Patient/{created['id']}/_history/1", headers={"If-None-Match": 'W/"1"'}
    )
    assert response.status_code == 304
