"""gzip in and out: RFC 9110 section 8.4, https://hl7.org/fhir/R4/http.html#general"""

import gzip
import zlib
from typing import Any, Final

import httpx
import pytest

from fhir_server.fhir import json
from fhir_server.settings import Settings
from fhir_server.storage.interface import Store
from tests.support import ServerProcess, assert_outcome, create, put, stored_versions

JSON: Final = "application/fhir+json"
PATIENT: Final = {"resourceType": "Patient", "id": "p1", "name": [{"family": "Synthetic-Gzip"}]}
RAW: Final = json.encode(PATIENT)
LONG: Final = {
    **PATIENT,
    "name": [{"family": f"Synthetic-{i}", "given": ["Ann"]} for i in range(60)],
}


def _zipped(content: bytes, coding: str = "gzip") -> dict[str, Any]:
    return {"content": content, "headers": {"content-type": JSON, "content-encoding": coding}}


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "GZIP"])
async def test_a_compressed_body_is_stored_as_what_it_holds(
    client: httpx.AsyncClient, coding: str
) -> None:
    response = await client.put("Patient/p1", **_zipped(gzip.compress(RAW), coding))
    assert response.status_code == 201, response.text
    assert (await client.get("Patient/p1")).json()["name"] == PATIENT["name"]


async def test_identity_is_no_coding(client: httpx.AsyncClient) -> None:
    assert (await client.put("Patient/p1", **_zipped(RAW, "identity"))).status_code == 201


async def test_a_body_of_two_streams_is_both_in_a_row(client: httpx.AsyncClient) -> None:
    halves = gzip.compress(RAW[:10]) + gzip.compress(RAW[10:])
    assert (await client.put("Patient/p1", **_zipped(halves))).status_code == 201


async def test_a_body_that_comes_in_pieces_is_inflated(client: httpx.AsyncClient) -> None:
    raw = gzip.compress(RAW)

    async def pieces() -> Any:
        for index in range(len(raw)):
            yield raw[index : index + 1]

    sent = _zipped(b"") | {"content": pieces()}
    assert (await client.put("Patient/p1", **sent)).status_code == 201


async def test_a_compressed_form_is_a_search(client: httpx.AsyncClient) -> None:
    await put(client, PATIENT)
    sent = _zipped(gzip.compress(b"family=synthetic-gzip"))
    sent["headers"]["content-type"] = "application/x-www-form-urlencoded"
    found = await client.post("Patient/_search", **sent)
    assert [entry["resource"]["id"] for entry in found.json()["entry"]] == ["p1"]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (RAW, "it is not gzip"),
        (zlib.compress(RAW), "it is not gzip"),
        (b"\x1f\x8b", "ends before the end"),
        (gzip.compress(RAW, mtime=0)[:-1], "ends before the end"),
        (gzip.compress(RAW, mtime=0)[:20], "ends before the end"),
        (gzip.compress(RAW, mtime=0)[:-8] + b"\0" * 8, "it is not gzip"),
        (gzip.compress(RAW, mtime=0) + b"more", "it is not gzip"),
        (gzip.compress(RAW, mtime=0) + b"\x1f", "ends before the end"),
        (gzip.compress(b"", mtime=0) * 17, "more than 16 gzip streams"),
    ],
)
async def test_broken_gzip_is_refused_and_stores_nothing(
    client: httpx.AsyncClient, store: Store, content: bytes, text: str
) -> None:
    response = await client.put("Patient/p1", **_zipped(content))
    assert_outcome(response, 400, "invalid", text, "http.Content-Encoding")
    assert not await stored_versions(store)


async def test_an_empty_compressed_body_is_empty(client: httpx.AsyncClient) -> None:
    for content in (b"", gzip.compress(b"")):
        response = await client.put("Patient/p1", **_zipped(content))
        assert_outcome(response, 400, "structure", "The body is empty")


@pytest.mark.parametrize("coding", ["deflate", "br", "zstd", "gzip, gzip", "identity, gzip", "x"])
async def test_another_coding_is_refused_with_those_that_are_taken(
    client: httpx.AsyncClient, coding: str
) -> None:
    response = await client.put("Patient/p1", **_zipped(gzip.compress(RAW), coding))
    text = "is not supported; gzip and identity are"
    assert_outcome(response, 415, "not-supported", text, "http.Content-Encoding")
    assert response.headers["accept-encoding"] == "gzip, identity"


@pytest.mark.parametrize("size", [300_000, 50_000_000])
async def test_a_bomb_is_refused_before_it_is_inflated(
    client: httpx.AsyncClient, size: int
) -> None:
    bomb = gzip.compress(b" " * size)
    assert len(bomb) < 256 * 1024
    response = await client.put("Patient/p1", **_zipped(bomb))
    assert_outcome(response, 413, "too-long", "once it is inflated; 262144 bytes are allowed")


