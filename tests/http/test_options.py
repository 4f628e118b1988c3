"""OPTIONS and HEAD: RFC 9110 section 9.3, https://hl7.org/fhir/R4/http.html#capabilities"""

from typing import Final

import httpx
import pytest

from fhir_server.interactions.table import ROUTER
from tests.support import assert_outcome, put

PATIENT: Final = {"resourceType": "Patient", "id": "p1", "birthDate": "2011-05-14"}
PLACES: Final = {
    "{type}": "Patient",
    "{id}": "p1",
    "{member}": "CarePlan",
    "{version}": "1",
    "{operation}": "$admission-risk",
}
"""What the parts of a route's pattern may be."""


def _addresses() -> dict[str, set[str]]:
    """Every address of the server with its methods."""
    found: dict[str, set[str]] = {}
    for route in ROUTER.routes:
        path = "/".join(PLACES.get(part, part) for part in route.pattern.split("/"))
        found.setdefault(path, set()).add(route.method)
    return found


ADDRESSES: Final = _addresses()


@pytest.mark.parametrize("path", sorted(set(ADDRESSES) - {""}))
async def test_options_tells_the_methods_of_every_address(
    client: httpx.AsyncClient, path: str
) -> None:
    response = await client.options(path)
    assert response.status_code == 204
    assert response.content == b""
    methods = ADDRESSES[path] | {"OPTIONS"} | ({"HEAD"} if "GET" in ADDRESSES[path] else set())
    assert response.headers["allow"].split(", ") == sorted(methods)


@pytest.mark.parametrize("base", ["", "/"])
async def test_options_at_the_base_is_the_capability_statement(
    client: httpx.AsyncClient, base: str
) -> None:
    url = str(client.base_url).rstrip("/") + base
    response = await client.options(url)
    assert response.status_code == 200
    assert {"OPTIONS", "POST"} <= set(response.headers["allow"].split(", "))
    assert response.json() == (await client.get("metadata")).json()
    in_xml = await client.options(url, headers={"accept": "application/fhir+xml"})
    assert in_xml.content.startswith(b"<?xml")


async def test_options_refuses_what_is_no_address(client: httpx.AsyncClient) -> None:
    assert_outcome(await client.options("Dragon"), 404, "not-found", "'Dragon'")
    assert_outcome(await client.options("Patient/1/2/3/4"), 404, "not-found", "is no address")
    assert_outcome(await client.options("Patient/a_b"), 400, "invalid", "is not an id")


async def test_options_tells_nothing_of_what_is_stored(client: httpx.AsyncClient) -> None:
    await put(client, PATIENT)
    there, absent = await client.options("Patient/p1"), await client.options("Patient/p2")
    assert there.status_code == absent.status_code
    assert there.headers["allow"] == absent.headers["allow"]


async def test_a_refused_method_is_told_what_options_would_tell(client: httpx.AsyncClient) -> None:
    refused = await client.request("BREW", "Patient/p1")
    assert_outcome(refused, 405, "not-supported", "BREW is not allowed")
    assert refused.headers["allow"] == (await client.options("Patient/p1")).headers["allow"]


@pytest.mark.parametrize(
    "path", sorted(path for path, methods in ADDRESSES.items() if "GET" in methods)
)
@pytest.mark.parametrize("accept", ["application/fhir+json", "application/fhir+xml"])
async def test_head_answers_as_get_does_without_the_body(
    client: httpx.AsyncClient, path: str, accept: str
) -> None:
    await put(client, PATIENT)
    headers = {"accept": accept, "x-request-id": "1"}
    read = await client.get(path, headers=headers)
    head = await client.head(path, headers=headers)
    assert head.status_code == read.status_code
    assert head.content == b""
    assert read.content
    assert dict(head.headers) == dict(read.headers)


async def test_head_is_not_allowed_where_get_is_not(client: httpx.AsyncClient) -> None:
    response = await client.head("Patient/_search")
    assert response.status_code == 405
    assert response.content == b""
