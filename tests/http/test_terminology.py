"""Codes that are looked up in a search: https://hl7.org/fhir/R4/search.html#modifiers."""

from typing import Any

import httpx
import pytest

from fhir_server.app import create_app
from fhir_server.settings import Settings
from tests.support import assert_outcome, found_ids, put

TREE: dict[str, Any] = {
    "resourceType": "CodeSystem",
    "id": "tree",
    "url": "http://tree",
    "status": "active",
    "content": "complete",
    "concept": [{"code": "animal", "concept": [{"code": "dog"}, {"code": "cat"}]}],
}
PETS: dict[str, Any] = {
    "resourceType": "ValueSet",
    "id": "pets",
    "url": "http://vs/pets",
    "status": "active",
    "compose": {
        "include": [
            {
                "system": "http://tree",
                "filter": [{"property": "concept", "op": "is-a", "value": "animal"}],
            }
        ]
    },
}


def condition(resource_id: str, code: str) -> dict[str, Any]:
    return {
        "resourceType": "Condition",
        "id": resource_id,
        "code": {"coding": [{"system": "http://tree", "code": code}]},
        "subject": {"reference": "Patient/p"},
    }


async def all_ids(client: httpx.AsyncClient, search: str) -> list[str]:
    """The ids on all pages, each asked for by the link on the one before."""
    found, address = [], search
    while address:
        bundle = (await client.get(address)).json()
        found += [entry["resource"]["id"] for entry in bundle["entry"]]
        address = next((one["url"] for one in bundle["link"] if one["relation"] == "next"), "")
    return found


@pytest.fixture
async def stocked(client: httpx.AsyncClient) -> httpx.AsyncClient:
    resources = [TREE, PETS, *(condition(f"c{n}", "dog") for n in range(3)), condition("x", "tree")]
    for resource in resources:
        await put(client, resource)
    return client


async def test_finds_by_a_value_set_and_a_hierarchy_page_by_page(
    stocked: httpx.AsyncClient,
) -> None:
    expected = ["c0", "c1", "c2"]
    for search in (
        "Condition?code:in=http://vs/pets",
        "Condition?code:in=ValueSet/pets",
        "Condition?code:below=http://tree|animal",
        "Condition?code:above=http://tree|dog",
    ):
        assert sorted(await all_ids(stocked, f"{search}&_count=2")) == expected, search
    assert await found_ids(stocked, "Condition?code:not-in=http://vs/pets") == ["x"]


async def test_a_filter_asks_the_same(stocked: httpx.AsyncClient) -> None:
    """https://hl7.org/fhir/R4/search_filter.html"""
    expected = ["c0", "c1", "c2"]
    for test in (
        'code in "http://vs/pets"',
        "code ss http://tree|animal",
        "code sb http://tree|dog",
    ):
        found = await stocked.get("Condition", params={"_filter": test})
        assert found.status_code == 200, found.text
        assert sorted(one["resource"]["id"] for one in found.json()["entry"]) == expected, test
    response = await stocked.get("Condition", params={"_filter": "code in http://vs/no"})
    assert_outcome(response, 400, "not-found", "'http://vs/no' is not known", "http._filter")


async def test_counts_by_a_value_set(stocked: httpx.AsyncClient) -> None:
    response = await stocked.get("Condition?code:in=http://vs/pets&_summary=count")
    assert response.json()["total"] == 3


async def test_searches_several_types_by_a_value_set(stocked: httpx.AsyncClient) -> None:
    response = await stocked.get("?_type=Condition,Patient&_tag:in=http://vs/pets&_total=accurate")
    assert response.json()["total"] == 0


@pytest.mark.parametrize(
    ("search", "status", "code", "says", "place"),
    [
        ("code:in=http://vs/no", 400, "not-found", "'http://vs/no' is not known", "code:in"),
        ("code:in=ValueSet/no", 400, "not-found", "'ValueSet/no' is not known", "code:in"),
        ("code:not-in=http://vs/no", 400, "not-found", "'http://vs/no'", "code:not-in"),
        ("code:below=http://no|x", 400, "not-found", "'http://no' is not known", "code:below"),
        ("code:above=http://tree|x", 400, "code-invalid", "'x' is not a code of", "code:above"),
        ("subject.gender:in=http://vs/no", 400, "not-found", "'http://vs/no'", "subject.gender:in"),
        ("code:in=pets", 400, "invalid", "ValueSet/id", "code:in"),
    ],
)
async def test_refuses_what_is_not_known_and_says_where(
    stocked: httpx.AsyncClient, search: str, status: int, code: str, says: str, place: str
) -> None:
    response = await stocked.get(f"Condition?{search}")
    assert_outcome(response, status, code, says, f"http.{place}")


async def test_an_unknown_value_set_is_refused_under_lenient_handling_too(
    stocked: httpx.AsyncClient,
) -> None:
    """The parameter is understood; without it, the search would find too much."""
    response = await stocked.get(
        "Condition?code:in=http://vs/no", headers={"prefer": "handling=lenient"}
    )
    assert_outcome(response, 400, "not-found", "'http://vs/no' is not known")


async def test_a_deleted_value_set_is_not_known(stocked: httpx.AsyncClient) -> None:
    await stocked.delete("ValueSet/pets")
    for url in ("http://vs/pets", "ValueSet/pets"):
        response = await stocked.get(f"Condition?code:in={url}")
        assert_outcome(response, 400, "not-found", f"'{url}' is not known", "http.code:in")


async def test_a_condition_may_be_about_a_value_set(stocked: httpx.AsyncClient) -> None:
    response = await stocked.delete("Condition?code:not-in=http://vs/pets")
    assert response.status_code == 204
    assert await found_ids(stocked, "Condition?code:not-in=http://vs/pets") == []
    response = await stocked.post(
        "Condition",
        json=condition("new", "dog"),
        headers={"if-none-exist": "code:in=http://vs/no"},
    )
    assert_outcome(response, 400, "not-found", "'http://vs/no' is not known")


async def test_a_value_set_that_is_written_in_a_transaction_counts_in_it(
    stocked: httpx.AsyncClient,
) -> None:
    """What a commit reads, it reads with its own writes."""
    cats = {**PETS, "id": "cats", "url": "http://vs/cats"}
    put_cats = {"resource": cats, "request": {"method": "PUT", "url": "ValueSet/cats"}}
    search = {"request": {"method": "GET", "url": "Condition?code:in=http://vs/cats"}}
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [put_cats, search]}
    response = await stocked.post("", json=bundle)
    assert response.status_code == 200, response.text
    assert len(response.json()["entry"][1]["resource"]["entry"]) == 3


async def test_too_many_codes_are_refused(settings: Settings) -> None:
    few = settings.model_copy(update={"max_codes": 2})
    app = create_app(few)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url=few.base + "/") as client:
            await put(client, TREE)
            await put(client, PETS)
            response = await client.get("Condition?code:in=http://vs/pets")
            assert_outcome(response, 403, "too-costly", "more than 2 codes", "http.code:in")


async def test_finds_locations_near_a_place(client: httpx.AsyncClient) -> None:
    for name, latitude in (("near", 51.5), ("far", 52.5)):
        position = {"latitude": latitude, "longitude": -0.1}
        await put(client, {"resourceType": "Location", "id": name, "position": position})
    assert await found_ids(client, "Location?near=51.51|-0.1") == ["near"]
    assert await all_ids(client, "Location?near=51.51|-0.1|120|km&_count=1") == ["near", "far"]
    response = await client.get("Location?near=51.51|-0.1|1|league")
    assert_outcome(response, 400, "invalid", "'league' is not a unit of length", "http.near")
