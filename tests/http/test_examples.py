"""Real resources come back as they were sent: https://hl7.org/fhir/R4/http.html#create

The repository's own examples always; NHS and HL7 files, and the definitions of R4 itself, where
a developer has them beside the checkout.
"""

import tarfile
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

import httpx
import pytest

from fhir_server.fhir import json
from fhir_server.fhir.definitions import is_resource_type
from fhir_server.settings import Settings
from tests.support import (
    SHARED,
    VALID,
    assert_outcome,
    body,
    exact,
    without_server_parts,
)

EXAMPLES: Final = [
    *sorted(VALID.glob("*.json")),
    *sorted((SHARED / "examples").glob("*.json")),
]
PACKAGE: Final = SHARED / "fhir" / "hl7.fhir.r4.core.tgz"
SAMPLE: Final = 200
BREAKS_R4: Final = "-extensions-"
"""Search parameters of R4 itself that have no `base`, which R4 requires."""


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """The largest definitions of R4 are some megabytes."""
    return settings.model_copy(update={"max_body": 16 * 1024 * 1024})


@cache
def _examples() -> dict[str, dict[str, Any]]:
    return {path.name: json.decode_resource(path.read_bytes()) for path in EXAMPLES}


def _names(*bundle_types: str) -> list[str]:
    """The examples that are Bundles of these types; without any, those that are stored whole."""
    apart = bundle_types or ("transaction", "batch", "message")
    return [
        name
        for name, resource in _examples().items()
        if (resource["resourceType"] == "Bundle" and resource["type"] in apart)
        is bool(bundle_types)
    ]


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 7


@pytest.mark.parametrize("name", _names())
async def test_a_posted_example_reads_back_equal(client: httpx.AsyncClient, name: str) -> None:
    sent = _examples()[name]
    response = await client.post(sent["resourceType"], **body(sent))
    assert response.status_code == 201, response.text
    read = exact(await client.get(response.headers["location"]))
    assert without_server_parts(read) == without_server_parts(sent)


@pytest.mark.parametrize("name", _names())
async def test_a_put_example_reads_back_equal_under_its_id(
    client: httpx.AsyncClient, name: str
) -> None:
    sent = {"id": "example", **_examples()[name]}
    address = f"{sent['resourceType']}/{sent['id']}"
    response = await client.put(address, **body(sent))
    assert response.status_code == 201, response.text
    read = exact(await client.get(address))
    assert read["id"] == sent["id"]
    assert without_server_parts(read) == without_server_parts(sent)


async def test_every_entry_of_a_posted_transaction_reads_back_equal(
    client: httpx.AsyncClient,
) -> None:
    for name in _names("transaction", "batch"):
        sent = _examples()[name]
        response = await client.post("", **body(sent))
        assert response.status_code == 200, response.text
        for entry, told in zip(sent["entry"], response.json()["entry"], strict=True):
            read = exact(await client.get(told["response"]["location"]))
            assert without_server_parts(read) == without_server_parts(entry["resource"]), name


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


async def test_the_definitions_of_r4_read_back_equal(client: httpx.AsyncClient) -> None:
    for name, raw in _definitions() if PACKAGE.exists() else ():
        sent = json.decode_resource(raw)
        address = f"{sent['resourceType']}/{sent['id']}"
        response = await client.put(address, **body(sent))
        if BREAKS_R4 in name:
            assert_outcome(response, 400, "required", "base is missing", "SearchParameter.base")
            continue
        assert response.status_code == 201, (name, response.text)
        read = exact(await client.get(address))
        assert without_server_parts(read) == without_server_parts(sent), name
