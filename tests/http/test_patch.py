"""patch: https://hl7.org/fhir/R4/http.html#patch"""

import base64
import json
from typing import Any

import httpx
import pytest

from fhir_server.storage.interface import Store
from tests.support import assert_outcome, stored_versions

JSON_PATCH = {"Content-Type": "application/json-patch+json"}
PATIENT: dict[str, Any] = {
    "resourceType": "Patient",
    "id": "p1",
    "active": True,
    "identifier": [{"system": "urn:a", "value": "1"}],
    "name": [{"family": "Synthetic-Ash", "given": ["Ann", "Bo"]}],
}


@pytest.fixture(autouse=True)
async def _there(client: httpx.AsyncClient) -> None:
    (await client.put("Patient/p1", json=PATIENT)).raise_for_status()


async def _patched(client: httpx.AsyncClient, *operations: Any, **headers: str) -> httpx.Response:
    body = json.dumps(operations).encode()
    return await client.patch("Patient/p1", content=body, headers=JSON_PATCH | headers)


def _operation(kind: str, path: str, **parts: Any) -> dict[str, Any]:
    found = [{"name": "type", "valueCode": kind}, {"name": "path", "valueString": path}]
    for name, value in parts.items():
        found.append({"name": name, **value})
    return {"name": "operation", "part": found}


async def _fhirpath_patched(client: httpx.AsyncClient, *operations: Any) -> httpx.Response:
    body = {"resourceType": "Parameters", "parameter": list(operations)}
    headers = {"Content-Type": "application/fhir+json"}
    return await client.patch("Patient/p1", json=body, headers=headers)


async def test_a_json_patch_makes_the_next_version(client: httpx.AsyncClient) -> None:
    response = await _patched(
        client,
        {"op": "test", "path": "/active", "value": True},
        {"op": "replace", "path": "/active", "value": False},
        {"op": "add", "path": "/name/0/given/-", "value": "Cy"},
        {"op": "remove", "path": "/identifier"},
    )
    assert (response.status_code, response.headers["etag"]) == (200, 'W/"2"')
    patched = response.json()
    assert (patched["active"], patched["name"][0]["given"]) == (False, ["Ann", "Bo", "Cy"])
    assert "identifier" not in patched
    assert (await client.get("Patient/p1")).json() == patched


async def test_a_fhirpath_patch_makes_the_next_version(client: httpx.AsyncClient) -> None:
    response = await _fhirpath_patched(
        client,
        _operation("replace", "Patient.active", value={"valueBoolean": False}),
        _operation("delete", "Patient.identifier.where(system = 'urn:a')"),
        _operation("add", "Patient", name={"valueString": "gender"}, value={"valueCode": "female"}),
    )
    assert response.status_code == 200
    assert response.json()["gender"] == "female"
    assert response.json()["active"] is False
    assert "identifier" not in response.json()


@pytest.mark.parametrize(
    ("operation", "status", "text"),
    [
        ({"op": "test", "path": "/active", "value": False}, 422, "test of /active failed"),
        ({"op": "remove", "path": "/nothing"}, 422, "nothing"),
        ({"op": "replace", "path": "/id", "value": "p2"}, 422, "may not change the id"),
        (
            {"op": "replace", "path": "/resourceType", "value": "Group"},
            422,
            "may not change the resourceType",
        ),
        ({"op": "replace", "path": "", "value": 1}, 422, "not a resource"),
        ({"op": "add", "path": "/colour", "value": "blue"}, 422, "colour"),
        ({"op": "add", "path": "/gender", "value": "girl"}, 422, "gender"),
        ({"op": "nonsense", "path": "/active"}, 400, "no operation of JSON Patch"),
        ({"path": "/active"}, 400, "no operation of JSON Patch"),
        ({"op": "add", "path": "active", "value": 1}, 400, "no operation of JSON Patch"),
        ("nonsense", 400, "no operation of JSON Patch"),
    ],
)
async def test_a_json_patch_that_cannot_be_is_refused_and_nothing_stored(
    client: httpx.AsyncClient, store: Store, operation: Any, status: int, text: str
) -> None:
    response = await _patched(client, {"op": "remove", "path": "/name"}, operation)
    assert response.status_code == status, response.text
    assert text in json.dumps(response.json())
    assert len(await stored_versions(store)) == 1


async def test_copies_cannot_outgrow_the_server(client: httpx.AsyncClient, store: Store) -> None:
    doubling = [{"op": "copy", "from": "/name", "path": "/name/-"} for _ in range(60)]
    response = await _patched(client, *doubling)
    assert_outcome(response, 413, "too-long", "larger than")
    assert len(await stored_versions(store)) == 1


