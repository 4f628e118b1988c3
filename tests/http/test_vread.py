"""vread: https://hl7.org/fhir/R4/http.html#vread"""

import asyncio

import httpx
import pytest

from fhir_server.access.policy import ClosedPolicy
from fhir_server.settings import Settings, sqlite_path
from fhir_server.storage.sqlite.prune import Retention, prune
from tests.conftest import Restrict
from tests.stores import sqlite_alone
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


@sqlite_alone  # what prunes
async def test_says_of_a_version_that_was_taken_out_that_it_is_not_kept(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    """https://hl7.org/fhir/R4/http.html#vread: 404, with the reason."""
    created = await create(client, PATIENT)
    address = f"Patient/{created['id']}"
    await put(client, {**PATIENT, "id": created["id"], "active": True})
    await client.delete(address)
    everything = Retention(superseded_before=2**60)
    pruned = await asyncio.to_thread(
        prune, sqlite_path(settings.store), everything, lambda _done, _total: None
    )
    assert pruned.versions == 2
    for version in ("1", "2"):
        response = await client.get(f"{address}/_history/{version}")
        assert_outcome(response, 404, "not-found", f"_history/{version} is not kept any more")
    assert_outcome(await client.get(f"{address}/_history/0"), 404, "not-found", "is not known")
    assert_outcome(await client.get(f"{address}/_history/3"), 410, "deleted", "is a deletion")
    assert_outcome(await client.get(address), 410, "deleted", "was deleted")
    history = exact(await client.get(f"{address}/_history"))
    assert [entry["request"]["method"] for entry in history["entry"]] == ["DELETE"]


@sqlite_alone  # what prunes
async def test_who_may_not_see_a_resource_is_not_told_that_it_had_more_versions(
    client: httpx.AsyncClient, settings: Settings, restrict: Restrict
) -> None:
    created = await create(client, PATIENT)
    await put(client, {**PATIENT, "id": created["id"], "active": True})
    everything = Retention(superseded_before=2**60)
    await asyncio.to_thread(
        prune, sqlite_path(settings.store), everything, lambda _done, _total: None
    )
    restrict(ClosedPolicy())
    response = await client.get(f"Patient/{created['id']}/_history/1")
    assert_outcome(response, 404, "not-found", "_history/1 is not known")
