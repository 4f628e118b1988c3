"""Contained resources: https://hl7.org/fhir/R4/search.html#contained."""

from typing import Any

import httpx
import pytest

from fhir_server.interactions import contained
from tests.support import assert_outcome, found_ids, put


def organization(resource_id: str, name: str) -> dict[str, Any]:
    return {"resourceType": "Organization", "id": resource_id, "name": name, "active": True}


def patient(resource_id: str, *contained: dict[str, Any]) -> dict[str, Any]:
    """One that refers to what it contains, as it must."""
    links = [{"reference": f"#{one['id']}"} for one in contained]
    within = {"contained": list(contained), "generalPractitioner": links} if contained else {}
    return {"resourceType": "Patient", "id": resource_id, **within, "gender": "female"}


@pytest.fixture
async def stocked(client: httpx.AsyncClient) -> httpx.AsyncClient:
    await put(client, organization("alone", "Ash Surgery"))
    await put(client, patient("one", organization("gp", "Ash Surgery")))
    two = (organization("gp", "Elm Surgery"), organization("school", "Ash School"))
    await put(client, patient("two", *two))
    await put(client, patient("none"))
    return client


async def full_urls(client: httpx.AsyncClient, search: str) -> list[str]:
    """On all pages, without the base, by the links from one to the next."""
    found, address = [], search
    while address:
        response = await client.get(address)
        assert response.status_code == 200, response.text
        found += [entry["fullUrl"] for entry in response.json().get("entry", ())]
        links = response.json()["link"]
        address = next((one["url"] for one in links if one["relation"] == "next"), "")
    return sorted(url.partition("/fhir/")[2] for url in found)


@pytest.mark.parametrize(
    ("search", "finds"),
    [
        ("name=ash", ["Organization/alone"]),
        ("name=ash&_contained=false", ["Organization/alone"]),
        ("name=ash&_contained=true", ["Patient/one", "Patient/two"]),
        ("name=ash&_contained=both", ["Organization/alone", "Patient/one", "Patient/two"]),
        ("_contained=true", ["Patient/one", "Patient/two"]),
        ("name=elm&_contained=both", ["Patient/two"]),
        ("name=ash+school&_contained=true", ["Patient/two"]),
        ("_id=gp&_contained=true", ["Patient/one", "Patient/two"]),
        ("_id=school&name=elm&_contained=true", []),
        ("_id=alone&_contained=both", ["Organization/alone"]),
        ("name:missing=true&_contained=both", []),
        ("_lastUpdated=gt2000&_contained=true", []),
        ("_has:Patient:general-practitioner:gender=female&_contained=true", []),
        (
            "name=ash&_contained=true&_containedType=contained",
            ["Patient/one#gp", "Patient/two#school"],
        ),
        (
            "name=surgery,ash&_contained=both&_containedType=contained",
            ["Organization/alone", "Patient/one#gp", "Patient/two#school"],
        ),
        (
            "_contained=true&_containedType=contained",
            ["Patient/one#gp", "Patient/two#gp", "Patient/two#school"],
        ),
        ("name=ash&_contained=true&_containedType=container", ["Patient/one", "Patient/two"]),
    ],
)
@pytest.mark.parametrize("count", [1, 50])
async def test_finds_contained_resources(
    stocked: httpx.AsyncClient, search: str, finds: list[str], count: int
) -> None:
    assert await full_urls(stocked, f"Organization?{search}&_count={count}") == finds


async def test_shows_the_contained_resource_by_itself(stocked: httpx.AsyncClient) -> None:
    search = "Organization?name=elm&_contained=true&_containedType=contained"
    (entry,) = (await stocked.get(search)).json()["entry"]
    assert entry["fullUrl"].endswith("/fhir/Patient/two#gp")
    assert entry["search"] == {"mode": "match"}
    assert entry["resource"] == organization("gp", "Elm Surgery")


async def test_a_page_of_very_many_is_refused(
    stocked: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contained, "_MOST", 1)
    search = "Organization?_contained=true&_containedType=contained"
    refused = await stocked.get(search)
    assert_outcome(refused, 403, "too-costly", "ask for fewer", "http._containedType")
    assert (await stocked.get(f"{search}&_count=1")).status_code == 200


async def test_counts_containers(stocked: httpx.AsyncClient) -> None:
    response = await stocked.get("Organization?_contained=both&_summary=count")
    assert response.json()["total"] == 3


