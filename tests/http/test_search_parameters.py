"""SearchParameter resources take effect: https://hl7.org/fhir/R4/searchparameter.html

`keyworking reindex` runs in a process of its own, on the file that the server has open.
"""

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from fhir.resources.R4B.capabilitystatement import CapabilityStatement
from fhir.resources.R4B.searchparameter import SearchParameter

from fhir_server.settings import Settings
from tests.stores import store_at
from tests.support import (
    REPOSITORY,
    ServerProcess,
    assert_outcome,
    body,
    create,
    found_ids,
    outcome_issues,
    put,
)

_COMMAND: Final = "from fhir_server.cli import main; main()"
DISPLAY_NAME: Final = "http://example.org/extension/known-as"


def parameter(code: str, expression: str, kind: str = "token", **more: Any) -> dict[str, Any]:
    """A SearchParameter that R4B's own model takes as valid."""
    base = more.pop("base", [expression.partition(".")[0].strip("(")])
    resource = {
        "resourceType": "SearchParameter",
        "id": code,
        "url": f"http://example.org/SearchParameter/{code}",
        "name": "Parameter",
        "status": "active",
        "description": "For a test.",
        "code": code,
        "base": base,
        "type": kind,
        "expression": expression,
        **more,
    }
    SearchParameter.model_validate(resource)
    return resource


