"""$export: https://hl7.org/fhir/uv/bulkdata/STU2/export.html, https://hl7.org/fhir/R4/async.html

The oracle is the search: what an export holds is what the same caller finds.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from fhir.resources.R4B import get_fhir_model_class

from fhir_operations import _export
from fhir_server.access.policy import Policy
from fhir_server.app import Application
from fhir_server.fhir import json
from fhir_server.search.ast import Everything, Node, Nothing, ReferenceTo
from fhir_server.settings import Settings
from tests.jobs import (
    LATER,
    finished,
    kicked_off,
    later,
    lines,
    served,
    settings_for,
    until,
    with_body,
)
from tests.support import assert_outcome, body, caseload, create, put

SYSTEM: Final = "http://example.org/export"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"max_entries": 1000, "max_body": 4 * 1024 * 1024})


def _names(resources: list[Any]) -> list[str]:
    return sorted(f"{resource['resourceType']}/{resource['id']}" for resource in resources)


async def _exported(client: httpx.AsyncClient, address: str, **more: Any) -> list[Any]:
    method = "POST" if more else "GET"
    manifest = await later(client, method, address, **more)
    assert manifest["error"] == []
    found = await lines(client, manifest["output"])
    names = _names(found)
    assert len(set(names)) == len(names), "each resource once"
    return found


async def _found(client: httpx.AsyncClient, search: str) -> list[Any]:
    found, url = [], search
    while url:
        response = await client.get(url)
        assert response.status_code == 200, response.text
        page = json.decode(response.content)
        found += [entry["resource"] for entry in page.get("entry", ())]
        url = {link["relation"]: link["url"] for link in page["link"]}.get("next", "")
    return found


async def _load(client: httpx.AsyncClient) -> None:
    for transaction in caseload():
        assert (await client.post("", **body(transaction))).status_code == 200


def _ordered(resources: list[Any]) -> list[Any]:
    return sorted(resources, key=lambda resource: (resource["resourceType"], resource["id"]))


async def test_an_export_of_everything_is_what_the_search_of_everything_finds(
    client: httpx.AsyncClient,
) -> None:
    await _load(client)
    exported = await _exported(client, "$export")
    found = await _found(client, "?_count=100")
    assert len(exported) > 750
    assert _ordered(exported) == _ordered(found)
    for resource in exported:
        model = get_fhir_model_class(resource["resourceType"])
        model.model_validate_json(json.encode(resource))


async def test_an_export_of_patients_is_what_their_compartments_hold(
    client: httpx.AsyncClient,
) -> None:
    await _load(client)
    exported = await _exported(client, "Patient/$export?_type=Patient,CarePlan,Flag,RiskAssessment")
    expected: dict[str, Any] = {}
    for patient in await _found(client, "Patient"):
        address = f"Patient/{patient['id']}/*?_type=Patient,CarePlan,Flag,RiskAssessment"
        expected |= {_names([one])[0]: one for one in await _found(client, address)}
    assert _names(exported) == sorted(expected)
    assert len(exported) > 90


async def _three_patients(client: httpx.AsyncClient) -> None:
    for name in "abc":
        await put(client, {"resourceType": "Patient", "id": name, "active": name != "c"})
        subject = {"reference": f"Patient/{name}"}
        for status in ("active", "draft"):
            plan = {"resourceType": "CarePlan", "id": f"{name}-{status}", "status": status}
            await put(client, {**plan, "intent": "plan", "subject": subject})
    await put(client, {"resourceType": "Organization", "id": "o", "name": "A trust"})


def _group(*members: dict[str, Any]) -> dict[str, Any]:
    return {
        "resourceType": "Group",
        "id": "g",
        "type": "person",
        "actual": True,
        "member": list(members),
    }


def _member(reference: str, **more: Any) -> dict[str, Any]:
    return {"entity": {"reference": reference}, **more}


async def test_an_export_of_a_group_has_the_records_of_its_active_members(
    client: httpx.AsyncClient,
) -> None:
    await _three_patients(client)
    ended, going_on = {"end": "2020-01-01"}, {"start": "2020-01-01"}
    group = _group(
        _member("Patient/a", period=going_on),
        _member("Patient/b", inactive=True),
        _member("Patient/c", period=ended),
        _member("Patient/nobody"),
    )
    await put(client, group)
    exported = await _exported(client, "Group/g/$export")
    # The group names b as well, and is in the compartment of a all the same.
    assert _names(exported) == ["CarePlan/a-active", "CarePlan/a-draft", "Group/g", "Patient/a"]


async def test_patients_may_be_named(client: httpx.AsyncClient) -> None:
    await _three_patients(client)
    await put(client, _group(_member("Patient/a"), _member("Patient/b")))
    named = [{"name": "patient", "valueReference": {"reference": "Patient/b"}}]
    sent = with_body({"resourceType": "Parameters", "parameter": named})
    expected = ["CarePlan/b-active", "CarePlan/b-draft", "Group/g", "Patient/b"]
    assert _names(await _exported(client, "Patient/$export", **sent)) == expected
    assert _names(await _exported(client, "Group/g/$export", **sent)) == expected


async def test_filters_of_one_type_are_alternatives(client: httpx.AsyncClient) -> None:
    await _three_patients(client)
    address = (
        "$export?_type=CarePlan,Patient,Organization"
        "&_typeFilter=CarePlan%3Fstatus%3Ddraft%26subject%3DPatient%2Fa"
        "&_typeFilter=CarePlan%3F_id%3Dc-active&_typeFilter=Patient%3Factive%3Dfalse"
    )
    assert _names(await _exported(client, address)) == [
        *("CarePlan/a-draft", "CarePlan/c-active", "Organization/o", "Patient/c")
    ]


async def test_since_leaves_out_what_was_not_changed_and_the_next_export_goes_on_from_there(
    client: httpx.AsyncClient,
) -> None:
    await _three_patients(client)
    manifest = await later(client, "GET", "$export?_type=Patient")
    assert len(await lines(client, manifest["output"])) == 3
    time = manifest["transactionTime"]
    address = f"$export?_since={time}"
    assert await _exported(client, address) == []
    await put(client, {"resourceType": "Patient", "id": "b", "gender": "female"})
    assert _names(await _exported(client, address)) == ["Patient/b"]


async def test_what_is_deleted_is_absent(client: httpx.AsyncClient) -> None:
    await _three_patients(client)
    await client.delete("CarePlan/a-draft", headers={"if-match": 'W/"1"'})
    await client.delete("Patient/c")
    everything = _names(await _exported(client, "$export"))
    assert "CarePlan/a-draft" not in everything
    assert "CarePlan/c-draft" in everything
    of_patients = _names(await _exported(client, "Patient/$export"))
    assert "CarePlan/c-draft" not in of_patients, "whose patient is not there any more"


async def test_deletions_since_then_are_told_as_transactions(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_export, "_AT_ONCE", 2)
    await _three_patients(client)
    await client.delete("Organization/o")
    first = await later(client, "GET", "$export")
    assert first["deleted"] == []
    await client.delete("Patient/c")
    for name in ("d", "e", "f"):
        await put(client, {"resourceType": "Patient", "id": name})
        await client.delete(f"Patient/{name}")
    await put(client, {"resourceType": "Patient", "id": "d"})
    await client.delete("Patient/e")  # which it is already
    address = f"$export?_since={first['transactionTime']}"
    manifest = await later(client, "GET", address)
    bundles = await lines(client, manifest["deleted"])
    entries = [bundle["entry"][0]["request"] for bundle in bundles]
    assert sorted(entry["url"] for entry in entries) == ["Patient/c", "Patient/e", "Patient/f"]
    assert _names(await lines(client, manifest["output"])) == ["Patient/d"]
    for bundle in bundles:
        assert (await client.post("", **body(bundle))).status_code == 200
    of_patients = await later(client, "GET", f"Patient/{address}")
    assert of_patients["deleted"] == []
    only = await later(client, "GET", f"{address}&_type=CarePlan")
    assert only["deleted"] == only["output"] == []


async def test_the_manifest_says_what_was_asked_and_when(client: httpx.AsyncClient) -> None:
    before = datetime.now(UTC)
    await _three_patients(client)
    headers = {**LATER, "accept": "application/fhir+json"}
    response = await client.get("$export?_type=Patient&_outputFormat=ndjson", headers=headers)
    done = await finished(client, response.headers["content-location"])
    assert done.headers["content-type"] == "application/json"
    assert done.headers["expires"]
    manifest = done.json()
    assert manifest["request"].endswith("/fhir/$export?_type=Patient&_outputFormat=ndjson")
    assert before < datetime.fromisoformat(manifest["transactionTime"]) < datetime.now(UTC)
    assert manifest["requiresAccessToken"] is False
    (output,) = manifest["output"]
    assert (output["type"], output["count"]) == ("Patient", 3)
    assert done.json() == (await client.get(response.headers["content-location"])).json()


@pytest.mark.parametrize("accept", ["application/fhir+ndjson", "*/*", "application/fhir+json", ""])
async def test_files_come_as_ndjson_whatever_is_accepted_and_compressed(
    client: httpx.AsyncClient, accept: str
) -> None:
    for number in range(30):
        await put(client, {"resourceType": "Patient", "id": f"p{number}", "active": True})
    (file,) = (await later(client, "GET", "$export?_type=Patient"))["output"]
    headers = {"accept": accept, "accept-encoding": "gzip"}
    response = await client.get(file["url"], headers=headers)
    assert response.headers["content-type"] == "application/fhir+ndjson"
    assert response.headers["content-encoding"] == "gzip"
    assert len(response.content.splitlines()) == file["count"] == 30
    head = await client.head(file["url"])
    assert (head.status_code, head.content) == (200, b"")


async def test_files_are_bounded_and_each_resource_is_in_one(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_export, "PART", 2000)
    monkeypatch.setattr(_export, "_AT_ONCE", 7)
    for number in range(60):
        text = "x" * (3000 if number % 20 == 0 else 100)
        await put(client, {"resourceType": "Patient", "id": f"p{number}", "name": [{"text": text}]})
    manifest = await later(client, "GET", "$export?_type=Patient")
    assert len(manifest["output"]) > 5
    exported = await lines(client, manifest["output"])
    assert len({one["id"] for one in exported}) == len(exported) == 60
    for file in manifest["output"]:
        size = len((await client.get(file["url"])).content)
        assert size <= 2000 or file["count"] == 1


async def test_files_vanish_with_their_job(client: httpx.AsyncClient) -> None:
    await _three_patients(client)
    address = await kicked_off(client, "GET", "$export")
    (file, *_) = (await finished(client, address)).json()["output"]
    assert (await client.get(file["url"])).status_code == 200
    await client.delete(address)
    assert_outcome(await client.get(file["url"]), 404, "not-found", "no such job")


async def test_inputs_and_other_names_are_no_files(client: httpx.AsyncClient) -> None:
    address = await kicked_off(client, "GET", "$export?_type=Patient")
    await finished(client, address)
    for name in ("request", "output-1", "output-9.ndjson", "../request", "%2e%2e/request"):
        assert (await client.get(f"{address}/Patient/{name}")).status_code == 404, name


@pytest.mark.parametrize(
    ("address", "expression", "text"),
    [
        ("$export?_outputFormat=text/csv", "http._outputFormat", "is not written"),
        ("$export?_type=Nonsense", "http._type", "is not a resource type of R4"),
        ("Patient/$export?_type=Organization", "http._type", "never in the compartment"),
        ("$export?_since=2020", "http._since", ""),
        ("$export?_typeFilter=Nonsense%3Fa%3Db", "http._typeFilter", "not among the types"),
        ("$export?_typeFilter=Patient%3Fcolour%3Dred", "http._typeFilter", "colour"),
        ("$export?_typeFilter=Patient%3F_count%3D1", "http._typeFilter", "not a criterion"),
        ("$export?_typeFilter=Patient%3Fx", "http._typeFilter", "is not a search"),
        ("$export?includeAssociatedData=LatestProvenanceResources", None, "allowed: "),
        ("$export?organizeOutputBy=Patient", None, "allowed: "),
        ("Patient/$export?patient=Patient/a", "http.patient", "Parameters resource"),
    ],
)
async def test_what_is_not_understood_is_refused_before_anything_begins(
    client: httpx.AsyncClient, address: str, expression: str | None, text: str
) -> None:
    response = await client.get(address, headers=LATER)
    assert response.status_code == 400, response.text
    issue = response.json()["issue"][0]
    assert text in issue["diagnostics"]
    assert expression is None or issue["expression"] == [expression]


async def test_filters_are_as_many_as_parameters_may_be(client: httpx.AsyncClient) -> None:
    one = {"name": "_typeFilter", "valueString": "Patient?active=true"}
    asked = {"resourceType": "Parameters", "parameter": [one] * 101}
    refused = await client.post("$export", **with_body(asked))
    assert_outcome(
        refused, 403, "too-costly", "101 filters; 100 are allowed", "Parameters.parameter[100]"
    )


async def test_it_is_answered_later_or_not_at_all(client: httpx.AsyncClient) -> None:
    for address in ("$export", "Patient/$export", "Group/nobody/$export"):
        refused = await client.get(address)
        assert_outcome(refused, 400, "invalid", "Prefer: respond-async", "http.Prefer")
    refused = await client.get("$export", headers={**LATER, "accept": "text/csv"})
    assert_outcome(refused, 406, "not-supported", "application/fhir+json")


async def test_the_capability_statement_says_that_this_is_bulk_data(
    client: httpx.AsyncClient,
) -> None:
    statement = (await client.get("metadata")).json()
    url = "http://hl7.org/fhir/uv/bulkdata/CapabilityStatement/bulk-data"
    assert statement["instantiates"] == [url]
    assert {one["name"] for one in statement["rest"][0]["operation"]} >= {"export", "import"}


async def test_a_group_that_is_not_there_has_no_export(client: httpx.AsyncClient) -> None:
    refused = await client.get("Group/nobody/$export", headers=LATER)
    assert_outcome(refused, 404, "not-found", "Group/nobody is not known")


async def test_who_is_no_member_is_not_exported_by_way_of_the_group(
    client: httpx.AsyncClient,
) -> None:
    await put(client, _group(_member("Patient/a")))
    named = [{"name": "patient", "valueReference": {"reference": "Patient/b"}}]
    sent = with_body({"resourceType": "Parameters", "parameter": named})
    refused = await client.post("Group/g/$export", **sent)
    assert_outcome(refused, 400, "invalid", "not an active member", "Parameters.parameter[0]")


class OnePatient:
    """Sees one young person's record, and the group."""

    def readable(self, resource_type: str) -> Node:
        if resource_type == "Group":
            return Everything()
        return ReferenceTo("{Patient}", ("Patient/a",))

    def writable(self, resource_type: str) -> Node:  # noqa: ARG002
        return Nothing()


