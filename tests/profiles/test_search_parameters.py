"""The project's own search parameters: https://hl7.org/fhir/R4/searchparameter.html."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from fhir.resources.R4B.searchparameter import SearchParameter

from fhir_server.fhir import canonicals
from fhir_server.fhir.definitions import PROFILES, project_parameters
from fhir_server.fhir.json import Resource
from fhir_server.search.extract import extract, routes_of
from fhir_server.validation.structure import check_resource
from tests.support import REPOSITORY, caseload, found_ids, put

FILES = sorted((PROFILES / "search-parameters").glob("*.json"))
PAGE = REPOSITORY / "docs" / "api" / "search-parameters.md"
EXTENSIONS = {value for name, value in vars(canonicals).items() if name.endswith("_EXTENSION")}


def load(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return content


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def parameter(request: pytest.FixtureRequest) -> dict[str, Any]:
    return load(request.param)


def test_there_are_some() -> None:
    assert len(FILES) == sum(map(len, project_parameters().values())) == 10


def test_is_valid_and_named_as_its_file(parameter: dict[str, Any]) -> None:
    SearchParameter.model_validate(parameter)
    assert check_resource(parameter, expected_type="SearchParameter") == []
    assert parameter["id"] == f"{parameter['base'][0]}-{parameter['code']}"
    assert parameter["url"] == f"{canonicals.KW}/SearchParameter/{parameter['id']}"
    assert (PROFILES / "search-parameters" / f"{parameter['id']}.json").is_file()
    assert parameter["status"] == "active"


def test_leads_somewhere_in_its_type(parameter: dict[str, Any]) -> None:
    (base,) = parameter["base"]
    found = {one.code: one for one in project_parameters()[base]}
    assert routes_of(found[parameter["code"]], base)


def test_names_extensions_as_the_code_does(parameter: dict[str, Any]) -> None:
    for text in parameter["expression"].split("'")[1::2]:
        assert text in EXTENSIONS


def test_is_on_the_page_of_the_interface(parameter: dict[str, Any]) -> None:
    row = f"| {parameter['base'][0]} | `{parameter['code']}` | `{parameter['type']}` |"
    assert row in PAGE.read_text("utf-8")
    assert parameter["description"] in PAGE.read_text("utf-8")


def test_somebody_of_the_caseload_is_found_by_it(parameter: dict[str, Any]) -> None:
    (base,), code = parameter["base"], parameter["code"]
    found = [
        value
        for bundle in caseload()
        for entry in bundle["entry"]
        if entry["resource"]["resourceType"] == base
        for name, value in extract(entry["resource"])
        if name == code
    ]
    assert found


async def test_the_capability_statement_names_it_by_its_own_address(
    client: httpx.AsyncClient,
) -> None:
    types = (await client.get("metadata")).json()["rest"][0]["resource"]
    shown = {
        one["definition"]: one["name"]
        for described in types
        for one in described["searchParam"]
        if one.get("definition", "").startswith(canonicals.KW)
    }
    assert shown == {load(path)["url"]: load(path)["code"] for path in FILES}


async def test_ratings_are_found_by_status_category_and_code(client: httpx.AsyncClient) -> None:
    for resource_id, status, code in (("a", "active", "red"), ("b", "inactive", "red")):
        await put(client, flag(resource_id, status, code))
    await put(client, flag("c", "active", "green"))
    category = f"category={canonicals.FLAG_CATEGORY}|{canonicals.DSR_ADMISSION_RISK}"
    assert await found_ids(client, f"Flag?{category}&status=active&code=red") == ["a"]
    assert await found_ids(client, f"Flag?code={canonicals.DSR_RATING}|red") == ["a", "b"]
    assert await found_ids(client, "Flag?code:not=red") == ["c"]
    assert await found_ids(client, "Flag?minimum-until=ge2026-03-15&status=active") == ["a", "c"]


def flag(resource_id: str, status: str, code: str) -> Resource:
    def concept(system: str, code: str) -> Resource:
        return {"coding": [{"system": system, "code": code}]}

    ended = concept(canonicals.RATING_END_REASON, "superseded")
    period = {"start": "2026-03-01T09:00:00Z"}
    extensions: list[Resource] = [
        {"url": canonicals.MINIMUM_UNTIL_EXTENSION, "valueDate": "2026-03-15"}
    ]
    if status == "inactive":
        period["end"] = "2026-03-20T09:00:00Z"
        extensions.append(
            {"url": canonicals.RATING_END_REASON_EXTENSION, "valueCodeableConcept": ended}
        )
    return {
        "resourceType": "Flag",
        "id": resource_id,
        "extension": extensions,
        "period": period,
        "author": {"reference": "PractitionerRole/1"},
        "status": status,
        "category": [concept(canonicals.FLAG_CATEGORY, canonicals.DSR_ADMISSION_RISK)],
        "code": concept(canonicals.DSR_RATING, code),
        "subject": {"reference": "Patient/1"},
    }
