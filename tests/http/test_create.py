"""create: https://hl7.org/fhir/R4/http.html#create, conditional: #ccreate"""

import asyncio

import httpx
import pytest

from fhir_server.settings import Settings
from fhir_server.storage.interface import Store
from tests.support import assert_outcome, body, create, exact, found_ids, stored_versions

NHS_NUMBER = {"system": "https://fhir.nhs.uk/Id/nhs-number", "value": "9990000018"}
CRITERIA = f"identifier={NHS_NUMBER['system']}|{NHS_NUMBER['value']}"
PATIENT = {
    "resourceType": "Patient",
    "identifier": [NHS_NUMBER],
    "name": [{"family": "Synthetic-Created"}],
}


async def test_returns_created_with_the_address_of_the_version(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    response = await client.post("Patient", **body(PATIENT))
    created = exact(response)
    assert response.status_code == 201
    assert response.headers["location"] == f"{settings.base}/Patient/{created['id']}/_history/1"
    assert response.headers["etag"] == 'W/"1"'
    assert response.headers["last-modified"].endswith(" GMT")
    assert created["meta"]["versionId"] == "1"
    assert exact(await client.get(response.headers["location"])) == created


async def test_gives_an_id_of_its_own_whatever_the_resource_says(client: httpx.AsyncClient) -> None:
    created = await create(client, {**PATIENT, "id": "mine"})
    assert created["id"] != "mine"
    assert_outcome(await client.get("Patient/mine"), 404, "not-found", "is not known")


async def test_replaces_the_version_and_time_that_the_client_made_up(
    client: httpx.AsyncClient,
) -> None:
    meta = {
        "versionId": "41",
        "lastUpdated": "1999-01-01T00:00:00Z",
        "tag": [{"system": "http://example.org/tags", "code": "kept"}],
    }
    created = await create(client, {**PATIENT, "meta": meta})
    assert created["meta"]["versionId"] == "1"
    assert created["meta"]["lastUpdated"] > "2020"
    assert created["meta"]["tag"] == meta["tag"]


async def test_the_resource_is_found_at_once(client: httpx.AsyncClient) -> None:
    created = await create(client, PATIENT)
    assert await found_ids(client, f"Patient?{CRITERIA}") == [created["id"]]


async def test_with_if_none_exist_creates_where_nothing_matches(client: httpx.AsyncClient) -> None:
    request = body(PATIENT)
    request["headers"]["If-None-Exist"] = CRITERIA
    assert (await client.post("Patient", **request)).status_code == 201


async def test_with_if_none_exist_returns_the_one_that_is_there(
    client: httpx.AsyncClient, store: Store
) -> None:
    created = await create(client, PATIENT)
    request = body({**PATIENT, "active": True})
    request["headers"]["If-None-Exist"] = CRITERIA
    response = await client.post("Patient", **request)
    assert response.status_code == 200
    assert exact(response) == created
    assert response.headers["location"].endswith(f"/Patient/{created['id']}/_history/1")
    assert len(await stored_versions(store)) == 1


async def test_with_if_none_exist_refuses_where_several_match(
    client: httpx.AsyncClient, store: Store
) -> None:
    await create(client, PATIENT)
    await create(client, PATIENT)
    request = body(PATIENT)
    request["headers"]["If-None-Exist"] = CRITERIA
    response = await client.post("Patient", **request)
    assert_outcome(response, 412, "multiple-matches", "More than one Patient", "http.If-None-Exist")
    assert len(await stored_versions(store)) == 2


@pytest.mark.parametrize(
    ("criteria", "text"),
    [
        ("", "no search criteria"),
        ("_count=1", "no meaning in the criteria"),
        ("colour=blue", "'colour' is not a search parameter of Patient"),
        ("birthdate=yesterday", "yesterday"),
    ],
)
async def test_with_if_none_exist_refuses_criteria_that_are_none(
    client: httpx.AsyncClient, store: Store, criteria: str, text: str
) -> None:
    request = body(PATIENT)
    request["headers"]["If-None-Exist"] = criteria
    assert_outcome(await client.post("Patient", **request), 400, "invalid", text)
    assert not await stored_versions(store)


async def test_a_race_of_conditional_creates_makes_one_resource(
    client: httpx.AsyncClient, store: Store
) -> None:
    request = body(PATIENT)
    request["headers"]["If-None-Exist"] = CRITERIA
    answers = await asyncio.gather(*(client.post("Patient", **request) for _ in range(20)))
    assert sorted(answer.status_code for answer in answers) == [200] * 19 + [201]
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len(await stored_versions(store)) == 1


@pytest.mark.parametrize("prefer", ["return=representation", 'return="representation"', ""])
async def test_returns_the_resource_when_it_is_preferred_or_nothing_is(
    client: httpx.AsyncClient, prefer: str
) -> None:
    request = body(PATIENT)
    request["headers"]["Prefer"] = prefer
    assert (await client.post("Patient", **request)).json()["resourceType"] == "Patient"


async def test_returns_no_body_when_minimal_is_preferred(client: httpx.AsyncClient) -> None:
    request = body(PATIENT)
    request["headers"]["Prefer"] = "return=minimal"
    response = await client.post("Patient", **request)
    assert (response.status_code, response.content) == (201, b"")
    assert response.headers["etag"] == 'W/"1"'
    assert (await client.get(response.headers["location"])).status_code == 200


async def test_returns_an_outcome_when_one_is_preferred(client: httpx.AsyncClient) -> None:
    request = body(PATIENT)
    request["headers"]["Prefer"] = "return=OperationOutcome; handling=strict"
    response = await client.post("Patient", **request)
    assert_outcome(response, 201, "informational", "is stored as version 1")


@pytest.mark.parametrize(
    "number",
    [
        "1.10",
        "1.00",
        "123456789.123456789",
        "-0.0",
        "100",
        "0.10000000000000000001",
        "0.0000001",
    ],
)
async def test_keeps_decimals_to_the_digit(client: httpx.AsyncClient, number: str) -> None:
    observation = (
        '{"resourceType":"Observation","status":"final","code":{"text":"weight"},'
        f'"valueQuantity":{{"value":{number}}}}}'
    )
    response = await client.post(
        "Observation", content=observation, headers={"content-type": "application/fhir+json"}
    )
    expected = f'"valueQuantity":{{"value":{number}}}'.encode()
    assert expected in response.content
    address = f"Observation/{response.json()['id']}"
    assert expected in (await client.get(address)).content
    assert expected in (await client.get(f"Observation?_id={response.json()['id']}")).content
    assert expected in (await client.get(f"{address}/_history")).content


@pytest.mark.parametrize(
    "media_type",
    ["application/fhir+json", "application/json", "application/fhir+json; charset=UTF-8"],
)
async def test_takes_json_under_each_of_its_names(
    client: httpx.AsyncClient, media_type: str
) -> None:
    request = body(PATIENT)
    request["headers"]["content-type"] = media_type
    assert (await client.post("Patient", **request)).status_code == 201


async def test_keeps_text_in_any_script(client: httpx.AsyncClient) -> None:
    family = "Ó Súilleabháin 明 🧩 \u202e"
    created = await create(client, {**PATIENT, "name": [{"family": family}]})
    assert created["name"] == [{"family": family}]
    read = await client.get(f"Patient/{created['id']}")
    assert exact(read)["name"] == [{"family": family}]