@pytest.mark.parametrize("address", ["$export", "Patient/$export", "Group/g/$export"])
async def test_an_export_has_what_its_caller_may_see(tmp_path: Path, address: str) -> None:
    policies: dict[str, Policy] = {"restricted": OnePatient()}
    opened = served(settings_for(tmp_path), policies)
    async with opened as client_of, client_of("all") as every, client_of("restricted") as one:
        await _three_patients(every)
        await put(every, _group(_member("Patient/a"), _member("Patient/b")))
        names = _names(await _exported(one, address))
        assert names == ["CarePlan/a-active", "CarePlan/a-draft", "Group/g", "Patient/a"]
        (file, *_) = (await later(one, "GET", address))["output"]
        assert_outcome(await every.get(file["url"]), 404, "not-found", "no such job")


async def test_what_is_written_meanwhile_does_not_double_or_drop_anything(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_export, "PART", 1000)
    monkeypatch.setattr(_export, "_AT_ONCE", 5)
    created = [await create(client, {"resourceType": "Patient", "active": True}) for _ in range(60)]
    address = await kicked_off(client, "GET", "$export?_type=Patient,Practitioner")
    for patient in created:
        await put(client, {**patient, "active": False})
        await create(client, {"resourceType": "Patient"})
    manifest = (await finished(client, address)).json()
    exported = [one["id"] for one in await lines(client, manifest["output"])]
    assert len(set(exported)) == len(exported)
    assert {patient["id"] for patient in created} <= set(exported)