async def test_sorts_by_the_id_of_what_is_found(stocked: httpx.AsyncClient) -> None:
    search = "Organization?_contained=both&_sort=-_id"
    assert await found_ids(stocked, search) == ["two", "one", "alone"]


async def test_what_is_no_longer_contained_is_not_found(stocked: httpx.AsyncClient) -> None:
    await put(stocked, patient("one"))
    await stocked.delete("Patient/two")
    assert await full_urls(stocked, "Organization?_contained=true") == []
    await put(stocked, patient("two", organization("gp", "Oak Surgery")))
    assert await found_ids(stocked, "Organization?name=oak&_contained=true") == ["two"]
    assert await full_urls(stocked, "Organization?name=elm&_contained=true") == []


async def test_an_id_within_a_resource_is_not_one_on_the_server(
    stocked: httpx.AsyncClient,
) -> None:
    """`Organization/gp` does not exist, although two resources contain a `gp`."""
    await put(
        stocked,
        {
            "resourceType": "Patient",
            "id": "deceived",
            "managingOrganization": {"reference": "Organization/gp"},
        },
    )
    assert await full_urls(stocked, "Patient?organization.name=ash") == []
    search = "Organization?_has:Patient:organization:_id=deceived&_contained=true"
    assert await full_urls(stocked, search) == []
    assert await full_urls(stocked, "Organization?_id=gp") == []


async def test_finds_contained_resources_by_value_sets_and_chains(
    stocked: httpx.AsyncClient,
) -> None:
    codes = [{"system": "http://s", "concept": [{"code": "school"}]}]
    kinds = {"url": "http://vs", "status": "active", "compose": {"include": codes}}
    await put(stocked, {"resourceType": "ValueSet", "id": "kinds", **kinds})
    school = organization("school", "Oak School")
    school["type"] = [{"coding": [{"system": "http://s", "code": "school"}]}]
    school["partOf"] = {"reference": "Organization/alone"}
    await put(stocked, patient("three", school, organization("gp", "Oak Surgery")))
    for search in ("type:in=http://vs", "partof:Organization.name=ash"):
        address = f"Organization?{search}&_contained=true"
        assert await full_urls(stocked, address) == ["Patient/three"]
        address += "&_containedType=contained"
        assert await full_urls(stocked, address) == ["Patient/three#school"]


async def test_chains_of_many_possible_types_are_not_followed_from_there(
    client: httpx.AsyncClient,
) -> None:
    response = await client.get("Observation?focus.name=x&_contained=true")
    assert_outcome(response, 403, "too-costly", "name the types", "http._contained")


async def test_searches_within_a_compartment(stocked: httpx.AsyncClient) -> None:
    result = {"resourceType": "Observation", "id": "o", "status": "final", "code": {"text": "x"}}
    for name in ("one", "two"):
        report = {
            "resourceType": "DiagnosticReport",
            "id": name,
            "contained": [result],
            "status": "final",
            "code": {"text": "x"},
            "subject": {"reference": f"Patient/{name}"},
            "result": [{"reference": "#o"}],
        }
        await put(stocked, report)
    search = "Patient/one/Observation?status=final&_contained=true"
    assert await full_urls(stocked, search) == ["DiagnosticReport/one"]


@pytest.mark.parametrize(
    ("search", "code", "says", "place"),
    [
        ("Organization?_contained=yes", "invalid", "false, true or both", "_contained"),
        ("Organization?_contained:not=true", "not-supported", "no modifier", "_contained:not"),
        ("Organization?_containedType=x", "invalid", "container or contained", "_containedType"),
        (
            "?_type=Organization,Patient&_contained=true",
            "invalid",
            "takes false where several types",
            "_contained",
        ),
        ("Organization?_contained=true&_content=x", "not-supported", "whole", "_contained"),
        ("Organization?_contained=both&_sort=name", "invalid", "_id and _lastUpdated", "_sort"),
        (
            "Organization?_contained=true&_containedType=contained&_total=accurate",
            "not-supported",
            "not counted",
            "_containedType",
        ),
    ],
)
async def test_refuses_what_has_no_meaning(
    client: httpx.AsyncClient, search: str, code: str, says: str, place: str
) -> None:
    assert_outcome(await client.get(search), 400, code, says, f"http.{place}")
