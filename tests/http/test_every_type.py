"""A resource of each type of R4 is created, read and found again, whatever the type.

https://hl7.org/fhir/R4/resourcelist.html. Each is the least that R4's definitions ask for; the
examples of NHS England and HL7 are taken as they are, where they are at hand.
"""

from typing import Any, Final

import httpx
import pytest

from fhir_server.fhir import json
from fhir_server.fhir.definitions import (
    ElementDefinition,
    required_codes,
    resource_types,
    type_definition,
)
from tests.support import FHIR_JSON, official_examples

UNSTORED: Final = {"Parameters": "R4 gives it no address of its own"}
"""Types that no server stores."""
JSON: Final = {**FHIR_JSON, "accept": "application/fhir+json"}
"""A Binary would come as what it holds."""
SOMEBODY: Final = {"display": "somebody"}
SOMETHING: Final = {"text": "something"}
ACTIVE: Final = {
    "system": "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical",
    "code": "active",
}
PLAIN: Final[dict[str, Any]] = {
    **dict.fromkeys(("string", "markdown", "code", "id"), "x"),
    **dict.fromkeys(("uri", "url", "canonical"), "https://a.example/x"),
    **dict.fromkeys(("integer", "positiveInt", "unsignedInt"), 1),
    **dict.fromkeys(("instant", "dateTime"), "2026-03-01T10:00:00Z"),
    "date": "2026-03-01",
    "time": "10:00:00",
    "boolean": True,
    "decimal": 1.5,
    "base64Binary": "QQ==",
    "oid": "urn:oid:1.2.3",
    "uuid": "urn:uuid:7f0e0f5e-0000-4000-8000-000000000001",
    "Reference": SOMEBODY,
    "CodeableConcept": SOMETHING,
    "Quantity": {"value": 1},
    "Money": {"value": 1},
    "Attachment": {"title": "x"},
    "Period": {"start": "2026"},
    "Coding": {"display": "something"},
    "Resource": {"resourceType": "Basic", "code": {"text": "something"}},
}
FITTING: Final[dict[str, dict[str, Any]]] = {
    "AllergyIntolerance": {"clinicalStatus": {"coding": [ACTIVE]}},
    "Appointment.participant": {"actor": SOMEBODY},
    "Appointment": {"status": "proposed"},
    "AppointmentResponse": {"actor": SOMEBODY},
    "Bundle": {"type": "collection"},
    "CapabilityStatement": {
        "kind": "requirements",
        "description": "x",
        "document": [{"mode": "producer", "profile": "https://a.example/x"}],
    },
    "Consent": {"policyRule": SOMETHING},
    "ImmunizationRecommendation.recommendation": {"targetDisease": SOMETHING},
    "InsurancePlan": {"name": "x"},
    "Linkage": {"item": [{"type": "source", "resource": SOMEBODY}] * 2},
    "Organization": {"name": "x"},
    "SearchParameter": {"type": "token", "expression": "Basic.code", "base": ["Basic"]},
    "StructureDefinition": {
        "kind": "resource",
        "type": "Basic",
        "baseDefinition": "http://hl7.org/fhir/StructureDefinition/Basic",
        "derivation": "constraint",
        "differential": {"element": [{"id": "Basic", "path": "Basic"}]},
    },
    "Subscription": {
        "status": "off",
        "criteria": "Basic?code=x",
        "channel": {"type": "websocket"},
    },
    "TerminologyCapabilities": {"kind": "requirements", "description": "x"},
    "TriggerDefinition": {"type": "named-event", "name": "x"},
}
"""What rules ask for besides, which definitions of elements do not say."""


def least(name: str) -> dict[str, Any]:
    """The least resource or element of a type."""
    found: dict[str, Any] = {}
    chosen: set[str] = set()
    for element in type_definition(name).elements.values():
        if element.min and element.base_name not in chosen:
            chosen.add(element.base_name)
            value = _value(element)
            found[element.name] = [value] * element.min if element.repeats else value
    return {**found, **FITTING.get(name, {})}


def _value(element: ElementDefinition) -> Any:
    codes = required_codes(element.value_set) if element.value_set else None
    if codes:
        system = min(codes)
        code = min(codes[system])
        coding = {"system": system, "code": code}
        given = {"code": code, "Coding": coding, "CodeableConcept": {"coding": [coding]}}
        return given.get(element.type, code)
    return PLAIN[element.type] if element.type in PLAIN else least(element.type)


async def kept(client: httpx.AsyncClient, resource: dict[str, Any]) -> dict[str, Any]:
    """Created, read, and found by its id and as one of its type."""
    name = resource["resourceType"]
    made = await client.post(name, content=json.encode(resource), headers=JSON)
    assert made.status_code == 201, made.text
    stored: dict[str, Any] = made.json()
    address = f"{name}/{stored['id']}"
    assert f"/{address}/_history/1" in made.headers["location"]
    read = await client.get(address, headers=JSON)
    assert (read.status_code, read.json()) == (200, stored)
    for query in (f"_id={stored['id']}", "_lastUpdated=ge2026", "_count=50"):
        found = (await client.get(f"{name}?{query}")).json()
        assert stored in [one["resource"] for one in found["entry"]], query
    return stored


@pytest.mark.parametrize("name", [one for one in resource_types() if one not in UNSTORED])
async def test_is_created_read_and_found(client: httpx.AsyncClient, name: str) -> None:
    sent = {"resourceType": name, **least(name)}
    stored = await kept(client, sent)
    assert {member: stored[member] for member in sent} == sent


@pytest.mark.parametrize("path", official_examples())
async def test_an_official_example_is_too(client: httpx.AsyncClient, path: Any) -> None:
    resource = json.decode(path.read_bytes())
    stored = await kept(client, resource)
    lacking = {*resource} - {*stored}
    assert lacking == set()