async def test_nothing_falls_between_two_exports(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_export, "PART", 1000)
    monkeypatch.setattr(_export, "_AT_ONCE", 5)
    for number in range(40):
        await put(client, {"resourceType": "Patient", "id": f"p{number}"})
    copy: dict[str, Any] = {}
    since = ""
    for turn in range(3):
        address = await kicked_off(client, "GET", f"$export?_type=Patient{since}")
        for number in range(turn, 60, 7):
            resource = {"resourceType": "Patient", "id": f"p{number}", "active": bool(turn % 2)}
            await put(client, resource)
        manifest = (await finished(client, address)).json()
        copy |= {one["id"]: one for one in await lines(client, manifest["output"])}
        since = f"&_since={manifest['transactionTime']}"
    copy |= {one["id"]: one for one in await _exported(client, f"$export?_type=Patient{since}")}
    there = {one["id"]: one for one in await _found(client, "Patient?_count=100")}
    assert copy == there


def _progress(client: httpx.AsyncClient, address: str, text: str) -> Callable[[], Any]:
    async def shown() -> bool:
        return text in (await client.get(address)).headers.get("x-progress", text)

    return shown


async def test_an_export_goes_on_where_its_process_left_it(
    client: httpx.AsyncClient, app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_export, "PART", 1000)
    monkeypatch.setattr(_export, "_AT_ONCE", 5)
    for number in range(100):
        await put(client, {"resourceType": "Patient", "id": f"p{number}"})
    address = await kicked_off(client, "GET", "$export")
    await until(_progress(client, address, " of 146 types"))
    await app.state.jobs.stop()
    assert (await client.get(address)).status_code == 202
    app.state.jobs.start()
    manifest = (await finished(client, address)).json()
    exported = [one["id"] for one in await lines(client, manifest["output"])]
    assert sorted(exported) == sorted(f"p{number}" for number in range(100))
