"""capabilities: https://hl7.org/fhir/R4/http.html#capabilities

What the CapabilityStatement promises is carried out here, so that it cannot promise too much.
"""

from typing import Any

import httpx
import pytest
from fhir.resources.R4B.capabilitystatement import CapabilityStatement

from fhir_server.fhir import json, xml
from fhir_server.fhir.definitions import resource_types
from fhir_server.search.composites import composites
from fhir_server.settings import Settings
from tests.support import assert_outcome, body, create

SAMPLE: dict[str, dict[str, Any]] = {
    "Patient": {"active": True},
    "CarePlan": {"status": "draft", "intent": "plan", "subject": {"reference": "Patient/1"}},
    "Goal": {
        "lifecycleStatus": "active",
        "description": {"text": "x"},
        "subject": {"reference": "Patient/1"},
    },
    "Encounter": {"status": "planned", "class": {"code": "IMP"}},
    "Flag": {"status": "active", "code": {"text": "x"}, "subject": {"reference": "Patient/1"}},
    "Task": {"status": "requested", "intent": "order"},
    "Consent": {
        "status": "active",
        "scope": {"text": "x"},
        "category": [{"text": "x"}],
        "policyRule": {"text": "x"},
    },
    "ValueSet": {"status": "active"},
    "Observation": {"status": "final", "code": {"text": "x"}},
}
VALUES = {
    "token": "x",
    "string": "x",
    "reference": "Patient/1",
    "date": "2026-01-01",
    "number": "1",
    "quantity": "1",
    "uri": "http://example.org/x",
    "composite": "x$x",
    "special": "51.5|-0.1",
}
"""A value that each type of search parameter takes."""
OF_PARAMETER = {"_filter": "_id eq x", "_text": "x OR y", "_content": "x -y"}
"""Of parameters that have a language of their own."""


async def _rest(client: httpx.AsyncClient) -> dict[str, Any]:
    rest: dict[str, Any] = (await client.get("metadata")).json()["rest"][0]
    return rest