async def test_a_bomb_within_a_bomb_is_not_opened(client: httpx.AsyncClient) -> None:
    bomb = gzip.compress(gzip.compress(b" " * 10_000_000))
    response = await client.put("Patient/p1", **_zipped(bomb))
    assert_outcome(response, 400, "structure", "is not valid JSON")


async def test_a_body_may_inflate_to_the_bound_and_not_a_byte_more(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    padding = b" " * (settings.max_body - len(RAW))
    fits = await client.put("Patient/p1", **_zipped(gzip.compress(RAW + padding)))
    assert fits.status_code == 201
    more = await client.put("Patient/p1", **_zipped(gzip.compress(RAW + padding + b" ")))
    assert_outcome(more, 413, "too-long", "262144 bytes are allowed")


async def _raw(client: httpx.AsyncClient, url: str, accepted: str | None) -> httpx.Response:
    """The answer with its body as it came over the wire."""
    request = client.build_request("GET", url)
    del request.headers["accept-encoding"]
    if accepted is not None:
        request.headers["accept-encoding"] = accepted
    response = await client.send(request, stream=True)
    content = b"".join([chunk async for chunk in response.aiter_raw()])
    assert int(response.headers["content-length"]) == len(content)
    response.extensions["raw"] = content
    return response


@pytest.mark.parametrize(
    "accepted",
    ["gzip", "gzip, deflate, br", "*", "x-gzip", "gzip;q=0.5", "deflate, gzip;q=1.0, *;q=0.5"],
)
async def test_a_long_answer_is_compressed_for_whoever_takes_it(
    client: httpx.AsyncClient, accepted: str
) -> None:
    await put(client, LONG)
    plain = await _raw(client, "Patient/p1", None)
    packed = await _raw(client, "Patient/p1", accepted)
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.extensions["raw"]) == plain.extensions["raw"]
    assert len(packed.extensions["raw"]) < len(plain.extensions["raw"]) / 3
    assert packed.headers["etag"] == plain.headers["etag"]
    assert packed.headers["vary"] == plain.headers["vary"] == "Accept, Accept-Encoding, Prefer"


@pytest.mark.parametrize(
    "accepted", [None, "", "identity", "br", "gzip;q=0", "*;q=0", "gzip;q=0.1, identity;q=0.9"]
)
async def test_nobody_else_gets_it_compressed(
    client: httpx.AsyncClient, accepted: str | None
) -> None:
    await put(client, LONG)
    response = await _raw(client, "Patient/p1", accepted)
    assert "content-encoding" not in response.headers
    assert response.extensions["raw"].startswith(b"{")


async def test_a_short_answer_is_not_worth_it(client: httpx.AsyncClient) -> None:
    await put(client, PATIENT)
    response = await _raw(client, "Patient/p1", "gzip")
    assert "content-encoding" not in response.headers


async def test_a_short_answer_is_compressed_where_nothing_else_is_taken(
    client: httpx.AsyncClient,
) -> None:
    await put(client, PATIENT)
    response = await _raw(client, "Patient/p1", "gzip, identity;q=0")
    assert response.headers["content-encoding"] == "gzip"
    assert gzip.decompress(response.extensions["raw"]).startswith(b"{")


async def test_the_same_answer_is_the_same_bytes(client: httpx.AsyncClient) -> None:
    await put(client, LONG)
    first, second = [await _raw(client, "Patient/p1", "gzip") for _ in range(2)]
    assert first.extensions["raw"] == second.extensions["raw"]


async def test_bundles_statements_and_refusals_are_compressed_too(
    client: httpx.AsyncClient,
) -> None:
    await create(client, LONG)
    for url in ("Patient", "metadata", "Patient?_format=xml", f"Patient?{'a=b&' * 90}"):
        response = await client.get(url, headers={"accept-encoding": "gzip"})
        assert response.headers["content-encoding"] == "gzip"
        assert response.text


async def test_head_tells_the_length_of_the_compressed_answer(client: httpx.AsyncClient) -> None:
    await put(client, LONG)
    read = await _raw(client, "Patient/p1", "gzip")
    head = await client.head("Patient/p1", headers={"accept-encoding": "gzip"})
    assert head.headers["content-encoding"] == "gzip"
    assert head.headers["content-length"] == read.headers["content-length"]


async def test_not_modified_has_no_coding(client: httpx.AsyncClient) -> None:
    await put(client, LONG)
    headers = {"accept-encoding": "gzip", "if-none-match": 'W/"1"'}
    response = await client.get("Patient/p1", headers=headers)
    assert response.status_code == 304
    assert "content-encoding" not in response.headers


def test_works_over_a_real_connection_both_ways(server: ServerProcess) -> None:
    resource = json.encode({**LONG, "id": "zipped"})
    address = f"{server.base}/Patient/zipped"
    stored = httpx.put(address, **_zipped(gzip.compress(resource)))
    assert stored.status_code in (200, 201)
    response = httpx.get(address, headers={"accept-encoding": "gzip"})
    assert response.headers["content-encoding"] == "gzip"
    assert response.json()["name"] == LONG["name"]
