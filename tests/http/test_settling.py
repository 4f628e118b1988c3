"""Codes of value sets that are elsewhere: https://hl7.org/fhir/R4/terminologies.html#strength.

A profile binds Patient.maritalStatus as required, and Patient.communication.language as extensible,
to a value set that no table of the server has.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.fhir_operations.terms import SYSTEM, TREE, below, value_set
from tests.support import FHIR_JSON, ServerProcess, assert_outcome, body, client_of, outcome_issues
from tests.support import put as stored
from tests.validation.profiles import URL, profile
from tests.validation.test_profile_data import MANIFEST, packed

Json = dict[str, Any]
TREES: Final = value_set("trees", below("oak"))
STATUS: Final = "Patient.maritalStatus"
LANGUAGE: Final = "Patient.communication[0].language"
_RULES: Final = (
    {"id": STATUS, "binding": {"strength": "required", "valueSet": TREES["url"]}},
    {
        "id": "Patient.communication.language",
        "binding": {"strength": "extensible", "valueSet": TREES["url"]},
    },
)


def package(folder: Path, *more: Json) -> str:
    return str(packed(folder / "a.tgz", MANIFEST, profile("Patient", *_RULES), *more))


def concept(code: str, system: str = TREE) -> Json:
    return {"coding": [{"system": system, "code": code}]}


def patient(code: str = "oak", language: str = "oak", **more: Any) -> Json:
    return {
        "resourceType": "Patient",
        "meta": {"profile": [URL]},
        "maritalStatus": concept(code),
        "communication": [{"language": concept(language)}],
        **more,
    }


async def told(client: httpx.AsyncClient, resource: Json) -> list[tuple[str, str, str]]:
    """Severity, place and text of what a create tells of that value set."""
    headers = {**FHIR_JSON, "Prefer": "return=OperationOutcome"}
    response = await client.post("Patient", content=json.dumps(resource), headers=headers)
    assert response.status_code == 201, response.text
    return [
        (issue["severity"], issue["expression"][0], issue["diagnostics"])
        for issue in outcome_issues(response)
        if TREES["url"] in issue["diagnostics"]
    ]


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(tmp_path, packages=(package(tmp_path),)) as client:
        yield client


async def test_what_nobody_can_decide_is_told_and_taken(client: httpx.AsyncClient) -> None:
    text = f"is in {TREES['url']} could not be checked"
    found = await told(client, patient())
    assert [(severity, place) for severity, place, _ in found] == [
        ("warning", STATUS),
        ("information", LANGUAGE),
    ]
    assert all(text in said and "'oak'" in said for _, _, said in found)


async def test_stored_value_sets_decide(client: httpx.AsyncClient) -> None:
    await stored(client, SYSTEM)
    await stored(client, TREES)
    assert await told(client, patient()) == []
    refused = await client.post("Patient", **body(patient("stone")))
    assert_outcome(refused, 422, "code-invalid", f"needs a code of {TREES['url']}", STATUS)
    ((severity, place, _),) = await told(client, patient(language="stone"))
    assert (severity, place) == ("warning", LANGUAGE)
    foreign = patient(communication=[{"language": concept("x", "http://elsewhere")}])
    ((severity, place, _),) = await told(client, foreign)
    assert (severity, place) == ("information", LANGUAGE)


async def test_every_way_in_asks(client: httpx.AsyncClient) -> None:
    await stored(client, SYSTEM)
    await stored(client, TREES)
    wrong = patient("stone")
    update = await client.put("Patient/p", **body({**wrong, "id": "p"}))
    assert_outcome(update, 422, "code-invalid", "needs a code", STATUS)
    by_criteria = await client.put("Patient?identifier=1", **body(wrong))
    assert_outcome(by_criteria, 422, "code-invalid", "needs a code", STATUS)
    await stored(client, patient(id="p"))
    patch = [{"op": "replace", "path": "/maritalStatus/coding/0/code", "value": "stone"}]
    headers = {"content-type": "application/json-patch+json"}
    patched = await client.patch("Patient/p", content=json.dumps(patch), headers=headers)
    assert_outcome(patched, 422, "code-invalid", "needs a code", STATUS)
    meta = {"name": "meta", "valueMeta": {"tag": [{"code": "a"}]}}
    parameters = {"resourceType": "Parameters", "parameter": [meta]}
    await stored(client, {**TREES, "compose": {"include": [below("stone")]}})
    added = await client.post("Patient/p/$meta-add", **body(parameters))
    assert_outcome(added, 422, "code-invalid", "needs a code", STATUS)
    checked = await client.post("Patient/$validate", **body(patient()))
    assert ("error", [STATUS]) in [
        (i["severity"], i["expression"]) for i in outcome_issues(checked)
    ]


@pytest.mark.parametrize("kind", ["transaction", "batch"])
async def test_entries_are_asked_about(client: httpx.AsyncClient, kind: str) -> None:
    await stored(client, SYSTEM)
    await stored(client, TREES)
    request = {"method": "POST", "url": "Patient"}
    sent = [patient(), patient("stone"), patient("elm")]
    entries = [{"request": request, "resource": each} for each in sent]
    bundle = {"resourceType": "Bundle", "type": kind, "entry": entries}
    response = await client.post("", **body(bundle))
    count = (await client.get("Patient?_summary=count")).json()["total"]
    if kind == "batch":
        outcomes = [entry["response"]["status"][:3] for entry in response.json()["entry"]]
        assert (outcomes, count) == (["201", "422", "422"], 1)
        return
    assert count == 0
    for number in (1, 2):
        place = f"Bundle.entry[{number}].resource.maritalStatus"
        assert_outcome(response, 422, "code-invalid", "needs a code", place)


async def test_an_import_asks(client: httpx.AsyncClient) -> None:
    await stored(client, SYSTEM)
    await stored(client, TREES)
    lines = b"\n".join(json.dumps(patient(code)).encode() for code in ("oak", "stone"))
    headers = {"content-type": "application/fhir+ndjson", "prefer": "respond-async"}
    accepted = await client.post("$import", content=lines, headers=headers)
    assert accepted.status_code == 202, accepted.text
    answer = accepted
    while answer.status_code == 202:
        await asyncio.sleep(0.05)
        answer = await client.get(accepted.headers["content-location"])
    (file,) = answer.json()["error"]
    refused = (await client.get(file["url"])).text
    assert "needs a code" in refused
    assert "Line 2" in refused
    assert (await client.get("Patient?_summary=count")).json()["total"] == 1


async def test_a_package_brings_its_terminology_along(tmp_path: Path) -> None:
    """The checker knows it at once, and whoever asks the service, and nothing is stored."""
    place = package(tmp_path, {**SYSTEM}, {**TREES})
    async with client_of(tmp_path, packages=(place,)) as client:
        assert await told(client, patient()) == []
        refused = await client.post("Patient", **body(patient("stone")))
        assert_outcome(refused, 422, "code-invalid", "needs a code", STATUS)
        expanded = (await client.get(f"ValueSet/$expand?url={TREES['url']}")).json()
        codes = {one["code"] for one in expanded["expansion"]["contains"]}
        assert codes == {"oak", "sessile"}
        lookup = await client.get(f"CodeSystem/$lookup?system={TREE}&code=oak")
        assert "Oak tree" in lookup.text
        found = await client.get(f"Patient?language:in={TREES['url']}&_summary=count")
        assert found.json()["total"] == 1
        assert (await client.get("ValueSet?_summary=count")).json()["total"] == 0


async def test_the_terminology_server_decides_before_the_commit(tmp_path: Path) -> None:
    """What a patch leads to is known in the commit, where it is not asked: that is a warning."""
    other = ServerProcess(tmp_path / "other.db", tmp_path / "other.log")
    (tmp_path / "here").mkdir()
    await asyncio.to_thread(other.start)
    given: Json = {"packages": (package(tmp_path),), "terminology_server": other.base}
    try:
        async with (
            httpx.AsyncClient(base_url=other.base + "/") as there,
            client_of(tmp_path / "here", **given) as here,
        ):
            await stored(there, SYSTEM)
            await stored(there, TREES)
            assert await told(here, patient()) == []
            refused = await here.post("Patient", **body(patient("stone")))
            assert_outcome(refused, 422, "code-invalid", "needs a code", STATUS)
            await stored(here, patient(id="p"))
            patch = [{"op": "replace", "path": "/maritalStatus/coding/0/code", "value": "stone"}]
            headers = {
                "content-type": "application/json-patch+json",
                "prefer": "return=OperationOutcome",
            }
            patched = await here.patch("Patient/p", content=json.dumps(patch), headers=headers)
            assert patched.status_code == 200
            assert "could not be checked" in patched.text
    finally:
        await asyncio.to_thread(other.stop)


async def test_a_terminology_server_that_is_away_keeps_nothing_out(tmp_path: Path) -> None:
    given: Json = {"packages": (package(tmp_path),), "terminology_server": "http://127.0.0.1:9"}
    async with client_of(tmp_path, **given) as client:
        found = await told(client, patient())
        assert [severity for severity, _, _ in found] == ["warning", "information"]


async def test_a_lenient_profile_only_warns(tmp_path: Path) -> None:
    given: Json = {"packages": (package(tmp_path),), "lenient_profiles": (URL,)}
    async with client_of(tmp_path, **given) as client:
        await stored(client, SYSTEM)
        await stored(client, TREES)
        ((severity, place, _),) = await told(client, patient("stone"))
        assert (severity, place) == ("warning", STATUS)