async def test_is_a_valid_statement_of_this_server(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    response = await client.get("metadata")
    assert response.status_code == 200
    CapabilityStatement.model_validate_json(response.content)
    statement = response.json()
    assert statement["fhirVersion"] == "4.0.1"
    assert statement["kind"] == "instance"
    assert statement["implementation"]["url"] == settings.base


async def test_names_every_resource_type_of_r4_once(client: httpx.AsyncClient) -> None:
    named = [resource["type"] for resource in (await _rest(client))["resource"]]
    assert named == list(resource_types())
    assert len(named) == 146


async def test_says_loudly_that_it_serves_without_tokens(client: httpx.AsyncClient) -> None:
    assert "without tokens" in (await _rest(client))["security"]["description"]


async def test_every_search_parameter_of_every_type_is_answered(client: httpx.AsyncClient) -> None:
    refused = []
    for resource in (await _rest(client))["resource"]:
        parameters = {p["name"]: _value(resource["type"], p) for p in resource["searchParam"]}
        assert {"_id", "_content", "_filter"} <= set(parameters)
        domain_resource = resource["type"] not in ("Binary", "Bundle", "Parameters")
        assert ("_text" in parameters) == domain_resource
        response = await client.get(resource["type"], params=parameters)
        if response.status_code != 200:
            refused.append((resource["type"], response.text))
    assert not refused


def _value(resource_type: str, parameter: dict[str, Any]) -> str:
    if parameter["type"] == "composite":
        components = composites(resource_type)[parameter["name"]].components
        return "$".join(VALUES[component.type] for component in components)
    return OF_PARAMETER.get(parameter["name"], VALUES[parameter["type"]])


async def _of_clients(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    """What is said of the types that clients write: all but one."""
    of_all: list[dict[str, Any]] = (await _rest(client))["resource"]
    others = [one for one in of_all if one["type"] != "AuditEvent"]
    assert len(others) == len(of_all) - 1
    return others


async def test_of_the_audit_reading_and_adding_alone_are_promised(
    client: httpx.AsyncClient,
) -> None:
    (audit,) = [one for one in (await _rest(client))["resource"] if one["type"] == "AuditEvent"]
    codes = [one["code"] for one in audit["interaction"]]
    assert codes == ["read", "vread", "history-instance", "create", "search-type"]
    assert (audit["conditionalCreate"], audit["updateCreate"]) == (True, True)
    promised = {"conditionalUpdate", "conditionalDelete", "patch", "searchInclude"}
    assert not promised & {*audit}
    patient = next(one for one in await _of_clients(client) if one["type"] == "Patient")
    assert not [one for one in patient["searchRevInclude"] if one.startswith("AuditEvent:")]


async def test_every_include_of_every_type_is_answered(client: httpx.AsyncClient) -> None:
    refused = []
    for resource in await _of_clients(client):
        asked = {"_include": resource["searchInclude"], "_revinclude": ["*"]}
        assert "*" in asked["_include"]
        response = await client.get(resource["type"], params=asked)
        if response.status_code != 200:
            refused.append((resource["type"], response.text))
    assert not refused


async def test_every_reverse_include_of_every_type_is_answered(client: httpx.AsyncClient) -> None:
    refused, tried = [], 0
    for resource in (await _rest(client))["resource"]:
        promised = resource.get("searchRevInclude", [])
        for start in range(0, len(promised), 90):  # so many parameters a search may have
            some = promised[start : start + 90]
            response = await client.get(resource["type"], params={"_revinclude": some})
            tried += len(some)
            if response.status_code != 200:
                refused.append((resource["type"], response.text))
    assert not refused
    assert tried > 1000


async def test_reverse_includes_are_told_where_the_reference_leads(
    client: httpx.AsyncClient,
) -> None:
    told = {r["type"]: r.get("searchRevInclude", []) for r in (await _rest(client))["resource"]}
    assert "CarePlan:subject" in told["Patient"]
    assert "CarePlan:subject" not in told["Practitioner"]
    assert "Provenance:target" in told["Flag"]  # any type
    patient = await create(client, {"resourceType": "Patient"})
    plan = {
        "resourceType": "CarePlan",
        **SAMPLE["CarePlan"],
        "subject": {"reference": f"Patient/{patient['id']}"},
    }
    await create(client, plan)
    found = await client.get("Patient?_revinclude=CarePlan:subject")
    assert [e["resource"]["resourceType"] for e in found.json()["entry"]] == ["Patient", "CarePlan"]


async def test_every_search_parameter_of_all_types_is_answered(client: httpx.AsyncClient) -> None:
    named = (await _rest(client))["searchParam"]
    assert {"_id", "_lastUpdated", "_list", "_tag"} <= {one["name"] for one in named}
    for one in named:
        response = await client.get("", params={one["name"]: _value("Patient", one)})
        assert response.status_code == 200, response.text


async def test_every_format_is_answered(client: httpx.AsyncClient) -> None:
    statement = (await client.get("metadata")).json()
    assert statement["format"] == ["application/fhir+json", "application/fhir+xml", "json", "xml"]
    for name in statement["format"]:
        response = await client.get("Patient", params={"_format": name})
        expected = "xml" if "xml" in name else "json"
        assert response.headers["content-type"] == f"application/fhir+{expected}; charset=utf-8"


async def test_every_format_of_a_patch_is_taken(client: httpx.AsyncClient) -> None:
    patient = await create(client, {"resourceType": "Patient", "active": True})
    path = {"name": "path", "valueString": "Patient.active"}
    parts = [{"name": "type", "valueCode": "delete"}, path]
    told = {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": parts}]}
    bodies = {
        "application/json-patch+json": b'[{"op": "test", "path": "/active", "value": true}]',
        "application/fhir+json": json.encode(told),
        "application/fhir+xml": xml.encode(told),
    }
    named = (await client.get("metadata")).json()["patchFormat"]
    assert named == [*bodies]
    for media in named:
        headers = {"content-type": media}
        response = await client.patch(
            f"Patient/{patient['id']}", content=bodies[media], headers=headers
        )
        assert response.status_code == 200, response.text


async def test_every_type_that_is_read_refuses_what_is_not_there(
    client: httpx.AsyncClient,
) -> None:
    for resource in (await _rest(client))["resource"]:
        name = resource["type"]
        for address in (f"{name}/no", f"{name}/no/_history", f"{name}/no/_history/1"):
            assert (await client.get(address)).status_code == 404, address


@pytest.mark.parametrize("name", SAMPLE)
async def test_every_interaction_is_carried_out(client: httpx.AsyncClient, name: str) -> None:
    described = next(r for r in (await _rest(client))["resource"] if r["type"] == name)
    assert {i["code"] for i in described["interaction"]} == {
        "create",
        "read",
        "vread",
        "update",
        "patch",
        "delete",
        "history-instance",
        "history-type",
        "search-type",
    }
    created = await client.post(name, **body({"resourceType": name, **SAMPLE[name]}))
    assert created.status_code == 201, created.text
    resource = created.json()
    address = f"{name}/{resource['id']}"
    assert (await client.get(address)).status_code == 200
    changed = {**resource, "language": "en-GB"}
    sent = body(changed)
    sent["headers"]["If-Match"] = 'W/"1"'
    assert (await client.put(address, **sent)).status_code == 200
    assert (await client.get(f"{address}/_history/2")).status_code == 200
    assert len((await client.get(f"{address}/_history")).json()["entry"]) == 2
    assert len((await client.get(f"{name}/_history")).json()["entry"]) == 2
    as_patch = {"Content-Type": "application/json-patch+json", "If-Match": 'W/"2"'}
    assert (await client.patch(address, content=b"[]", headers=as_patch)).status_code == 200
    found = await client.get(name, params={"_id": resource["id"], "_total": "accurate"})
    assert found.json()["total"] == 1
    # An empty patch changed nothing.
    assert (await client.delete(address, headers={"If-Match": 'W/"2"'})).status_code == 204
    assert (await client.get(address)).status_code == 410


async def test_conditional_interactions_are_as_promised(client: httpx.AsyncClient) -> None:
    patient = (await _rest(client))["resource"][resource_types().index("Patient")]
    assert patient["conditionalCreate"] is True
    assert patient["conditionalRead"] == "full-support"
    assert patient["conditionalUpdate"] is True
    assert patient["conditionalDelete"] == "single"
    assert patient["updateCreate"] is True
    for resource in await _of_clients(client):
        for name in (
            *("conditionalCreate", "conditionalRead", "conditionalUpdate", "conditionalDelete"),
            *("updateCreate", "readHistory"),
        ):
            assert resource[name] == patient[name], resource["type"]


async def test_conditional_interactions_are_carried_out(client: httpx.AsyncClient) -> None:
    given = body({"resourceType": "Patient", "identifier": [{"value": "c1"}]})
    sent = {**given["headers"], "If-None-Exist": "identifier=c1"}
    statuses = [
        (await client.post("Patient", content=given["content"], headers=sent)).status_code
        for _ in range(2)
    ]
    assert statuses == [201, 200]
    updated = await client.put("Patient?identifier=c1", **given)
    assert updated.status_code == 200
    address = f"Patient/{updated.json()['id']}"
    for name, header in (("etag", "If-None-Match"), ("last-modified", "If-Modified-Since")):
        again = await client.get(address, headers={header: updated.headers[name]})
        assert again.status_code == 304, header
    assert (await client.delete("Patient?identifier=c1")).status_code == 204
    assert (await client.get(address)).status_code == 410


async def test_says_of_which_types_a_change_needs_if_match(client: httpx.AsyncClient) -> None:
    described = {r["type"]: r["versioning"] for r in (await _rest(client))["resource"]}
    assert {name for name, how in described.items() if how == "versioned-update"} == {
        "CarePlan",
        "Goal",
        "Consent",
        "EpisodeOfCare",
        "Flag",
    }
    assert described["Patient"] == "versioned"


async def test_transactions_and_batches_are_as_promised(client: httpx.AsyncClient) -> None:
    promised = {interaction["code"] for interaction in (await _rest(client))["interaction"]}
    assert {"transaction", "batch", "history-system", "search-system"} <= promised
    assert (await client.get("?_type=Patient")).json()["type"] == "searchset"
    assert (await client.get("_history")).json()["type"] == "history"
    for code in ("transaction", "batch"):
        response = await client.post("", **body({"resourceType": "Bundle", "type": code}))
        assert response.json()["type"] == f"{code}-response"


async def test_compartments_are_searched_as_promised(client: httpx.AsyncClient) -> None:
    named = [url.rpartition("/")[2] for url in (await _rest(client))["compartment"]]
    assert named == ["device", "encounter", "patient", "practitioner", "relatedPerson"]
    for name in ("Device", "Encounter", "Patient", "Practitioner", "RelatedPerson"):
        assert (await client.get(f"{name}/1/*")).json()["type"] == "searchset"


async def test_operations_stand_where_they_are_answered(settings: Settings) -> None:
    from fhir_server.app import create_app

    app = create_app(settings.model_copy(update={"operations": ("tests.http.plugged",)}))
    transport = httpx.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url=settings.base + "/") as client,
    ):
        rest = await _rest(client)
    assert [operation["name"] for operation in rest["operation"]] == ["echo"]
    by_type = {r["type"]: [o["name"] for o in r.get("operation", ())] for r in rest["resource"]}
    assert by_type["Patient"] == ["echo", "mark"]
    assert by_type["Practitioner"] == []


async def test_takes_a_mode_that_it_has_and_nothing_else(client: httpx.AsyncClient) -> None:
    assert (await client.get("metadata?mode=full")).status_code == 200
    refused = await client.get("metadata?mode=terminology")
    assert_outcome(refused, 400, "not-supported", "full and normative", "http.mode")
    unknown = await client.get("metadata?foo=bar")
    assert_outcome(unknown, 400, "invalid", "'foo' is not known", "http.foo")


async def test_says_which_profiles_it_knows(client: httpx.AsyncClient) -> None:
    statement = (await client.get("metadata")).json()
    told = {one["type"]: one for one in statement["rest"][0]["resource"]}
    for name, one in told.items():
        assert one["profile"] == f"http://hl7.org/fhir/StructureDefinition/{name}"
    plans = {url.rpartition("/")[2] for url in told["CarePlan"]["supportedProfile"]}
    assert {"kw-care-plan", "kw-discharge-plan", "UKCore-CarePlan"} <= plans
    assert any("UKCore-Patient" in url for url in told["Patient"]["supportedProfile"])
    assert "supportedProfile" not in told["TestScript"]
    every = [url for one in told.values() for url in one.get("supportedProfile", ())]
    assert not any("Extension" in url or "/section-117" in url for url in every)
