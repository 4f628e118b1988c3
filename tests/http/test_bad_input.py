"""Bad input: https://hl7.org/fhir/R4/http.html#Status-Codes

Each gives its 4xx with an OperationOutcome that names the place and what is allowed, and nothing
is stored.
"""

import httpx
import pytest

from fhir_server.storage.interface import Store
from tests.http.bad import ADDRESSES, BODIES, JSON, METHODS, QUERIES, Bad
from tests.http.bad_headers import HEADERS
from tests.http.bad_searches import SEARCHES
from tests.support import assert_outcome, outcome_issues, put, stored_versions


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(bad, id=f"{chapter}: {bad.name}")
        for chapter, cases in (
            ("body", BODIES),
            ("address", ADDRESSES),
            ("header", HEADERS),
            ("search", SEARCHES),
            ("query", QUERIES),
            ("method", METHODS),
        )
        for bad in cases
    ],
)
async def test_is_refused_with_its_place_and_stores_nothing(
    client: httpx.AsyncClient, store: Store, bad: Bad
) -> None:
    method, url, content, headers = bad.request
    response = await client.request(method, url, content=content, headers=headers)
    assert_outcome(response, bad.status, bad.code, bad.text, bad.expression)
    if bad.status == 405:
        assert f"allowed: {response.headers['allow']}" in response.text
    assert not await stored_versions(store)


async def test_an_unknown_type_is_told_before_its_body_is_read(client: httpx.AsyncClient) -> None:
    response = await client.post("Dragon", content=b"{", headers=JSON)
    assert_outcome(response, 404, "not-found", "'Dragon'")


async def test_every_problem_of_a_resource_is_told(client: httpx.AsyncClient) -> None:
    content = b'{"resourceType":"Patient","colour":1,"gender":"blue","birthDate":"never"}'
    response = await client.post("Patient", content=content, headers=JSON)
    assert {tuple(issue["expression"]) for issue in outcome_issues(response)} == {
        ("Patient.colour",),
        ("Patient.gender",),
        ("Patient.birthDate",),
    }


async def test_a_refusal_does_not_touch_what_is_stored(
    client: httpx.AsyncClient, store: Store
) -> None:
    stored = await put(client, {"resourceType": "Patient", "id": "p1", "gender": "female"})
    for content in (b"{", b"[]", b'{"resourceType":"Patient","id":"p1","gender":"blue"}'):
        response = await client.put("Patient/p1", content=content, headers=JSON)
        assert response.status_code == 400
    assert (await client.get("Patient/p1")).json() == stored
    assert len(await stored_versions(store)) == 1


async def test_numbers_beyond_a_double_are_kept_and_searched_without_failing(
    client: httpx.AsyncClient,
) -> None:
    content = (
        b'{"resourceType":"Observation","status":"final","code":{"text":"x"},'
        b'"valueQuantity":{"value":1e400}}'
    )
    created = await client.post("Observation", content=content, headers=JSON)
    assert created.status_code in (201, 400)
    for value in ("1e400", "-1e400", "gt1e400", "1e-400", "9" * 400):
        found = await client.get("Observation", params={"value-quantity": value})
        assert found.status_code in (200, 400), value
