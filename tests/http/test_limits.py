"""Bounds on a request: each is a setting, and what is beyond says what is allowed.

https://hl7.org/fhir/R4/http.html#Status-Codes, https://hl7.org/fhir/R4/security.html
"""

import json
from typing import Any

import httpx
import pytest

from fhir_server.settings import Settings
from fhir_server.storage.interface import Store
from tests.http.serving import served
from tests.support import assert_outcome, body, create, stored_versions

JSON_PATCH = {"content-type": "application/json-patch+json"}


def _nested(levels: int) -> dict[str, Any]:
    item: dict[str, Any] = {"linkId": "0", "type": "string"}
    for number in range(1, levels):
        item = {"linkId": str(number), "type": "group", "item": [item]}
    return {"resourceType": "Questionnaire", "status": "draft", "item": [item]}


async def test_an_address_may_be_as_long_as_the_setting_says(settings: Settings) -> None:
    async with served(settings, max_url=300) as client:
        assert (await client.get("Patient?family=" + "x" * 280)).status_code == 200
        refused = await client.get("Patient?family=" + "x" * 300)
        assert_outcome(refused, 414, "too-long", "300 bytes are allowed")


async def test_headers_may_be_as_many_as_the_setting_says(settings: Settings) -> None:
    async with served(settings, max_headers=12) as client:
        few = {f"x-{number}": "x" for number in range(7)}
        assert (await client.get("metadata", headers=few)).status_code == 200
        many = {f"x-{number}": "x" for number in range(12)}
        refused = await client.get("metadata", headers=many)
        assert_outcome(refused, 431, "too-long", "12 are allowed")


async def test_headers_may_be_as_large_as_the_setting_says(settings: Settings) -> None:
    async with served(settings, max_header_bytes=1024) as client:
        assert (await client.get("metadata", headers={"x-long": "x" * 800})).status_code == 200
        refused = await client.get("metadata", headers={"x-long": "x" * 1024})
        assert_outcome(refused, 431, "too-long", "1024 bytes are allowed")


@pytest.mark.parametrize("form", [False, True])
async def test_parameters_may_be_as_many_as_the_setting_says(
    settings: Settings, form: bool
) -> None:
    async def asked(client: httpx.AsyncClient, number: int) -> httpx.Response:
        query = "&".join(["family=x"] * number)
        if not form:
            return await client.get(f"Patient?{query}")
        headers = {"content-type": "application/x-www-form-urlencoded"}
        return await client.post("Patient/_search", content=query, headers=headers)

    async with served(settings, max_parameters=4) as client:
        assert (await asked(client, 4)).status_code == 200
        assert_outcome(await asked(client, 5), 403, "too-costly", "4 are allowed")


async def test_a_search_may_have_as_many_values_as_the_setting_says(settings: Settings) -> None:
    async with served(settings, max_values=3) as client:
        assert (await client.get("Patient?family=a,b&given=c")).status_code == 200
        refused = await client.get("Patient?family=a,b&given=c,d")
        assert_outcome(refused, 403, "too-costly", "3 are allowed", "http.given")


async def test_ids_of_lists_are_values_too(settings: Settings) -> None:
    async with served(settings, max_values=3) as client:
        assert (await client.get("Patient?_list=a,b,c")).status_code == 200
        refused = await client.get("Patient?_list=a,b,c,d")
        assert_outcome(refused, 403, "too-costly", "3 are allowed", "http._list")


async def test_a_condition_has_the_bounds_of_a_search(settings: Settings) -> None:
    async with served(settings, max_values=3) as client:
        patient = body({"resourceType": "Patient"})
        patient["headers"]["If-None-Exist"] = "identifier=a,b,c,d"
        refused = await client.post("Patient", **patient)
        assert_outcome(refused, 403, "too-costly", "3 are allowed", "http.identifier")


async def test_an_order_has_few_keys(client: httpx.AsyncClient) -> None:
    assert (await client.get("Patient?_sort=" + ",".join(["-_id"] * 10))).status_code == 200
    refused = await client.get("Patient?_sort=" + ",".join(["-_id"] * 11))
    assert_outcome(refused, 403, "too-costly", "10 are allowed", "http._sort")


@pytest.mark.parametrize("form", ["json", "xml"])
async def test_a_body_may_be_as_deep_as_the_setting_says(settings: Settings, form: str) -> None:
    async with served(settings, max_depth=12) as client:
        # The resource is a level; each item is two, its array and itself.
        for levels, status in ((5, 201), (6, 400)):
            content, media = await _written(client, _nested(levels), form)
            headers = {"content-type": media}
            answer = await client.post("Questionnaire", content=content, headers=headers)
            assert answer.status_code == status, answer.text
        assert_outcome(answer, 400, "structure", "nested deeper than 12 levels")


async def _written(
    client: httpx.AsyncClient, resource: dict[str, Any], form: str
) -> tuple[bytes, str]:
    if form == "json":
        return json.dumps(resource).encode(), "application/fhir+json"
    from fhir_server.fhir import xml

    del client
    return xml.encode(resource), "application/fhir+xml"


async def test_a_patch_may_have_as_many_operations_as_the_setting_says(
    settings: Settings,
) -> None:
    async with served(settings, max_patch=2) as client:
        patient = await create(client, {"resourceType": "Patient", "active": True})
        address = f"Patient/{patient['id']}"
        test = {"op": "test", "path": "/active", "value": True}
        good = await client.patch(address, content=json.dumps([test] * 2), headers=JSON_PATCH)
        assert good.status_code == 200
        refused = await client.patch(address, content=json.dumps([test] * 3), headers=JSON_PATCH)
        assert_outcome(refused, 403, "too-costly", "2 are allowed")
        step = {
            "name": "operation",
            "part": [
                {"name": "type", "valueCode": "delete"},
                {"name": "path", "valueString": "Patient.gender"},
            ],
        }
        told = {"resourceType": "Parameters", "parameter": [step] * 3}
        assert_outcome(
            await client.patch(address, **body(told)), 403, "too-costly", "2 are allowed"
        )


async def test_what_is_beyond_a_bound_stores_nothing(
    client: httpx.AsyncClient, store: Store
) -> None:
    patient = body({"resourceType": "Patient"})
    patient["headers"]["x-long"] = "x" * 40_000
    assert (await client.post("Patient", **patient)).status_code == 431
    assert (await client.post("Patient", **body(_nested(60)))).status_code == 400
    assert await stored_versions(store) == []
