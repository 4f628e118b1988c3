"""FHIR's own operations: their definitions, and whether their answers hold to them."""

import json
from pathlib import Path
from typing import Final

import httpx
import pytest
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.operationdefinition import OperationDefinition

from tests.fhir_operations.record import JSON, PATIENT
from tests.operations.parameters import problems
from tests.support import REPOSITORY, body, put

FILES: Final = sorted((REPOSITORY / "fhir_operations").glob("*.json"))
BULK: Final = [path for path in FILES if path.stem.endswith(("export", "import"))]
BACKPORT: Final = [path for path in FILES if path.stem.startswith("subscription")]


def definition(path: Path) -> JSON:
    found: JSON = json.loads(path.read_text(encoding="utf-8"))
    OperationDefinition.model_validate(found)
    return found


@pytest.mark.parametrize(
    "path", sorted({*FILES} - {*BULK} - {*BACKPORT}), ids=lambda path: path.stem
)
def test_each_has_the_address_that_r4_gives_it(path: Path) -> None:
    defined = definition(path)
    (resource_type,) = defined["resource"]
    name = f"{resource_type}-{defined['code']}"
    assert defined["url"] == f"http://hl7.org/fhir/OperationDefinition/{name}"
    assert path.stem.replace("_", "-") in (defined["code"], name.lower())
    for parameter in defined["parameter"]:
        assert parameter["documentation"].endswith("."), parameter["name"]


def test_bulk_data_has_the_addresses_of_its_guide() -> None:
    """https://hl7.org/fhir/uv/bulkdata/STU2/operations.html; import is in no guide yet."""
    guide = "http://hl7.org/fhir/uv/bulkdata/OperationDefinition"
    assert {path.stem: definition(path)["url"] for path in BULK} == {
        "export": f"{guide}/export",
        "patient_export": f"{guide}/patient-export",
        "group_export": f"{guide}/group-export",
        "system_import": "https://keyworking.example/fhir/OperationDefinition/import",
    }


def test_subscriptions_have_the_addresses_of_the_backport() -> None:
    """https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/artifacts.html"""
    guide = "http://hl7.org/fhir/uv/subscriptions-backport/OperationDefinition"
    assert {path.stem: definition(path)["url"] for path in BACKPORT} == {
        f"subscription_{name.replace('-', '_')}": f"{guide}/backport-subscription-{name}"
        for name in ("status", "events", "get-ws-binding-token")
    }


async def test_the_capability_statement_names_each_where_it_answers(
    client: httpx.AsyncClient,
) -> None:
    (rest,) = (await client.get("metadata")).json()["rest"]
    named = {
        described["type"]: {
            one["name"]: one["definition"] for one in described.get("operation", [])
        }
        for described in rest["resource"]
    }
    everywhere = {"meta", "meta-add", "meta-delete"}
    assert {name for name, found in named.items() if not everywhere <= found.keys()} == {
        "AuditEvent"  # a row of the audit, of which nothing is changed
    }
    assert {"meta", "export", "import", "closure"} == {one["name"] for one in rest["operation"]}
    assert {name for name, found in named.items() if "export" in found} == {"Patient", "Group"}
    for name in ("Patient", "Encounter"):
        assert named[name]["everything"].endswith(f"/{name}-everything")
    assert {name for name, found in named.items() if "lastn" in found} == {"Observation"}
    assert {name for name, found in named.items() if "everything" in found} == {
        *("Patient", "Encounter"),
    }


async def test_answers_hold_to_their_definitions(caseload: httpx.AsyncClient) -> None:
    tag = {"system": "https://example.org/tags", "code": "a"}
    parameter = {"name": "meta", "valueMeta": {"tag": [tag]}}
    sent = body({"resourceType": "Parameters", "parameter": [parameter]})
    for path in FILES:
        defined = definition(path)
        if defined["code"].startswith("meta"):
            answer = await caseload.post(f"{PATIENT}/${defined['code']}", **sent)
            if defined["code"] == "meta":
                answer = await caseload.get(f"{PATIENT}/$meta")
            assert problems(answer.json(), defined) == []


async def test_searchsets_are_bundles_of_r4(caseload: httpx.AsyncClient) -> None:
    await put(
        caseload,
        {
            "resourceType": "Observation",
            "id": "o",
            "status": "final",
            "code": {"text": "Mood"},
            "subject": {"reference": PATIENT},
        },
    )
    for address in (
        f"{PATIENT}/$everything?_count=7&_type=Flag,Observation,Organization",
        "Patient/$everything?_count=3",
        f"Observation/$lastn?patient={PATIENT}&code:missing=false",
        f"Observation/$lastn?patient={PATIENT}&code=unheard-of",
    ):
        answer = await caseload.get(address)
        if ":" in address:
            assert answer.status_code == 400, "modifiers are not supported"
        else:
            Bundle.model_validate_json(answer.content)


async def test_are_answered_in_xml_too(caseload: httpx.AsyncClient) -> None:
    for address in (f"{PATIENT}/$everything", f"{PATIENT}/$meta", "$meta"):
        answer = await caseload.get(address, headers={"Accept": "application/fhir+xml"})
        assert answer.status_code == 200
        assert answer.text.startswith(("<Bundle", "<Parameters", "<?xml"))
