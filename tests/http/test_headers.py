"""Headers that are doubtful are refused, and what they say is not taken further than it goes.

https://hl7.org/fhir/R4/http.html#Headers, RFC 9110 section 5.3, RFC 7240.
"""

import httpx
import pytest

from fhir_server.storage.interface import Store
from tests.support import FHIR_JSON, assert_outcome, body, create, stored_versions

PATIENT = b'{"resourceType": "Patient"}'
ONCE = [
    "Authorization",
    "Content-Length",
    "Content-Type",
    "Host",
    "If-Match",
    "If-Modified-Since",
    "If-None-Exist",
    "If-Unmodified-Since",
    "X-Correlation-ID",
    "X-Request-ID",
    "X-Security-Context",
]


@pytest.mark.parametrize("name", ONCE)
@pytest.mark.parametrize("same", [True, False])
async def test_a_header_that_is_no_list_may_stand_once(
    client: httpx.AsyncClient, store: Store, name: str, same: bool
) -> None:
    values = ("27", "27") if same else ("27", "28")
    headers = [("content-type", "application/fhir+json"), *((name, value) for value in values)]
    refused = await client.post("Patient", content=PATIENT, headers=headers)
    expression = f"http.{name}"
    assert_outcome(refused, 400, "invalid", f"{name} stands twice; it may stand once", expression)
    assert await stored_versions(store) == []


async def test_every_header_that_stands_twice_is_named(client: httpx.AsyncClient) -> None:
    headers = [("if-match", 'W/"1"')] * 2 + [("if-none-exist", "a=b")] * 3
    refused = await client.get("metadata", headers=headers)
    for name in ("If-Match", "If-None-Exist"):
        assert_outcome(refused, 400, "invalid", name, f"http.{name}")
    assert len(refused.json()["issue"]) == 2


async def test_headers_that_are_lists_may_stand_twice(client: httpx.AsyncClient) -> None:
    patient = await create(client, {"resourceType": "Patient"})
    tags = [("if-none-match", 'W/"7"'), ("if-none-match", 'W/"1"')]
    assert (await client.get(f"Patient/{patient['id']}", headers=tags)).status_code == 304
    wishes = [("prefer", "return=minimal"), ("prefer", "handling=lenient")]
    answer = await client.post(
        "Patient?foo=bar", content=PATIENT, headers=[*FHIR_JSON.items(), *wishes]
    )
    assert answer.status_code == 201
    assert answer.content == b""
    assert answer.headers["preference-applied"] == "return=minimal, handling=lenient"
    takes = [("accept", "text/html"), ("accept", "application/fhir+xml")]
    found = await client.get("metadata", headers=takes)
    assert found.headers["content-type"].startswith("application/fhir+xml")


@pytest.mark.parametrize("wish", ["minimal", "representation", "OperationOutcome"])
async def test_a_wish_for_the_answer_is_confirmed_where_it_is_followed(
    client: httpx.AsyncClient, wish: str
) -> None:
    prefer = {"prefer": f"return={wish}"}
    headers = {**FHIR_JSON, **prefer}
    made = await client.put(
        "Patient/1", content=b'{"resourceType":"Patient","id":"1"}', headers=headers
    )
    assert made.headers["preference-applied"] == f"return={wish}"
    bundle = {"resourceType": "Bundle", "type": "transaction"}
    answer = await client.post("", content=body(bundle)["content"], headers=headers)
    assert answer.headers["preference-applied"] == f"return={wish}"
    # A read is the representation in any case; a refusal follows no wish.
    assert "preference-applied" not in (await client.get("Patient/1", headers=prefer)).headers
    assert "preference-applied" not in (await client.get("Patient/2", headers=prefer)).headers


@pytest.mark.parametrize("handling", ["strict", "lenient"])
async def test_a_wish_for_the_handling_is_confirmed_where_it_is_followed(
    client: httpx.AsyncClient, handling: str
) -> None:
    headers = {"prefer": f"handling={handling}"}
    for address in ("Patient", "?_type=Patient", "Patient/1/*"):
        found = await client.get(address, headers=headers)
        assert found.headers["preference-applied"] == f"handling={handling}", address
    history = await client.get("_history", headers=headers)
    assert history.headers.get("preference-applied") == (
        "handling=strict" if handling == "strict" else None
    )


