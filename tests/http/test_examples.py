"""Real resources come back as they were sent: https://hl7.org/fhir/R4/http.html#create

The repository's own examples and definitions and the synthetic caseload always; NHS and HL7
files, and the definitions of R4 itself, where a developer has them beside the checkout.
"""

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from fhir_server.fhir import json
from fhir_server.fhir.definitions import is_resource_type
from fhir_server.settings import Settings
from tests.support import (
    PACKAGE,
    REPOSITORY,
    VALID,
    assert_outcome,
    body,
    caseload,
    exact,
    needs_package,
    official_examples,
    without_server_parts,
)

OWN: Final = [
    *sorted(VALID.glob("*.json")),
    *sorted((REPOSITORY / "operations").glob("*.json")),
    *sorted((REPOSITORY / "fhir_operations").glob("*.json")),
    *sorted((REPOSITORY / "terminology").glob("*.json")),
]
EXAMPLES: Final = [*(pytest.param(path, id=path.stem) for path in OWN), *official_examples()]
SAMPLE: Final = 200
BREAKS_R4: Final = "-extensions-"
"""Search parameters of R4 itself that have no `base`, which R4 requires."""


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """The largest definitions of R4 are some megabytes."""
    return settings.model_copy(update={"max_body": 16 * 1024 * 1024, "max_entries": 1000})


@pytest.fixture(params=EXAMPLES)
def sent(request: pytest.FixtureRequest) -> dict[str, Any]:
    path: Path = request.param
    return json.decode_resource(path.read_bytes())


def test_the_examples_of_our_own_are_of_many_types() -> None:
    resources = [json.decode_resource(path.read_bytes()) for path in OWN]
    assert len({resource["resourceType"] for resource in resources}) >= 9


async def test_a_posted_example_reads_back_equal(
    client: httpx.AsyncClient, sent: dict[str, Any]
) -> None:
    response = await client.post(sent["resourceType"], **body(sent))
    assert response.status_code == 201, response.text
    read = exact(await client.get(response.headers["location"]))
    assert without_server_parts(read) == without_server_parts(sent)


async def test_a_put_example_reads_back_equal_under_its_id(
    client: httpx.AsyncClient, sent: dict[str, Any]
) -> None:
    sent = {"id": "example", **sent}
    address = f"{sent['resourceType']}/{sent['id']}"
    response = await client.put(address, **body(sent))
    assert response.status_code == 201, response.text
    read = exact(await client.get(address))
    assert read["id"] == sent["id"]
    assert without_server_parts(read) == without_server_parts(sent)


@pytest.fixture(params=official_examples("*Transaction*.json"))
def transaction(request: pytest.FixtureRequest) -> dict[str, Any]:
    path: Path = request.param
    return json.decode_resource(path.read_bytes())


async def test_every_entry_of_a_real_transaction_reads_back_equal(
    client: httpx.AsyncClient, transaction: dict[str, Any]
) -> None:
    assert await _require_entries_read_back_equal(client, transaction) > 1


async def test_every_entry_of_the_synthetic_caseload_reads_back_equal(
    client: httpx.AsyncClient,
) -> None:
    entries = [await _require_entries_read_back_equal(client, sent) for sent in caseload()]
    assert sum(entries) > 700


async def _require_entries_read_back_equal(client: httpx.AsyncClient, sent: dict[str, Any]) -> int:
    """How many there are."""
    response = await client.post("", **body(sent))
    assert response.status_code == 200, response.text
    for entry, told in zip(sent["entry"], response.json()["entry"], strict=True):
        read = exact(await client.get(told["response"]["location"]))
        resource = json.decode_resource(json.encode(entry["resource"]))
        assert without_server_parts(read) == without_server_parts(resource)
    return len(sent["entry"])


def _definitions() -> Iterator[tuple[str, bytes]]:
    """A spread sample of the definitional resources of R4 itself."""
    with tarfile.open(PACKAGE) as package:
        members = [
            member
            for member in package.getmembers()
            if member.isfile()
            and member.name.count("/") == 1
            and is_resource_type(member.name.partition("/")[2].partition("-")[0])
        ]
        for member in members[:: max(1, len(members) // SAMPLE)]:
            file = package.extractfile(member)
            assert file is not None
            yield member.name, file.read()


@needs_package
async def test_the_definitions_of_r4_read_back_equal(client: httpx.AsyncClient) -> None:
    tried = 0
    for tried, (name, raw) in enumerate(_definitions(), 1):  # noqa: B007 - used after the loop
        sent = json.decode_resource(raw)
        address = f"{sent['resourceType']}/{sent['id']}"
        response = await client.put(address, **body(sent))
        if BREAKS_R4 in name:
            assert_outcome(response, 400, "required", "base is missing", "SearchParameter.base")
            continue
        assert response.status_code == 201, (name, response.text)
        read = exact(await client.get(address))
        assert without_server_parts(read) == without_server_parts(sent), name
    assert tried >= SAMPLE
