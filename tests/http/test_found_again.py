"""What is stored is found again by each of its search parameters, and reads back in both formats.

https://hl7.org/fhir/R4/search.html. The searches are made from the elements that fhirpathpy
finds by HL7's expressions (`tests/search/elements.py`). Our own examples and the synthetic
caseload always; NHS and HL7 files, and R4's own definitions, where they are at hand.
"""

import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final

import httpx
import pytest

from fhir_server.fhir import json, xml
from fhir_server.fhir.definitions import is_resource_type, search_parameters
from fhir_server.settings import Settings
from fhir_server.validation.structure import check_resource
from tests.search.elements import searches
from tests.support import (
    PACKAGE,
    REPOSITORY,
    SHARED,
    body,
    caseload,
    exact,
    needs_package,
    official_examples,
    without_server_parts,
)

Resource = dict[str, Any]
Search = tuple[str, str, str]
"""Type, parameter with its modifier, value."""

FOLDERS: Final = ("tests/validation/valid", "operations", "fhir_operations", "terminology")
DEFINITIONS: Final = 120
"""Of R4's own definitions."""
ABSENT: Final = 2
"""Resources without the parameter that are asked for along with the others."""
XML: Final = {"content-type": "application/fhir+xml", "accept": "application/fhir+xml"}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(
        update={"max_body": 16 * 1024 * 1024, "max_entries": 1000, "max_count": 1000}
    )


def _own() -> Iterator[Resource]:
    for folder in FOLDERS:
        for path in sorted((REPOSITORY / folder).glob("*.json")):
            yield json.decode_resource(path.read_bytes())
    for bundle in caseload()[::2]:
        for entry in bundle["entry"]:
            yield json.decode_resource(json.encode(entry["resource"]))


def _official() -> Iterator[Resource]:
    """The files, and what stands in their Bundles."""
    for path in sorted((SHARED / "examples").glob("*.json")):
        resource = json.decode_resource(path.read_bytes())
        yield resource
        if resource["resourceType"] == "Bundle":
            yield from (entry["resource"] for entry in resource["entry"] if "resource" in entry)


def _definitions() -> Iterator[Resource]:
    with tarfile.open(PACKAGE) as package:
        members = {member.name: member for member in package.getmembers()}
        names = sorted(
            name
            for name in members
            if is_resource_type(name.removeprefix("package/").partition("-")[0])
        )
        for name in names[:: len(names) // DEFINITIONS]:
            file = package.extractfile(members[name])
            assert file is not None
            yield json.decode_resource(file.read())


async def _stored(client: httpx.AsyncClient, resources: Iterator[Resource]) -> list[Resource]:
    """Those that R4 allows, each under an id of its own, as the server has them."""
    found = []
    for number, resource in enumerate(resources):
        if check_resource(resource):
            continue
        named = {**resource, "id": f"r{number}"}
        response = await client.put(f"{named['resourceType']}/{named['id']}", **body(named))
        assert response.status_code == 201, response.text
        found.append(json.decode_resource(response.content))
    return found


def _asked(stored: Sequence[Resource]) -> tuple[dict[Search, set[str]], dict[Search, set[str]]]:
    """The ids that each search must find, and those of each type and parameter."""
    by_search: dict[Search, set[str]] = {}
    by_parameter: dict[Search, set[str]] = {}
    for resource in stored:
        resource_type = resource["resourceType"]
        for code, modifier, text in searches(resource):
            search = (resource_type, f"{code}{modifier}", text)
            by_search.setdefault(search, set()).add(resource["id"])
            by_parameter.setdefault((resource_type, code, ""), set()).add(resource["id"])
    return by_search, by_parameter


async def _require_found(client: httpx.AsyncClient, stored: Sequence[Resource]) -> Counter[str]:
    """How many searches there were of each type of parameter."""
    by_search, by_parameter = _asked(stored)
    ids: dict[str, set[str]] = {}
    for resource in stored:
        ids.setdefault(resource["resourceType"], set()).add(resource["id"])
    asked: Counter[str] = Counter()
    missed = []
    for (resource_type, name, text), expected in by_search.items():
        code = name.partition(":")[0]
        without = sorted(ids[resource_type] - by_parameter[resource_type, code, ""])[:ABSENT]
        wanted = [*sorted(expected), *without]
        form = {name: text, "_id": ",".join(wanted), "_count": "1000", "_elements": "id"}
        response = await client.post(f"{resource_type}/_search", data=form)
        assert response.status_code == 200, (resource_type, name, text, response.text)
        found = {entry["resource"]["id"] for entry in response.json().get("entry", ())}
        if found != expected:
            missed.append((resource_type, name, text, expected ^ found))
        asked[search_parameters(resource_type)[code].type] += 1
    assert missed == []
    return asked


async def test_our_own_are_found_by_every_parameter(client: httpx.AsyncClient) -> None:
    stored = await _stored(client, _own())
    assert len({resource["resourceType"] for resource in stored}) >= 24
    asked = await _require_found(client, stored)
    assert {*asked} == {*("token", "string", "reference", "date", "uri", "quantity", "composite")}
    assert asked.total() > 4000


@pytest.mark.parametrize("_path", official_examples("PDS-Patient.json"))
async def test_official_examples_are_found_by_every_parameter(
    client: httpx.AsyncClient, _path: object
) -> None:
    stored = await _stored(client, _official())
    assert (await _require_found(client, stored)).total() > 200


@needs_package
async def test_definitions_of_r4_are_found_by_every_parameter(client: httpx.AsyncClient) -> None:
    stored = await _stored(client, _definitions())
    assert len(stored) > DEFINITIONS // 2
    assert (await _require_found(client, stored)).total() > 500


async def _require_both_formats(client: httpx.AsyncClient, sent: Resource) -> None:
    """Posted as JSON and read as XML, posted as XML and read as JSON."""
    expected, resource_type = without_server_parts(sent), sent["resourceType"]
    response = await client.post(resource_type, **body(sent))
    assert response.status_code == 201, response.text
    read = await client.get(response.headers["location"], headers=XML)
    assert without_server_parts(xml.decode_resource(read.content)) == expected
    response = await client.post(resource_type, content=xml.encode(sent), headers=XML)
    assert response.status_code == 201, response.text
    assert without_server_parts(exact(await client.get(response.headers["location"]))) == expected


def _trimmed(resource: Resource) -> Resource:
    """White space around a narrative's div is no part of it."""
    text = resource.get("text", {})
    if "div" in text:
        text["div"] = text["div"].strip()
    return resource


async def test_our_own_read_back_in_the_other_format(client: httpx.AsyncClient) -> None:
    resources = [_trimmed(one) for one in _own()]
    for sent in resources[:: max(1, len(resources) // 100)]:
        await _require_both_formats(client, sent)


@pytest.mark.parametrize("path", official_examples())
async def test_official_examples_read_back_in_the_other_format(
    client: httpx.AsyncClient, path: Any
) -> None:
    await _require_both_formats(client, _trimmed(json.decode_resource(path.read_bytes())))
