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
    assert_outcome(response, 400, "invalid", "_since, _at, _summary", "http._sort")


async def test_refuses_the_page_of_another_resource(client: httpx.AsyncClient) -> None:
    await _life(client)
    await put(client, {**PATIENT, "id": "p2"})
    bundle = (await client.get("Patient/p1/_history?_count=1")).json()
    token = next(link["url"] for link in bundle["link"] if link["relation"] == "next")
    response = await client.get(token.replace("/p1/", "/p2/"))
    assert_outcome(response, 400, "invalid", "was given for Patient/p1/_history", "http._page")


async def test_of_a_type_and_of_everything_goes_across_resources(
    client: httpx.AsyncClient,
) -> None:
    await _life(client)
    await put(client, {"resourceType": "Basic", "id": "b1", "code": {"text": "x"}})
    of_type = (await client.get("Patient/_history")).json()
    assert [tag for _, _, tag in _told(of_type)] == ['W/"4"', 'W/"3"', 'W/"2"', 'W/"1"']
    everything = (await client.get("_history")).json()
    assert everything["entry"][0]["request"]["url"] == "Basic/b1"
    assert len(everything["entry"]) == 5
    assert not (await client.get("Goal/_history")).json().get("entry")


@pytest.mark.parametrize("address", ["_history", "Patient/_history", "Patient/p1/_history"])
async def test_pages_hold_each_version_once_while_others_are_written(
    client: httpx.AsyncClient, address: str
) -> None:
    await _life(client)
    told: list[tuple[str, str, str]] = []
    url = f"{address}?_count=2"
    while url:
        bundle = (await client.get(url)).json()
        told += _told(bundle)
        await put(client, {**PATIENT, "id": "p2"})
        links = {link["relation"]: link["url"] for link in bundle["link"]}
        url = links.get("next", "")
    assert [tag for _, _, tag in told] == ['W/"4"', 'W/"3"', 'W/"2"', 'W/"1"']


async def test_since_and_at_choose_by_time(client: httpx.AsyncClient) -> None:
    await _life(client)
    history = (await client.get("Patient/p1/_history")).json()
    times = [entry["response"]["lastModified"] for entry in history["entry"]]
    since = await client.get("Patient/p1/_history", params={"_since": times[1]})
    assert [tag for _, _, tag in _told(since.json())] == ['W/"4"', 'W/"3"']
    at = await client.get("Patient/_history", params={"_at": times[2]})
    assert [tag for _, _, tag in _told(at.json())] == ['W/"2"']
    assert not _told((await client.get("_history?_at=1999")).json())
    for name in ("_since", "_at"):
        refused = await client.get(f"_history?{name}=yesterday")
        assert_outcome(refused, 400, "invalid", "'yesterday' is not a time", f"http.{name}")


@pytest.mark.parametrize(
    ("name", "values"), [("_count", ("1", "2")), ("_since", ("2026", "2027")), ("_at", ("2", "3"))]
)
async def test_of_two_that_cannot_both_hold_none_is_dropped(
    client: httpx.AsyncClient, name: str, values: tuple[str, str]
) -> None:
    refused = await client.get("_history", params={name: list(values)})
    assert_outcome(refused, 400, "invalid", f"'{name}' stands twice", f"http.{name}")