@pytest.mark.parametrize(
    ("operation", "text"),
    [
        (_operation("replace", "Patient.nonsense", value={"valueString": "x"}), "not an element"),
        (_operation("replace", "Patient.name.given", value={"valueString": "x"}), "2 elements"),
        (_operation("delete", "Patient.repeat(name)"), "does not name a place"),
        (_operation("delete", "Patient..name"), "not an element"),
        (_operation("delete", "Patient.name["), "not a path to an element"),
        (_operation("delete", "Patient"), "cannot delete the resource"),
        (_operation("explode", "Patient.name"), "not an operation"),
        (
            _operation("insert", "Patient.name", index={"valueInteger": 9}, value={"valueId": "x"}),
            "beyond the 1",
        ),
        (
            {"name": "operation", "part": [{"name": "type", "valueCode": "add"}]},
            "'path' is missing",
        ),
    ],
)
async def test_a_fhirpath_patch_that_cannot_be_names_its_operation(
    client: httpx.AsyncClient, store: Store, operation: Any, text: str
) -> None:
    response = await _fhirpath_patched(client, operation)
    assert_outcome(response, 400, "invalid", text, "Parameters.parameter[0]")
    assert len(await stored_versions(store)) == 1


async def test_if_match_must_be_the_current_version(client: httpx.AsyncClient) -> None:
    stale = await _patched(client, {"op": "remove", "path": "/name"}, **{"If-Match": 'W/"7"'})
    assert_outcome(stale, 412, "conflict", "the current version is 1", "http.If-Match")
    right = await _patched(client, {"op": "remove", "path": "/name"}, **{"If-Match": 'W/"1"'})
    assert right.status_code == 200


async def test_what_is_not_there_cannot_be_patched(client: httpx.AsyncClient) -> None:
    response = await client.patch("Patient/p9", content=b"[]", headers=JSON_PATCH)
    assert_outcome(response, 404, "not-found", "Patient/p9 is not known")
    await client.delete("Patient/p1")
    assert (await _patched(client)).status_code == 410


async def test_criteria_find_what_is_patched(client: httpx.AsyncClient) -> None:
    body = json.dumps([{"op": "remove", "path": "/name"}]).encode()
    response = await client.patch("Patient?identifier=urn:a|1", content=body, headers=JSON_PATCH)
    assert (response.status_code, "name" in response.json()) == (200, False)
    nobody = await client.patch("Patient?identifier=urn:a|2", content=body, headers=JSON_PATCH)
    assert_outcome(nobody, 404, "not-found", "No Patient matches")
    await client.post("Patient", json={"resourceType": "Patient", "active": True})
    await client.post("Patient", json={"resourceType": "Patient", "active": True})
    several = await client.patch("Patient?active=true", content=body, headers=JSON_PATCH)
    assert_outcome(several, 412, "multiple-matches", "More than one Patient")


async def test_a_transaction_holds_patches_of_both_kinds(client: httpx.AsyncClient) -> None:
    json_patch = base64.b64encode(b'[{"op": "replace", "path": "/active", "value": false}]')
    binary = {
        "resourceType": "Binary",
        "contentType": JSON_PATCH["Content-Type"],
        "data": json_patch.decode(),
    }
    await client.put("Patient/p2", json=PATIENT | {"id": "p2"})
    parameters = {
        "resourceType": "Parameters",
        "parameter": [_operation("delete", "Patient.active")],
    }
    bundle = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {"resource": binary, "request": {"method": "PATCH", "url": "Patient/p1"}},
            {"resource": parameters, "request": {"method": "PATCH", "url": "Patient/p2"}},
        ],
    }
    (await client.post("", json=bundle)).raise_for_status()
    assert (await client.get("Patient/p1")).json()["active"] is False
    assert "active" not in (await client.get("Patient/p2")).json()


async def test_another_body_is_refused(client: httpx.AsyncClient) -> None:
    response = await client.patch(
        "Patient/p1", json=PATIENT, headers={"Content-Type": "application/fhir+json"}
    )
    assert_outcome(response, 400, "structure", "takes a Parameters")
    plain = await client.patch("Patient/p1", content=b"x", headers={"Content-Type": "text/plain"})
    assert plain.status_code == 415


@pytest.mark.parametrize("operation", ["add", "copy", "move", "remove", "replace"])
async def test_a_path_that_leads_nowhere_is_told_without_the_resource(
    client: httpx.AsyncClient, operation: str
) -> None:
    """An outcome goes into logs; whoever sent the patch knows the path, and that is enough."""
    asked = {"op": operation, "path": "/photo/0/title", "from": "/photo/0/url", "value": "x"}
    answer = await _patched(client, asked)
    assert_outcome(answer, 422, "processing", "/photo/0", "$[0]")
    assert "Synthetic-Ash" not in answer.text


async def test_an_unknown_operation_is_told_which_there_are(client: httpx.AsyncClient) -> None:
    answer = await _patched(client, {"op": "set", "path": "/active", "value": True})
    assert_outcome(answer, 400, "structure", "add, copy, move, remove, replace, test", "$[0]")
