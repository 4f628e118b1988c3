"""Binary by its own media type: https://hl7.org/fhir/R4/binary.html#rest"""

import base64
import gzip
import json
from typing import Any

import httpx
import pytest
from fhir.resources.R4B.binary import Binary

from fhir_server.settings import Settings
from fhir_server.storage.interface import Store
from tests.http.serving import served
from tests.support import assert_outcome, body, create, put, stored_versions

LETTER = b"%PDF-1.7 \x00\xff synthetic letter"
FHIR = {"accept": "application/fhir+json"}


async def _post(
    client: httpx.AsyncClient, content: bytes, media: str, **headers: str
) -> httpx.Response:
    sent = {"content-type": media, **{name.replace("_", "-"): v for name, v in headers.items()}}
    return await client.post("Binary", content=content, headers=sent)


async def _stored(client: httpx.AsyncClient, media: str, content: bytes = LETTER) -> str:
    """The address of a Binary, stored as FHIR."""
    data = base64.b64encode(content).decode()
    resource = {"resourceType": "Binary", "contentType": media, "data": data}
    return f"Binary/{(await create(client, resource))['id']}"


@pytest.mark.parametrize(
    "media",
    ["application/pdf", "text/plain; charset=iso-8859-1", "image/png", "application/hl7-v2+er7"],
)
async def test_any_media_type_is_stored_with_its_bytes(
    client: httpx.AsyncClient, media: str
) -> None:
    made = await _post(client, LETTER, media)
    assert made.status_code == 201, made.text
    resource = Binary.model_validate_json(made.content)
    assert resource.contentType == media
    assert base64.b64decode(made.json()["data"]) == LETTER
    address = made.headers["location"].partition("/_history")[0]
    back = await client.get(address)
    assert (back.status_code, back.content) == (200, LETTER)
    assert back.headers["content-type"] == media
    assert back.headers["etag"] == made.headers["etag"]


async def test_put_stores_under_the_id_of_the_address_and_makes_versions(
    client: httpx.AsyncClient,
) -> None:
    pdf = {"content-type": "application/pdf"}
    assert (await client.put("Binary/letter", content=LETTER, headers=pdf)).status_code == 201
    plain = {"content-type": "text/plain", "if-match": 'W/"1"'}
    assert (await client.put("Binary/letter", content=b"new", headers=plain)).status_code == 200
    first, second = [await client.get(f"Binary/letter/_history/{n}") for n in (1, 2)]
    assert (first.headers["content-type"], first.content) == ("application/pdf", LETTER)
    assert (second.headers["content-type"], second.content) == ("text/plain", b"new")
    stale = await client.put("Binary/letter", content=b"x", headers=plain)
    assert_outcome(stale, 412, "conflict", "current version is 2")