async def reindex(store: str) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("KEYWORKING_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _COMMAND, "reindex", "--store", store),
        cwd=REPOSITORY,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said
    return said.decode()


async def added(client: httpx.AsyncClient, settings: Settings, *given: dict[str, Any]) -> None:
    """The parameters, indexed."""
    for one in given:
        await put(client, one)
    await reindex(settings.store)


# From a new parameter to what it finds


async def test_a_new_parameter_is_refused_until_reindex_and_found_from_then_on(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    first = await create(client, {"resourceType": "Patient", "multipleBirthInteger": 2})
    await put(client, parameter("birth-order", "Patient.multipleBirth as integer", "number"))
    refused = await client.get("Patient?birth-order=2")
    said = "'birth-order' of Patient is not indexed yet"
    assert_outcome(refused, 400, "invalid", said, "http.birth-order")
    assert "keyworking reindex" in refused.text
    assert "Searchable: birth-order of Patient" in await reindex(settings.store)
    second = await create(client, {"resourceType": "Patient", "multipleBirthInteger": 2})
    await create(client, {"resourceType": "Patient", "multipleBirthInteger": 3})
    assert await found_ids(client, "Patient?birth-order=2") == [first["id"], second["id"]]
    assert await found_ids(client, "Patient?birth-order=gt2&_count=1") != []


async def test_chains_includes_and_sorts_go_by_added_parameters(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    await added(
        client,
        settings,
        parameter("known-as", f"Patient.extension('{DISPLAY_NAME}').value as string", "string"),
        parameter("about", "Flag.subject", "reference", target=["Patient"]),
    )
    for name, resource_id in (("Birch", "b"), ("Ash", "a")):
        known_as = {"url": DISPLAY_NAME, "valueString": name}
        await put(client, {"resourceType": "Patient", "id": resource_id, "extension": [known_as]})
        flag = {"status": "active", "code": {"text": "x"}}
        subject = {"reference": f"Patient/{resource_id}"}
        await put(client, {"resourceType": "Flag", "id": resource_id, **flag, "subject": subject})
    assert await found_ids(client, "Patient?_sort=known-as") == ["a", "b"]
    assert await found_ids(client, "Patient?_sort=-known-as") == ["b", "a"]
    assert await found_ids(client, "Patient?known-as:contains=irc") == ["b"]
    assert await found_ids(client, "Patient?known-as:missing=true") == []
    assert await found_ids(client, "Flag?about=a") == ["a"]
    assert await found_ids(client, "Flag?about.known-as=ash") == ["a"]
    assert await found_ids(client, "Flag?about:Patient.known-as=birch") == ["b"]
    assert await found_ids(client, "Patient?_filter=known-as sw bi") == ["b"]
    assert await found_ids(client, "Patient?_filter=known-as ne ash") == ["b"]
    assert await found_ids(client, "Flag?_filter=about.known-as eq ash") == ["a"]
    assert await found_ids(client, "Flag?_filter=about re Patient/b") == ["b"]
    assert await found_ids(client, "Patient?_has:Flag:about:_id=b") == ["b"]
    assert await included(client, "Flag?_id=a&_include=Flag:about") == ["Patient/a"]
    assert await included(client, "Flag?_id=a&_include=Flag:*") == ["Patient/a"]
    assert await included(client, "Patient?_id=b&_revinclude=Flag:about") == ["Flag/b"]
    for asked in ("known-as=ash", "_filter=known-as eq ash", "known-as:missing=true"):
        refused = await client.get(f"Patient?{asked}&_contained=true")
        assert_outcome(refused, 400, "not-supported", "were added", "http._contained")


async def included(client: httpx.AsyncClient, search: str) -> list[str]:
    entries = (await client.get(search)).json()["entry"]
    return [
        f"{entry['resource']['resourceType']}/{entry['resource']['id']}"
        for entry in entries
        if entry["search"]["mode"] == "include"
    ]


@pytest.mark.parametrize(
    "search",
    [
        "Patient?_sort=known-as",
        "Flag?patient.known-as=x",
        "Patient?_has:Flag:about:_id=b",
        "Flag?about.name=b",
        "Flag?_include=Flag:about",
        "Patient?_revinclude=Flag:about",
        "?_type=Patient,Flag&known-as=x",
        "Patient?known-as:missing=true",
        "Patient?_filter=known-as eq x",
        "Flag?_filter=about.name eq x",
    ],
)
async def test_no_way_leads_through_what_is_not_indexed_yet(
    client: httpx.AsyncClient, search: str
) -> None:
    await put(client, parameter("known-as", "Patient.name.text", "string"))
    await put(client, parameter("about", "Flag.subject", "reference", target=["Patient"]))
    refused = await client.get(search)
    assert refused.status_code == 400
    assert any("is not indexed yet" in issue["diagnostics"] for issue in outcome_issues(refused))


async def test_lenient_handling_leaves_it_out_and_says_so(client: httpx.AsyncClient) -> None:
    await put(client, parameter("known-as", "Patient.name.text", "string"))
    answer = await client.get("Patient?known-as=x", headers={"Prefer": "handling=lenient"})
    assert answer.status_code == 200
    assert "is not indexed yet" in answer.text


async def test_conditions_go_by_added_parameters(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    await added(client, settings, parameter("known-as", "Patient.name.text", "string"))
    patient = {"resourceType": "Patient", "name": [{"text": "Ash"}]}
    created = await create(client, patient)
    again = await client.put("Patient?known-as:exact=Ash", **body({**patient, "active": True}))
    assert again.status_code == 200
    assert again.json()["id"] == created["id"]


# What ends it


@pytest.mark.parametrize("how", ["delete", "retire", "patch", "transaction"])
async def test_what_is_retired_or_deleted_is_not_found_by_any_more(
    client: httpx.AsyncClient, settings: Settings, how: str
) -> None:
    one = parameter("birth-order", "Patient.multipleBirth as integer", "number")
    await added(client, settings, one)
    assert (await client.get("Patient?birth-order=2")).status_code == 200
    await ended(client, how, one)
    refused = await client.get("Patient?birth-order=2")
    assert_outcome(refused, 400, "invalid", "'birth-order' is not a search parameter of Patient")
    assert (await client.get("SearchParameter/birth-order/_history/1")).status_code == 200


async def ended(client: httpx.AsyncClient, how: str, one: dict[str, Any]) -> None:
    match how:
        case "delete":
            response = await client.delete("SearchParameter/birth-order")
        case "retire":
            response = await client.put(
                "SearchParameter/birth-order", **body({**one, "status": "retired"})
            )
        case "patch":
            patch = b'[{"op": "replace", "path": "/status", "value": "retired"}]'
            as_patch = {"Content-Type": "application/json-patch+json"}
            response = await client.patch(
                "SearchParameter/birth-order", content=patch, headers=as_patch
            )
        case _:
            request = {"method": "DELETE", "url": "SearchParameter/birth-order"}
            bundle = {"resourceType": "Bundle", "type": "transaction"}
            response = await client.post("", **body({**bundle, "entry": [{"request": request}]}))
    assert response.status_code in (200, 204), response.text


async def test_a_page_is_not_continued_by_what_is_gone(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    one = parameter("birth-order", "Patient.multipleBirth as integer", "number")
    await added(client, settings, one)
    for _ in range(3):
        await create(client, {"resourceType": "Patient", "multipleBirthInteger": 2})
    page = (await client.get("Patient?birth-order=2&_count=2")).json()
    (following,) = (link["url"] for link in page["link"] if link["relation"] == "next")
    assert (await client.get(following)).status_code == 200
    await ended(client, "delete", one)
    assert_outcome(await client.get(following), 400, "invalid", "is not a search parameter")


async def test_a_changed_expression_is_indexed_anew_and_a_changed_text_is_not(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    one = parameter("x", "Patient.gender")
    await added(client, settings, one)
    await put(client, {**one, "description": "Said in other words."})
    assert (await client.get("Patient?x=male")).status_code == 200
    await put(client, {**one, "expression": "Patient.active"})
    assert_outcome(await client.get("Patient?x=true"), 400, "invalid", "not indexed yet")


# What cannot take effect


REFUSED: Final[list[tuple[dict[str, Any], str, str]]] = [
    (parameter("x", "Patient.nickname"), "expression", "is no path of Patient"),
    (parameter("x", "Patient.name.where(use = usual)"), "expression", "is no path"),
    (parameter("x", "Patient.name"), "expression", "leads to HumanName in Patient, which no token"),
    (parameter("x", "Patient.name.given.first()"), "expression", "is no path of Patient"),
    (parameter("x", "Patient.deceased.exists()"), "expression", "is no path of Patient"),
    (parameter("x", "Observation.value as Nonsense"), "expression", "leads to nothing in"),
    (parameter("x", "Patient"), "expression", "is more than a path to elements"),
    (parameter("x", "Patient.meta.lastUpdated", "date"), "expression", "_lastUpdated searches"),
    (parameter("x", "Patient.gender", base=["Patient", "Flag"]), "expression", "nothing in Flag"),
    (parameter("x", "Patient.gender | "), "expression", "is no path"),
    (parameter("x", "(" * 500 + "Patient.gender" + ")" * 500), "expression", "is no path"),
    (parameter("x", "Patient.extension" + ".value.extension" * 20), "expression", "is no path"),
    (parameter("x", "Patient.active | " * 200 + "Patient.active"), "expression", "longer than"),
    (parameter("x", "Patient.name[99999999999].given", "string"), "expression", "is no path"),
    (parameter("x", "Patient.name[x].given", "string"), "expression", "is no path"),
    (parameter("x", "Patient[0].active", base=["Patient"]), "expression", "is no path"),
    (parameter("x", "Patient.where(active = 'x').gender"), "expression", "is no path"),
    (
        parameter("x", "Patient.link.other.where(resolve() is '(')", "reference"),
        "expression",
        "is no path",
    ),
    (parameter("x", "Bundle.entry.resource.name", "string"), "expression", "is no path"),
    (parameter("x", "Patient.gender", "special"), "type", "'special' is not supported; token"),
    (parameter("x", "Patient.gender", "composite"), "type", "'composite' is not supported"),
    (parameter("x", "Patient.name", "string", xpathUsage="phonetic"), "xpathUsage", "normal is"),
    (parameter("_x", "Patient.gender", id="x"), "code", "cannot be the name of a parameter"),
    (parameter("x.y", "Patient.gender"), "code", "cannot be the name of a parameter"),
    (parameter("x:y", "Patient.gender", id="x"), "code", "cannot be the name of a parameter"),
]


@pytest.mark.parametrize(("one", "place", "text"), REFUSED)
async def test_an_active_one_that_cannot_be_used_is_refused_with_the_reason(
    client: httpx.AsyncClient, one: dict[str, Any], place: str, text: str
) -> None:
    address = f"SearchParameter/{one['id']}"
    refused = await client.put(address, **body(one))
    assert_outcome(refused, 422, "not-supported", text, f"SearchParameter.{place}")
    assert "with another status than active it is stored" in refused.text
    assert (await client.get(address)).status_code == 404
    stored = await client.put(address, **body({**one, "status": "draft"}))
    assert stored.status_code == 201, stored.text


async def test_one_without_an_expression_is_refused(client: httpx.AsyncClient) -> None:
    one = parameter("x", "Patient.gender")
    del one["expression"]
    refused = await client.put("SearchParameter/x", **body(one))
    assert_outcome(refused, 422, "not-supported", "no expression", "SearchParameter.expression")


@pytest.mark.parametrize(
    ("code", "expression", "owner"),
    [
        ("gender", "Patient.gender", "http://hl7.org/fhir/SearchParameter/individual-gender"),
        ("status", "Flag.status", "https://keyworking.example/fhir/SearchParameter/Flag-status"),
        ("x", "Patient.active", "SearchParameter/first"),
        ("x", "DomainResource.language", "SearchParameter/first"),
    ],
)
async def test_a_code_that_a_type_has_already_is_refused(
    client: httpx.AsyncClient, code: str, expression: str, owner: str
) -> None:
    await put(client, parameter("x", "Patient.gender", id="first"))
    second = parameter(code, expression, id="second", url="http://example.org/second")
    refused = await client.put("SearchParameter/second", **body(second))
    text = f"has a search parameter '{code}' already: {owner}; choose another code"
    assert_outcome(refused, 409, "duplicate", text, "SearchParameter.code")


async def test_of_two_of_one_code_in_a_transaction_neither_is_stored(
    client: httpx.AsyncClient,
) -> None:
    entries = [
        {
            "resource": parameter("x", "Patient.gender", id=name),
            "request": {"method": "PUT", "url": f"SearchParameter/{name}"},
        }
        for name in ("first", "second")
    ]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    assert (await client.post("", **body(bundle))).status_code == 409
    assert (await client.get("SearchParameter/first")).status_code == 404
    assert_outcome(await client.get("Patient?x=male"), 400, "invalid", "is not a search parameter")


async def test_a_code_is_free_again_when_its_owner_is_gone(client: httpx.AsyncClient) -> None:
    await put(client, parameter("x", "Patient.gender", id="first"))
    await client.delete("SearchParameter/first")
    await put(client, parameter("x", "Patient.active", id="second"))


async def test_a_description_of_what_the_server_has_is_stored_and_changes_nothing(
    client: httpx.AsyncClient,
) -> None:
    url = "http://hl7.org/fhir/SearchParameter/individual-gender"
    await put(client, parameter("gender", "Patient.gender", url=url))
    assert (await client.get("Patient?gender=male")).status_code == 200


async def test_drafts_take_no_effect(client: httpx.AsyncClient) -> None:
    await put(client, parameter("x", "Patient.gender", status="draft"))
    assert_outcome(await client.get("Patient?x=male"), 400, "invalid", "is not a search parameter")


# What the server says of itself


async def test_the_capability_statement_names_it_once_it_is_ready(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    one = parameter("about", "Flag.subject", "reference", target=["Patient"])
    await put(client, one)
    assert await described(client) == ([], False)
    await reindex(settings.store)
    shown = {"name": "about", "definition": one["url"], "type": "reference"}
    assert await described(client) == ([shown], True)
    await client.delete("SearchParameter/about")
    assert await described(client) == ([], False)


async def described(client: httpx.AsyncClient) -> tuple[list[dict[str, str]], bool]:
    """What is said of `about`, and whether it may be included."""
    statement = await client.get("metadata")
    CapabilityStatement.model_validate_json(statement.content)
    types = statement.json()["rest"][0]["resource"]
    (flag,) = (one for one in types if one["type"] == "Flag")
    shown = [one for one in flag["searchParam"] if one["name"] == "about"]
    return shown, "Flag:about" in flag["searchInclude"]


# Several server processes


@pytest.fixture
def two_servers(tmp_path: Path) -> Iterator[tuple[ServerProcess, ServerProcess]]:
    """On one file, as `--workers 2` has them."""
    servers = tuple(ServerProcess(tmp_path / "two.db", tmp_path / f"{n}.log") for n in range(2))
    try:
        for one in servers:
            one.start()
        yield servers[0], servers[1]
    finally:
        for one in servers:
            one.stop()


async def test_every_server_process_goes_along(
    two_servers: tuple[ServerProcess, ServerProcess], tmp_path: Path
) -> None:
    here, there = (httpx.AsyncClient(base_url=server.base + "/") for server in two_servers)
    async with here, there:
        one = parameter("birth-order", "Patient.multipleBirth as integer", "number")
        patient = {"resourceType": "Patient", "multipleBirthInteger": 2}
        made = [(await create(there, patient))["id"]]
        await put(here, one)
        refused = await there.get("Patient?birth-order=2")
        assert_outcome(refused, 400, "invalid", "not indexed yet")
        await reindex(store_at(tmp_path / "two.db"))
        made.append((await create(there, patient))["id"])
        made.append((await create(here, patient))["id"])
        for client in (here, there):
            assert await found_ids(client, "Patient?birth-order=2") == made
        await here.delete("SearchParameter/birth-order")
        refused = await there.get("Patient?birth-order=2")
        assert_outcome(refused, 400, "invalid", "is not a search parameter")
