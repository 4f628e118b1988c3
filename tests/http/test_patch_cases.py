"""Cases of both kinds of patch, each a fact that public suites hold servers to.

https://hl7.org/fhir/R4/fhirpatch.html, https://www.rfc-editor.org/rfc/rfc6902

The facts of HL7's FHIRPath Patch cases and of the json-patch-tests suites, in words and with data
of our own. What is no resource goes to the function that patches, the rest over HTTP, FHIRPath
Patches in JSON and in XML.
"""

from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from fhir_server.errors import FhirError
from fhir_server.fhir import json, xml
from fhir_server.interactions import patch
from tests.support import exact, outcome_issues, put

CASES: Final = Path(__file__).parent / "patch_cases"
JSON_PATCH: Final = {"content-type": patch.JSON_PATCH}
XML: Final = {"content-type": "application/fhir+xml"}
JSON: Final = {"content-type": "application/fhir+json"}
Case = dict[str, Any]


def _cases(name: str) -> list[Any]:
    found = json.decode((CASES / name).read_bytes())
    return [pytest.param(case, id=case["case"]) for case in found]


def _all_json() -> list[Any]:
    return _cases("json.json")


RESOURCES: Final = [one for one in _all_json() if "resourceType" in one.values[0]["before"]]
DOCUMENTS: Final = [one for one in _all_json() if "resourceType" not in one.values[0]["before"]]


async def _require(
    client: httpx.AsyncClient, case: Case, content: bytes, headers: dict[str, str]
) -> None:
    """The case's resource becomes what it says, or stays as it was."""
    before = await put(client, {**case["before"], "id": "p1"})
    response = await client.patch("Patient/p1", content=content, headers=headers)
    after = exact(await client.get("Patient/p1"))
    if "refused" in case:
        assert response.status_code in (400, 422), response.text
        assert case["refused"] in str(outcome_issues(response))
        assert after == before
        return
    assert response.status_code == 200, response.text
    assert _without_meta(after) == {**case["after"], "id": "p1"}
    assert exact(response) == after


def _without_meta(resource: Any) -> Any:
    return {name: value for name, value in resource.items() if name != "meta"}


@pytest.mark.parametrize("case", RESOURCES)
async def test_a_json_patch(client: httpx.AsyncClient, case: Case) -> None:
    await _require(client, case, json.encode(case["patch"]), JSON_PATCH)


@pytest.mark.parametrize("case", DOCUMENTS)
def test_a_json_patch_of_a_document(case: Case) -> None:
    def patched() -> Any:
        patch._check_operations(case["patch"], 100)
        return patch._json_patched(case["before"], case["patch"], 10_000)

    if "refused" in case:
        with pytest.raises(FhirError) as caught:
            patched()
        assert case["refused"] in str(caught.value)
    else:
        assert patched() == case["after"]


async def test_a_json_patch_with_two_ops_in_one_is_refused(client: httpx.AsyncClient) -> None:
    await put(client, {"resourceType": "Patient", "id": "p1", "gender": "male"})
    content = b'[{"op": "add", "path": "/gender", "value": "female", "op": "remove"}]'
    response = await client.patch("Patient/p1", content=content, headers=JSON_PATCH)
    assert response.status_code == 400
    assert "'op'" in str(outcome_issues(response))
    assert (await client.get("Patient/p1")).json()["gender"] == "male"


def _parameters(case: Case) -> dict[str, Any]:
    return {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "operation", "part": [*_parts(operation)]} for operation in case["patch"]
        ],
    }


_TYPES: Final = {
    "type": "valueCode",
    "path": "valueString",
    "name": "valueString",
    "index": "valueInteger",
    "source": "valueInteger",
    "destination": "valueInteger",
}


def _parts(operation: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"name": name, **value} if name == "value" else {"name": name, _TYPES[name]: value}
        for name, value in operation.items()
    ]


@pytest.mark.parametrize("case", _cases("fhirpath.json"))
@pytest.mark.parametrize("kind", ["json", "xml"])
async def test_a_fhirpath_patch(client: httpx.AsyncClient, case: Case, kind: str) -> None:
    parameters = _parameters(case)
    if not case["patch"]:
        del parameters["parameter"]
    if kind == "xml":
        await _require(client, case, xml.encode(parameters), XML)
    else:
        await _require(client, case, json.encode(parameters), JSON)
