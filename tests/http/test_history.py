"""history of a resource: https://hl7.org/fhir/R4/http.html#history"""

from typing import Any

import httpx
import pytest
from fhir.resources.R4B.bundle import Bundle

from fhir_server.settings import Settings
from tests.support import assert_outcome, body, exact, put

PATIENT = {"resourceType": "Patient", "id": "p1", "name": [{"family": "Synthetic-Aged"}]}


async def _life(client: httpx.AsyncClient) -> None:
    """Created, updated, deleted and created again."""
    await put(client, PATIENT)
    await put(client, {**PATIENT, "active": True})
    await client.delete("Patient/p1")
    await put(client, PATIENT)


def _told(bundle: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [
        (entry["request"]["method"], entry["response"]["status"], entry["response"]["etag"])
        for entry in bundle.get("entry", ())
    ]


async def test_tells_every_version_the_newest_first(client: httpx.AsyncClient) -> None:
    await _life(client)
    response = await client.get("Patient/p1/_history")
    assert response.json()["type"] == "history"
    assert _told(response.json()) == [
        ("PUT", "201", 'W/"4"'),
        ("DELETE", "204", 'W/"3"'),
        ("PUT", "200", 'W/"2"'),
        ("PUT", "201", 'W/"1"'),
    ]
    Bundle.model_validate_json(response.content)


async def test_shows_a_deletion_without_a_resource(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    await _life(client)
    deletion = (await client.get("Patient/p1/_history")).json()["entry"][1]
    assert "resource" not in deletion
    assert deletion["fullUrl"] == f"{settings.base}/Patient/p1"
    assert deletion["request"]["url"] == "Patient/p1"


async def test_a_created_resource_was_posted_to_its_type(client: httpx.AsyncClient) -> None:
    response = await client.post("Patient", **body(PATIENT))
    history = await client.get(f"Patient/{response.json()['id']}/_history")
    assert history.json()["entry"][0]["request"] == {"method": "POST", "url": "Patient"}
    assert exact(history)["entry"][0]["resource"] == exact(response)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
async def test_pages_show_each_version_once(client: httpx.AsyncClient, count: int) -> None:
    await _life(client)
    address: str | None = f"Patient/p1/_history?_count={count}"
    told: list[tuple[str, str, str]] = []
    while address:
        bundle = (await client.get(address)).json()
        assert len(bundle["entry"]) <= count
        told += _told(bundle)
        address = {link["relation"]: link["url"] for link in bundle["link"]}.get("next")
    assert told == _told((await client.get("Patient/p1/_history")).json())


async def test_returns_not_found_on_an_id_that_never_was(client: httpx.AsyncClient) -> None:
    assert_outcome(await client.get("Patient/p1/_history"), 404, "not-found", "is not known")


@pytest.mark.parametrize("count", ["", "-1", "ten", "1.5", "²", "9" * 20])
async def test_refuses_a_page_size_that_is_none(client: httpx.AsyncClient, count: str) -> None:
    await _life(client)
    response = await client.get("Patient/p1/_history", params={"_count": count})
    assert_outcome(response, 400, "invalid", "is not a page size", "http._count")


async def test_refuses_a_parameter_that_it_does_not_know(client: httpx.AsyncClient) -> None:
    await _life(client)
    response = await client.get("Patient/p1/_history?_sort=_lastUpdated")
    assert_outcome(response, 400, "invalid", "_count is", "http._sort")


async def test_refuses_the_page_of_another_resource(client: httpx.AsyncClient) -> None:
    await _life(client)
    await put(client, {**PATIENT, "id": "p2"})
    bundle = (await client.get("Patient/p1/_history?_count=1")).json()
    token = next(link["url"] for link in bundle["link"] if link["relation"] == "next")
    response = await client.get(token.replace("/p1/", "/p2/"))
    assert_outcome(response, 400, "invalid", "was given for Patient/p1/_history", "http._page")
