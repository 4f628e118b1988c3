"""batch: https://hl7.org/fhir/R4/http.html#brules"""

from typing import Any

import httpx
import pytest
from fhir.resources.R4B.bundle import Bundle

from fhir_server.storage.interface import Store
from tests.support import assert_outcome, body, put, stored_versions

PATIENT = {"resourceType": "Patient", "name": [{"family": "Synthetic-Batch"}]}


async def _post(client: httpx.AsyncClient, *entries: dict[str, Any]) -> httpx.Response:
    bundle = {"resourceType": "Bundle", "type": "batch", "entry": list(entries)}
    response = await client.post("", **body(bundle))
    assert response.status_code == 200, response.text
    Bundle.model_validate_json(response.content)
    return response


def _entry(method: str, url: str, resource: Any = None, **more: str) -> dict[str, Any]:
    entry: dict[str, Any] = {"request": {"method": method, "url": url, **more}}
    return entry if resource is None else {**entry, "resource": resource}


async def test_carries_out_what_is_right_and_refuses_what_is_not(
    client: httpx.AsyncClient, store: Store
) -> None:
    await put(client, {**PATIENT, "id": "there"})
    response = await _post(
        client,
        _entry("POST", "Patient", PATIENT),
        _entry("POST", "Patient", {"resourceType": "Patient", "birthDate": "never"}),
        _entry("GET", "Patient/there"),
        _entry("GET", "Patient/nobody"),
        _entry("PUT", "Patient/there", {**PATIENT, "id": "there"}, ifMatch='W/"7"'),
        _entry("DELETE", "Patient/there"),
        _entry("GET", "metadata"),
    )
    assert response.json()["type"] == "batch-response"
    statuses = [entry["response"]["status"][:3] for entry in response.json()["entry"]]
    assert statuses == ["201", "400", "200", "404", "412", "204", "200"]
    assert len(await stored_versions(store)) == 3


async def test_tells_of_each_refusal_in_an_outcome_of_its_own(client: httpx.AsyncClient) -> None:
    response = await _post(
        client, _entry("POST", "Patient", {"resourceType": "Patient", "birthDate": "never"})
    )
    outcome = response.json()["entry"][0]["response"]["outcome"]
    assert outcome["resourceType"] == "OperationOutcome"
    assert outcome["issue"][0]["expression"] == ["Patient.birthDate"]


async def test_an_entry_without_a_request_is_refused_alone(client: httpx.AsyncClient) -> None:
    response = await _post(client, {"resource": PATIENT}, _entry("POST", "Patient", PATIENT))
    refused, done = response.json()["entry"]
    assert refused["response"]["status"] == "400 Bad Request"
    assert "its method and url are needed" in str(refused["response"]["outcome"])
    assert done["response"]["status"] == "201 Created"


async def test_a_batch_within_a_batch_is_refused(client: httpx.AsyncClient, store: Store) -> None:
    inner = {
        "resourceType": "Bundle",
        "type": "batch",
        "entry": [_entry("POST", "Patient", PATIENT)],
    }
    response = await _post(client, _entry("POST", "/", inner))
    refusal = response.json()["entry"][0]["response"]
    assert refusal["status"] == "400 Bad Request"
    assert "may not hold another" in str(refusal["outcome"])
    assert not await stored_versions(store)


async def test_an_entry_may_search(client: httpx.AsyncClient) -> None:
    await put(client, {**PATIENT, "id": "there"})
    response = await _post(client, _entry("GET", "Patient?family=Synthetic-Batch"))
    found = response.json()["entry"][0]["resource"]
    assert [entry["resource"]["id"] for entry in found["entry"]] == ["there"]


async def test_a_broken_bundle_is_refused_as_a_whole(
    client: httpx.AsyncClient, store: Store
) -> None:
    bundle = {
        "resourceType": "Bundle",
        "type": "batch",
        "entry": [
            _entry("POST", "Patient", PATIENT),
            {"request": {"method": "SHOUT", "url": "Patient"}},
        ],
    }
    response = await client.post("", **body(bundle))
    assert_outcome(response, 400, "code-invalid", "SHOUT", "Bundle.entry[1].request.method")
    assert not await stored_versions(store)


_NO_VALUE = {"extension": [{"url": "http://example.org/x", "valueCode": "unknown"}]}


@pytest.mark.parametrize("kind", ["batch", "transaction"])
@pytest.mark.parametrize("name", ["url", "method"])
async def test_an_entry_may_not_leave_out_what_it_asks_for(
    client: httpx.AsyncClient, kind: str, name: str
) -> None:
    """A primitive that is required may stand as an extension without a value."""
    request = {"method": "GET", "url": "Patient/p1"} | {f"_{name}": _NO_VALUE}
    del request[name]
    bundle = {"resourceType": "Bundle", "type": kind, "entry": [{"request": request}]}
    response = await client.post("", json=bundle)
    assert response.status_code == (200 if kind == "batch" else 400)
    assert f"The request has no {name}" in response.text


async def test_a_bundle_may_not_leave_out_its_type(client: httpx.AsyncClient) -> None:
    response = await client.post("", json={"resourceType": "Bundle", "_type": _NO_VALUE})
    assert_outcome(response, 400, "invalid", "transaction and batch can", "Bundle.type")
