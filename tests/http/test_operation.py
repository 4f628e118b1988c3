"""operation: https://hl7.org/fhir/R4/operations.html, https://hl7.org/fhir/R4/parameters.html"""

import json
from typing import Any

import httpx
import pytest

from fhir_server.settings import Settings
from fhir_server.storage.interface import Store
from tests.support import assert_outcome, body, stored_versions


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """With the plug-in package of this test."""
    return settings.model_copy(update={"operations": ("tests.http.plugged",)})


def _parameters(*parameters: dict[str, Any]) -> dict[str, Any]:
    resource: dict[str, Any] = {"resourceType": "Parameters"}
    return body({**resource, "parameter": list(parameters)} if parameters else resource)


def _heard(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    heard: dict[str, Any] = json.loads(response.json()["parameter"][0]["valueString"])
    return heard


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("$echo", ["", ""]),
        ("Patient/$echo", ["Patient", ""]),
        ("Patient/7/$echo", ["Patient", "7"]),
    ],
)
async def test_is_answered_on_each_level_that_its_definition_names(
    client: httpx.AsyncClient, address: str, place: list[str]
) -> None:
    assert _heard(await client.get(address))["at"] == place
    assert _heard(await client.post(address))["at"] == place


@pytest.mark.parametrize(
    "address", ["Practitioner/$echo", "Practitioner/7/$echo", "$mark", "Patient/7/$mark", "$shout"]
)
async def test_is_not_found_where_its_definition_does_not_name_the_place(
    client: httpx.AsyncClient, address: str
) -> None:
    response = await client.post(address, **_parameters())
    assert_outcome(response, 404, "not-found", "There is no operation")


async def test_takes_primitives_from_the_query(client: httpx.AsyncClient) -> None:
    response = await client.get("$echo?text=a%20b&count=-3&flag=true&code=x&code=y&_format=json")
    heard = _heard(response)
    assert heard["text"] == ["a b"]
    assert heard["count"] == [-3]
    assert heard["flag"] == [True]
    assert heard["code"] == ["x", "y"]


async def test_takes_values_resources_and_groups_from_a_parameters_resource(
    client: httpx.AsyncClient,
) -> None:
    patient = {"resourceType": "Patient", "active": True}
    response = await client.post(
        "$echo",
        **_parameters(
            {"name": "text", "valueString": "hello"},
            {"name": "who", "valueReference": {"reference": "Patient/7"}},
            {"name": "patient", "resource": patient},
            {"name": "group", "part": [{"name": "text", "valueString": "inner"}]},
        ),
    )
    heard = _heard(response)
    assert heard["who"] == [{"reference": "Patient/7"}]
    assert heard["patient"] == [patient]
    assert heard["group"] == [[{"name": "text", "valueString": "inner"}]]


async def test_takes_its_one_resource_as_the_body(client: httpx.AsyncClient) -> None:
    patient = {"resourceType": "Patient", "active": True}
    assert _heard(await client.post("$echo", **body(patient)))["patient"] == [patient]


async def test_refuses_a_body_of_a_type_that_it_does_not_take(client: httpx.AsyncClient) -> None:
    group = {"resourceType": "Group", "type": "person", "actual": True}
    response = await client.post("$echo", **body(group))
    assert_outcome(response, 400, "invalid", "$echo does not take a Group", "resourceType")


@pytest.mark.parametrize(
    ("parameter", "code", "text", "place"),
    [
        (
            {"name": "colour", "valueString": "blue"},
            "invalid",
            "'colour' is not a parameter of $echo; allowed: text, count",
            "Parameters.parameter[0]",
        ),
        (
            {"name": "count", "valueString": "3"},
            "invalid",
            "'count' is a String; integer is expected",
            "Parameters.parameter[0]",
        ),
        ({"name": "text"}, "invariant", "(inv-1)", "Parameters.parameter[0]"),
        (
            {"name": "patient", "resource": {"resourceType": "Basic", "code": {"text": "x"}}},
            "invalid",
            "'patient' is a Basic; Patient is expected",
            "Parameters.parameter[0]",
        ),
        (
            {"name": "text", "valueString": 5},
            "value",
            "must be a string, not a number",
            "Parameters.parameter[0].value",
        ),
        (
            {"name": "patient", "resource": {"resourceType": "Patient", "colour": "blue"}},
            "structure",
            "colour",
            "Parameters.parameter[0].resource.colour",
        ),
    ],
)
async def test_refuses_parameters_that_its_definition_does_not_have(
    client: httpx.AsyncClient, parameter: dict[str, Any], code: str, text: str, place: str
) -> None:
    response = await client.post("$echo", **_parameters(parameter))
    assert_outcome(response, 400, code, text, place)