@pytest.mark.parametrize(
    "accept",
    [
        None,
        "*/*",
        "application/pdf",
        "application/*",
        "image/png",
        "text/html,*/*;q=0.8",
        "text/html,application/xml;q=0.9,*/*;q=0.8",
        "application/fhir+json;q=0.1,application/pdf",
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_the_bytes_come_unless_fhir_is_asked_for(
    client: httpx.AsyncClient, accept: str | None, method: str
) -> None:
    address = await _stored(client, "application/pdf")
    if accept is None:
        del client.headers["accept"]
    headers = {} if accept is None else {"accept": accept}
    for where in (address, f"{address}/_history/1"):
        answer = await client.request(method, where, headers=headers)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/pdf"
        assert answer.headers["content-length"] == str(len(LETTER))
        assert answer.content == (LETTER if method == "GET" else b"")


@pytest.mark.parametrize(
    ("accept", "query", "comes"),
    [
        ("application/fhir+json", "", "application/fhir+json"),
        ("application/fhir+xml", "", "application/fhir+xml"),
        ("application/json", "", "application/fhir+json"),
        ("text/xml", "", "application/fhir+xml"),
        ("application/fhir+json, */*", "", "application/fhir+json"),
        ("application/pdf;q=0.5, application/fhir+xml", "", "application/fhir+xml"),
        ("*/*", "?_format=json", "application/fhir+json"),
        ("application/pdf", "?_format=xml", "application/fhir+xml"),
        ("*/*", "?_elements=contentType", "application/fhir+json"),
    ],
)
async def test_the_resource_comes_where_fhir_is_asked_for(
    client: httpx.AsyncClient, accept: str, query: str, comes: str
) -> None:
    address = await _stored(client, "application/pdf")
    answer = await client.get(address + query, headers={"accept": accept})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == f"{comes}; charset=utf-8"
    assert "Binary" in answer.text


async def test_json_that_is_content_comes_as_it_is(client: httpx.AsyncClient) -> None:
    address = await _stored(client, "application/json", b"[1.0]")
    for accept in ("application/json", "*/*"):
        answer = await client.get(address, headers={"accept": accept})
        assert (answer.content, answer.headers["content-type"]) == (b"[1.0]", "application/json")
    assert (await client.get(address, headers=FHIR)).json()["resourceType"] == "Binary"


async def test_nothing_that_is_stored_is_run_by_a_browser(client: httpx.AsyncClient) -> None:
    address = await _stored(client, "text/html", b"<script>alert(1)</script>")
    answer = await client.get(address)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-disposition"] == "attachment"
    assert answer.headers["content-security-policy"] == (
        "default-src 'none'; frame-ancestors 'none'; sandbox"
    )
    assert answer.headers["cache-control"] == "private, no-cache"


@pytest.mark.parametrize(
    "media", ["text/plain\nSet-Cookie: a=b", "text/plañn", "nonsense", "a/b;c"]
)
async def test_a_media_type_that_is_none_comes_as_bytes_of_any_kind(
    client: httpx.AsyncClient, media: str
) -> None:
    answer = await client.get(await _stored(client, media))
    assert (answer.status_code, answer.content) == (200, LETTER)
    assert answer.headers["content-type"] == "application/octet-stream"
    assert "set-cookie" not in answer.headers


async def test_a_binary_resource_is_taken_as_what_it_is(client: httpx.AsyncClient) -> None:
    resource = {"resourceType": "Binary", "contentType": "text/plain", "data": "aGVsbG8="}
    for media in ("application/fhir+json", "application/json"):
        made = await _post(client, json.dumps(resource).encode(), media)
        assert made.json()["data"] == "aGVsbG8="
    xml = b'<Binary xmlns="http://hl7.org/fhir"><contentType value="text/plain"/></Binary>'
    made = await _post(client, xml, "application/fhir+xml")
    assert made.json()["contentType"] == "text/plain"
    assert (await client.get(made.headers["location"])).content == b""


@pytest.mark.parametrize(
    ("content", "media"),
    [
        (b'{"resourceType": "Patient"}', "application/fhir+json"),
        (b'<Patient xmlns="http://hl7.org/fhir"/>', "application/fhir+xml"),
        (b'{"any": "JSON"', "application/json"),
        (b"<any/>", "text/xml"),
    ],
)
async def test_other_fhir_json_and_xml_is_content(
    client: httpx.AsyncClient, content: bytes, media: str
) -> None:
    made = await _post(client, content, media)
    assert made.status_code == 201, made.text
    assert made.json()["contentType"] == media
    assert (await client.get(made.headers["location"])).content == content


@pytest.mark.parametrize(
    ("content", "media", "status", "code", "text"),
    [
        (b"", "application/pdf", 400, "structure", "The body is empty"),
        (LETTER, "nonsense", 415, "not-supported", "is not a media type"),
        (LETTER, "text/plain\x0b", 415, "not-supported", "is not a media type"),
        (b'{"resourceType": "Binary"', "application/fhir+json", 400, "structure", "not valid JSON"),
        (b"<Binary", "application/fhir+xml", 400, "structure", "not well-formed"),
        (b'{"resourceType": "Binary"}', "application/fhir+json", 400, "required", "contentType"),
        (
            b'{"resourceType":"Binary","contentType":"a/b","data":"no base64!"}',
            "application/fhir+json",
            400,
            "value",
            "base64",
        ),
        (b"x" * 200_000, "application/pdf", 413, "too-long", "may have 196608"),
        (b"x" * 300_000, "application/pdf", 413, "too-long", "262144 bytes are allowed"),
    ],
)
async def test_what_cannot_be_stored_is_refused(
    client: httpx.AsyncClient,
    store: Store,
    content: bytes,
    media: str,
    status: int,
    code: str,
    text: str,
) -> None:
    assert_outcome(await _post(client, content, media), status, code, text)
    assert await stored_versions(store) == []


async def test_sent_again_it_is_stored_once(client: httpx.AsyncClient, store: Store) -> None:
    statuses = [
        (await _post(client, LETTER, "application/pdf", x_request_id="a1")).status_code
        for _ in range(2)
    ]
    assert statuses == [201, 201]
    assert len(await stored_versions(store)) == 1
    other = await _post(client, LETTER, "image/png", x_request_id="a1")
    assert_outcome(other, 409, "conflict", "another request", "http.X-Request-ID")


async def test_a_body_without_a_media_type_is_refused(client: httpx.AsyncClient) -> None:
    refused = await client.post("Binary", content=LETTER)
    assert_outcome(refused, 415, "not-supported", "is not a media type", "http.Content-Type")


async def test_refusals_of_a_reading_are_outcomes(client: httpx.AsyncClient) -> None:
    pdf = {"accept": "application/pdf"}
    assert_outcome(await client.get("Binary/none", headers=pdf), 404, "not-found", "not known")
    address = await _stored(client, "application/pdf")
    await client.delete(address)
    assert_outcome(await client.get(address, headers=pdf), 410, "deleted", "was deleted")


async def test_conditions_and_compression_hold_for_the_bytes_too(client: httpx.AsyncClient) -> None:
    made = await _post(client, gzip.compress(b"a" * 5000), "text/plain", content_encoding="gzip")
    address = made.headers["location"]
    answer = await client.get(address, headers={"accept-encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.content == b"a" * 5000
    same = await client.get(address, headers={"if-none-match": 'W/"1"'})
    assert (same.status_code, same.content) == (304, b"")


async def test_whose_it_is_goes_in_a_header_both_ways(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    for context in ("Patient/1", f"{settings.base}/Patient/1"):
        made = await _post(client, LETTER, "application/pdf", x_security_context=context)
        assert made.json()["securityContext"] == {"reference": "Patient/1"}
        back = await client.get(made.headers["location"])
        assert back.headers["x-security-context"] == "Patient/1"


@pytest.mark.parametrize("context", ["", "nobody", "Patient/1\x0b", "javascript:x", "Patient?x=y"])
async def test_a_security_context_that_is_none_is_refused(
    client: httpx.AsyncClient, store: Store, context: str
) -> None:
    refused = await _post(client, LETTER, "application/pdf", x_security_context=context)
    place = "http.X-Security-Context"
    assert_outcome(refused, 400, "invalid", "is not a reference such as Patient/1", place)
    assert await stored_versions(store) == []


async def test_two_security_contexts_are_refused(client: httpx.AsyncClient) -> None:
    resource: dict[str, Any] = {
        "resourceType": "Binary",
        "contentType": "text/plain",
        "securityContext": {"reference": "Patient/2"},
    }
    raw = json.dumps(resource).encode()
    refused = await _post(client, raw, "application/fhir+json", x_security_context="Patient/1")
    assert_outcome(refused, 400, "invalid", "says otherwise", "http.X-Security-Context")


async def test_large_content_is_stored_and_read(settings: Settings) -> None:
    content = bytes(range(256)) * 4096
    async with served(settings, max_body=4 * 1024 * 1024) as client:
        made = await _post(client, content, "application/octet-stream", prefer="return=minimal")
        assert (await client.get(made.headers["location"])).content == content


async def test_within_a_bundle_it_is_a_resource(client: httpx.AsyncClient) -> None:
    await put(client, {"resourceType": "Binary", "id": "a", "contentType": "text/plain"})
    entry = {"request": {"method": "GET", "url": "Binary/a"}}
    bundle = {"resourceType": "Bundle", "type": "batch", "entry": [entry]}
    answer = await client.post("", **body(bundle))
    assert answer.json()["entry"][0]["resource"]["resourceType"] == "Binary"