async def test_nobody_who_wishes_nothing_is_confirmed_anything(client: httpx.AsyncClient) -> None:
    for prefer in ({}, {"prefer": "respond-async"}):
        answer = await client.post("Patient", content=PATIENT, headers={**FHIR_JSON, **prefer})
        assert answer.status_code == 201
        assert "preference-applied" not in answer.headers


async def test_of_two_wishes_the_first_counts(client: httpx.AsyncClient) -> None:
    headers = {**FHIR_JSON, "prefer": "return=minimal, return=representation"}
    answer = await client.post("Patient", content=PATIENT, headers=headers)
    assert (answer.headers["preference-applied"], answer.content) == ("return=minimal", b"")


@pytest.mark.parametrize("name", ["x-http-method-override", "x-http-method", "x-method-override"])
async def test_no_header_makes_another_method_of_a_request(
    client: httpx.AsyncClient, store: Store, name: str
) -> None:
    await create(client, {"resourceType": "Patient"})
    stored = await stored_versions(store)
    found = await client.get("Patient", headers={name: "DELETE"})
    assert found.json()["type"] == "searchset"
    assert (await client.post("Patient/1", headers={name: "DELETE"})).status_code == 405
    assert await stored_versions(store) == stored


@pytest.mark.parametrize(
    "name", ["x-original-url", "x-rewrite-url", "x-forwarded-prefix", "x-forwarded-path"]
)
async def test_no_header_makes_another_address_of_a_request(
    client: httpx.AsyncClient, name: str
) -> None:
    answer = await client.get("Patient?_id=x", headers={name: "/fhir/metadata"})
    assert answer.json()["resourceType"] == "Bundle"
    assert "metadata" not in answer.text


@pytest.mark.parametrize(
    "address",
    [
        "Patient/a%0d%0aSet-Cookie:%20b=c",
        "Patient/%0aLocation:%20x",
        "Patient/a%22",
        "Patient/..%2f..%2fhealth%2flive",
        "Patient/%2e%2e/metadata",
        "Patient/%252e%252e/metadata",
        "..%2fhealth/live",
        "%2e%2e/health/live",
        "Patient%2f1",
        "Patient%00/1",
        "patient",
        "PATIENT/1",
        "Patient//1",
        "Patient/a%2500",
    ],
)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_no_address_leads_elsewhere_or_into_a_header(
    client: httpx.AsyncClient, store: Store, method: str, address: str
) -> None:
    url = httpx.URL(client.base_url).copy_with(raw_path=f"/fhir/{address}".encode())
    last = address.rpartition("/")[2]
    content = b'{"resourceType":"Patient","id":"%b"}' % last.encode()
    refused = await client.request(method, url, headers=FHIR_JSON, content=content)
    assert refused.status_code in (400, 404, 405)
    assert refused.json()["resourceType"] == "OperationOutcome"
    assert not {"set-cookie", "location"} & refused.headers.keys()
    assert await stored_versions(store) == []


@pytest.mark.parametrize(
    ("method", "address", "status", "code"),
    [
        ("GET", "/", 404, "not-found"),
        ("GET", "/Patient/1", 404, "not-found"),
        ("POST", "/fhirs", 404, "not-found"),
        ("GET", "/%66hir", 404, "not-found"),
        ("DELETE", "/openapi.json", 405, "not-supported"),
    ],
)
async def test_beside_the_base_there_is_an_outcome_that_names_it(
    client: httpx.AsyncClient, method: str, address: str, status: int, code: str
) -> None:
    url = httpx.URL(client.base_url).copy_with(raw_path=address.encode())
    assert_outcome(await client.request(method, url), status, code, "the FHIR base is /fhir")


@pytest.mark.parametrize("value", ["Patient%2525", "%2541", "a%26b%3Dc", "%2520"])
async def test_a_query_is_decoded_once(client: httpx.AsyncClient, value: str) -> None:
    answer = await client.get(f"Patient?family={value}")
    assert answer.json()["link"][0]["url"].endswith(f"Patient?family={value}")