@pytest.mark.parametrize(
    ("query", "text", "place"),
    [
        ("colour=blue", "'colour' is not a parameter of $echo", "http.colour"),
        ("flag=yes", "'yes' is not true or false", "http.flag"),
        ("count=1.5", "'1.5' is not a whole number", "http.count"),
        ("count=²", "'²' is not a whole number", "http.count"),
        ("count=--3", "'--3' is not a whole number", "http.count"),
        ("count=" + "9" * 5000, "is not a whole number", "http.count"),
        ("who=Patient/7", "Parameters", "http.who"),
        ("patient=x", "Parameters", "http.patient"),
    ],
)
async def test_refuses_values_in_the_query_that_do_not_fit(
    client: httpx.AsyncClient, query: str, text: str, place: str
) -> None:
    assert_outcome(await client.get(f"$echo?{query}"), 400, "invalid", text, place)


async def test_refuses_more_values_than_are_allowed(client: httpx.AsyncClient) -> None:
    response = await client.get("$echo?text=a&text=b")
    assert_outcome(response, 400, "invalid", "'text' is given 2 times; at most 1 is allowed")


async def test_refuses_to_go_on_without_what_is_required(
    client: httpx.AsyncClient, store: Store
) -> None:
    for request in (_parameters(), {}):
        response = await client.post("Patient/$mark", **request)
        assert_outcome(response, 400, "required", "'reason' is missing", "Parameters.parameter")
    assert not await stored_versions(store)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_that_writes_is_not_carried_out_by_a_method_that_only_reads(
    client: httpx.AsyncClient, store: Store, method: str
) -> None:
    response = await client.request(method, "Patient/$mark?reason=link-prefetch")
    assert response.status_code == 405
    assert response.headers["allow"] == "POST"
    assert not await stored_versions(store)


async def test_writes_through_its_session(client: httpx.AsyncClient) -> None:
    response = await client.post(
        "Patient/$mark", **_parameters({"name": "reason", "valueString": "tried"})
    )
    assert response.status_code == 200
    assert (await client.get("Basic/mark")).json()["code"] == {"text": "marked"}


async def test_that_refuses_leaves_nothing_behind(client: httpx.AsyncClient, store: Store) -> None:
    response = await client.post(
        "Patient/$mark",
        **_parameters(
            {"name": "reason", "valueString": "tried"}, {"name": "fault", "valueCode": "refusal"}
        ),
    )
    assert_outcome(response, 422, "business-rule", "This may not be marked")
    assert not await stored_versions(store)


async def test_that_fails_tells_nothing_of_the_inside(
    client: httpx.AsyncClient, store: Store
) -> None:
    request = _parameters(
        {"name": "reason", "valueString": "tried"}, {"name": "fault", "valueCode": "bug"}
    )
    request["headers"]["X-Request-ID"] = "asked-about"
    response = await client.post("Patient/$mark", **request)
    assert_outcome(response, 500, "exception", "the request id is asked-about")
    assert "secret" not in response.text
    assert not await stored_versions(store)


async def test_in_a_batch_answers_in_its_entry(client: httpx.AsyncClient) -> None:
    entry = {"request": {"method": "GET", "url": "Patient/7/$echo?text=hello"}}
    bundle = {"resourceType": "Bundle", "type": "batch", "entry": [entry]}
    response = await client.post("", **body(bundle))
    answered = response.json()["entry"][0]
    assert answered["response"]["status"] == "200 OK"
    assert answered["resource"]["resourceType"] == "Parameters"


async def test_in_a_transaction_is_refused(client: httpx.AsyncClient) -> None:
    entry = {"request": {"method": "GET", "url": "$echo"}}
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}
    response = await client.post("", **body(bundle))
    text = "operation may not be an entry of a transaction"
    assert_outcome(response, 400, "not-supported", text, "Bundle.entry[0].request")
