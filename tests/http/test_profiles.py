"""Profiles on every way in: https://hl7.org/fhir/R4/http.html#create, validation.html."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from fhir_server.settings import Settings
from tests.support import FHIR_JSON, assert_outcome, body, client_of, outcome_issues
from tests.validation.profiles import URL, profile
from tests.validation.test_profile_data import MANIFEST, packed

Json = dict[str, Any]
CLAIMING: Final[Json] = {"resourceType": "Patient", "meta": {"profile": [URL]}}
WHOLE: Final[Json] = {**CLAIMING, "gender": "female"}
PLACE: Final = "Patient.gender"


@pytest.fixture
def package(tmp_path: Path) -> str:
    """One whose patients have a gender."""
    rule = {"id": "Patient.gender", "min": 1}
    return str(packed(tmp_path / "a.tgz", MANIFEST, profile("Patient", rule)))


@pytest.fixture
async def client(tmp_path: Path, package: str) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(tmp_path, packages=(package,)) as client:
        yield client


async def test_a_create_that_breaks_its_profile_is_unprocessable(
    client: httpx.AsyncClient,
) -> None:
    response = await client.post("Patient", **body(CLAIMING))
    assert_outcome(response, 422, "required", "gender is missing", PLACE)
    (issue,) = outcome_issues(response)
    assert issue["details"]["coding"] == [{"system": URL, "code": "min"}]
    assert (await client.post("Patient", **body(WHOLE))).status_code == 201


async def test_what_breaks_r4_too_is_a_bad_request(client: httpx.AsyncClient) -> None:
    response = await client.post("Patient", **body({**CLAIMING, "active": 1}))
    assert_outcome(response, 400, "required", "gender is missing", PLACE)
    assert_outcome(response, 400, "value", "must be true or false", "Patient.active")


async def test_an_update_and_a_patch_are_checked(client: httpx.AsyncClient) -> None:
    assert_outcome(
        await client.put("Patient/p", **body({**CLAIMING, "id": "p"})), 422, "required", "gender"
    )
    assert (await client.put("Patient/p", **body({**WHOLE, "id": "p"}))).status_code == 201
    patch = [{"op": "remove", "path": "/gender"}]
    headers = {"content-type": "application/json-patch+json"}
    response = await client.patch("Patient/p", content=json.dumps(patch), headers=headers)
    assert_outcome(response, 422, "required", "gender is missing", PLACE)


@pytest.mark.parametrize(("kind", "status"), [("transaction", 422), ("batch", 200)])
async def test_the_entries_of_a_bundle_are_checked(
    client: httpx.AsyncClient, kind: str, status: int
) -> None:
    request = {"method": "POST", "url": "Patient"}
    entries = [{"request": request, "resource": each} for each in (WHOLE, CLAIMING)]
    bundle = {"resourceType": "Bundle", "type": kind, "entry": entries}
    response = await client.post("", **body(bundle))
    assert response.status_code == status
    assert "gender is missing" in response.text
    stored = (await client.get("Patient?_summary=count")).json()["total"]
    assert stored == (0 if kind == "transaction" else 1)


RULES: Final[Json] = {"implicitRules": "https://elsewhere.example/rules"}
REFUSED: Final = ("not-supported", "cannot be ignored; leave implicitRules out")


async def test_rules_that_are_not_known_are_refused_by_every_way_in(
    client: httpx.AsyncClient,
) -> None:
    """https://hl7.org/fhir/R4/resource.html#implicitRules: a modifier is not to be ignored."""
    ruled, at = {"resourceType": "Patient", **RULES}, "Patient.implicitRules"
    assert_outcome(await client.post("Patient", **body(ruled)), 400, *REFUSED, at)
    assert_outcome(await client.put("Patient/r", **body({**ruled, "id": "r"})), 400, *REFUSED, at)
    made = (await client.post("Patient", **body({"resourceType": "Patient"}))).json()["id"]
    patch = [{"op": "add", "path": "/implicitRules", "value": RULES["implicitRules"]}]
    headers = {"content-type": "application/json-patch+json"}
    patched = await client.patch(f"Patient/{made}", content=json.dumps(patch), headers=headers)
    assert_outcome(patched, 422, *REFUSED, at)
    link = {"other": {"reference": "#p"}, "type": "seealso"}
    holder = {"resourceType": "Patient", "contained": [{**ruled, "id": "p"}], "link": [link]}
    held = await client.post("Patient", **body(holder))
    assert_outcome(held, 400, *REFUSED, "Patient.contained[0].implicitRules")
    entry = {"request": {"method": "POST", "url": "Patient"}, "resource": ruled}
    for more in ({"entry": [entry]}, RULES):
        bundle = {"resourceType": "Bundle", "type": "transaction", **more}
        assert_outcome(await client.post("", **body(bundle)), 400, *REFUSED)
    assert (await client.get("Patient?_summary=count")).json()["total"] == 1


async def test_warnings_come_back_when_an_outcome_is_asked_for(client: httpx.AsyncClient) -> None:
    sent = {"resourceType": "Patient", "meta": {"profile": ["http://example.org/none"]}}
    prefer = {**FHIR_JSON, "Prefer": "return=OperationOutcome"}
    response = await client.post("Patient", content=json.dumps(sent), headers=prefer)
    assert response.status_code == 201
    told = [(i["severity"], i.get("expression")) for i in outcome_issues(response)]
    assert ("warning", ["Patient.meta.profile[0]"]) in told
    assert told[0] == ("information", None)


async def test_settings_require_and_refuse_and_warn(tmp_path: Path, package: str) -> None:
    required = (f"Patient:maritalStatus=http://example.org/m|S={URL}",)
    single = {"maritalStatus": {"coding": [{"system": "http://example.org/m", "code": "S"}]}}
    sent: Json = {"resourceType": "Patient", **single}
    given: Json = {"packages": (package,), "required_profiles": required}
    async with client_of(tmp_path, **given, unknown_profiles="refuse") as client:
        assert_outcome(await client.post("Patient", **body(sent)), 422, "required", "gender")
        response = await client.post("Patient", **body({"resourceType": "Patient"}))
        assert response.status_code == 201
        unknown = {"resourceType": "Patient", "meta": {"profile": ["http://example.org/none"]}}
        response = await client.post("Patient", **body(unknown))
        assert_outcome(response, 422, "not-found", "is not known here")
    async with client_of(tmp_path, **given, lenient_profiles=(URL,)) as client:
        assert (await client.post("Patient", **body(sent))).status_code == 201


async def test_a_required_profile_that_is_not_known_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"the required profile http://example.org/x is not known"):
        async with client_of(tmp_path, required_profiles=("Patient=http://example.org/x",)):
            pass


@pytest.mark.parametrize("text", ["Patient", "Dragon=http://example.org/x", "Patient:a=http://x"])
def test_a_requirement_that_says_nothing_is_no_setting(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match=r"required_profiles|is not Type=profile"):
        Settings(store=f"sqlite:///{tmp_path}/test.db", required_profiles=(text,))


async def test_any_number_of_warnings_refuses_nothing(client: httpx.AsyncClient) -> None:
    """dom-6, of each of 600 resources without a narrative: more than an answer has issues."""
    patient = {"resourceType": "Patient", "active": True}
    request = {"method": "POST", "url": "Patient"}
    entries = [{"resource": patient, "request": request} for _ in range(600)]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    response = await client.post("", **body(bundle))
    assert response.status_code == 200, response.text[:500]
