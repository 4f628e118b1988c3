"""Whatever headers, methods, media types and codings come in, what goes out is in order.

https://hl7.org/fhir/R4/http.html#Headers, RFC 9110.
"""

import gzip
import json
import os
import socket
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final
from urllib.parse import quote

import httpx
from fhir.resources.R4B.operationoutcome import OperationOutcome
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhir_server.fhir import json as fhir_json
from fhir_server.fhir import xml
from fhir_server.http.headers import SINGLE
from fhir_server.settings import Settings
from fhir_server.storage.interface import Store
from tests.http.serving import served
from tests.support import ServerProcess, stored_versions

NIGHTLY: Final = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"


def many(usual: int) -> settings:
    return settings(
        max_examples=20 * usual if NIGHTLY else usual,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


READERS: Final[dict[str, Callable[[bytes], Any]]] = {
    "application/fhir+json; charset=utf-8": json.loads,
    "application/fhir+xml; charset=utf-8": xml.decode_resource,
}
MEDIA: Final = (
    "application/fhir+json",
    "application/fhir+xml",
    "application/json",
    "text/xml",
    "application/json-patch+json",
    "application/x-www-form-urlencoded",
    "application/pdf",
    "*/*",
    "text/*;q=0.3",
    "application/fhir+xml;q=1.0001",
    "application/fhir+json; fhirVersion=4.0",
    "application/fhir+json; charset=utf-16",
    "multipart/form-data; boundary=x",
    ";",
    "",
)
PLAUSIBLE: Final = {
    "accept": MEDIA,
    "accept-encoding": ("gzip", "gzip;q=0", "*;q=0", "identity;q=0, gzip", "br", ",,"),
    "authorization": ("Bearer x", "Basic eDp5", "x"),
    "content-encoding": ("gzip", "x-gzip", "identity", "br", "gzip, gzip"),
    "content-length": ("0", "1", "99999999999999999999", "-1", "x", "１"),
    "content-type": MEDIA,
    "expect": ("100-continue", "200-ok"),
    "forwarded": ("host=evil.example;proto=https", "for=1.2.3.4", '"'),
    "host": ("evil.example", ""),
    "if-match": ('W/"1"', '"1"', "*", 'W/"1", W/"2"', 'W/"x"'),
    "if-modified-since": ("Sat, 29 Oct 1994 19:43:31 GMT", "yesterday", "Sat, 99 Oct 0000"),
    "if-none-exist": ("identifier=1", "?_id=1", "", "foo=bar", "%ff", "_sort=_id"),
    "if-none-match": ('W/"1"', "*", 'W/"1",', ",", '"'),
    "if-unmodified-since": ("Sat, 29 Oct 1994 19:43:31 GMT",),
    "prefer": ("return=minimal", "return=x", "handling=lenient", "respond-async", ";;", "=,="),
    "range": ("bytes=0-1",),
    "x-correlation-id": ("a", "a b", "\xff"),
    "x-forwarded-host": ("evil.example", "a b", "["),
    "x-forwarded-proto": ("https", "gopher", ","),
    "x-http-method-override": ("DELETE",),
    "x-request-id": ("a", "", "x" * 200),
    "x-security-context": ("Patient/1", "x", ""),
}
any_text = st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=20)
one_header = st.sampled_from(sorted(PLAUSIBLE)).flatmap(
    lambda name: st.tuples(st.just(name), st.sampled_from(PLAUSIBLE[name]) | any_text)
)
some_headers = st.lists(one_header, max_size=6)
methods = st.sampled_from(
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "X"]
)
addresses = st.sampled_from(
    [
        *("", "metadata", "Patient", "Patient/1", "Patient/1/_history/1", "Patient/_search"),
        *("Binary", "Binary/1", "_history", "Patient/1/*", "Patient/$meta", "$process-message"),
        *("Patient/1/$meta-add", "Patient?identifier=1", "Patient?_format=xml", "?_type=Patient"),
    ]
)
BODIES: Final = (
    b"",
    b"{}",
    b"[]",
    b'{"resourceType":"Patient","id":"1"}',
    b'{"resourceType":"Patient"}',
    b'<Patient xmlns="http://hl7.org/fhir"><id value="1"/></Patient>',
    b'[{"op":"add","path":"/active","value":true}]',
    b"identifier=1&_count=0",
    b'{"resourceType":"Binary","contentType":"a/b"}',
    b'{"resourceType":"Bundle","type":"batch"}',
    b'{"resourceType":"Parameters"}',
)
plain_bodies = st.sampled_from(BODIES) | st.binary(max_size=40)
bodies = st.one_of(
    plain_bodies,
    plain_bodies.map(gzip.compress),
    plain_bodies.map(lambda raw: gzip.compress(raw)[:-3]),
    plain_bodies.map(lambda raw: gzip.compress(raw) * 3),
    plain_bodies.map(zlib.compress),
    st.just(gzip.compress(b" " * 2_000_000)),
    st.just(gzip.compress(gzip.compress(b" " * 2_000_000))),
    st.just(gzip.compress(b"") * 40),
)


def _encoded(sent: list[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode("latin-1", "replace")) for name, value in sent]


def _require_order(response: httpx.Response, sent: list[tuple[str, str]]) -> None:
    assert response.status_code < 500, response.text
    assert "evil" not in json.dumps(dict(response.headers))
    names = [name for name, _ in sent]
    twice = [name for name in SINGLE if names.count(name) > 1]
    if twice and "host" not in names:
        assert response.status_code == 400
        assert all(SINGLE[name] in response.text for name in twice) or not response.content
    if response.status_code >= 400 and response.content:
        read = READERS[response.headers["content-type"]]
        OperationOutcome.model_validate_json(fhir_json.encode(read(response.content)))


@many(300)
@given(method=methods, address=addresses, sent=some_headers, content=bodies)
async def test_any_headers_are_answered_and_refused_writes_leave_no_trace(
    client: httpx.AsyncClient,
    store: Store,
    method: str,
    address: str,
    sent: list[tuple[str, str]],
    content: bytes,
) -> None:
    before = len(await stored_versions(store))
    response = await client.request(method, address, headers=_encoded(sent), content=content)
    _require_order(response, sent)
    if response.status_code >= 400 or method in ("GET", "HEAD", "OPTIONS"):
        assert len(await stored_versions(store)) == before


@many(60)
@given(sent=some_headers)
async def test_any_word_of_a_proxy_gives_whole_addresses(
    settings: Settings, sent: list[tuple[str, str]]
) -> None:
    async with served(settings, trusted_proxies=("127.0.0.1",)) as client:
        response = await client.get("Patient?_format=json", headers=_encoded(sent))
        assert response.status_code in (200, 202, 400)  # 202 where it is to be answered later
        if response.status_code == 200:
            _require_whole(response.json()["link"][0]["url"], "/fhir/Patient")
        elif response.status_code == 202:
            _require_whole(response.headers["content-location"], "/fhir/_jobs/")


def _require_whole(address: str, path: str) -> None:
    link = httpx.URL(address)
    assert link.scheme in ("http", "https")
    assert link.path.startswith(path)
    assert link.host
    assert "@" not in address


@many(200)
@given(name=st.text(max_size=10), value=st.text(max_size=10), data=st.data())
async def test_any_query_is_answered_however_it_is_encoded(
    client: httpx.AsyncClient, name: str, value: str, data: st.DataObject
) -> None:
    times = data.draw(st.integers(0, 2))
    text = f"{name}={value}"
    for _ in range(times):
        text = quote(text, safe="=" if data.draw(st.booleans()) else "")
    raw = text.encode("utf-8", "surrogatepass")
    kept = bytes(one for one in raw if 0x20 < one < 0x7F and one != 0x23)
    url = httpx.URL(client.base_url).copy_with(raw_path=b"/fhir/Patient?" + kept)
    _require_order(await client.get(url), [])


@many(150)
@given(data=st.data())
def test_any_bytes_on_the_wire_are_answered_or_dropped(
    server: ServerProcess, data: st.DataObject
) -> None:
    whole = (
        b"POST /fhir/Patient HTTP/1.1\r\nHost: x\r\nContent-Type: application/fhir+json\r\n"
        b'Transfer-Encoding: chunked\r\n\r\n1b\r\n{"resourceType": "Patient"}\r\n0\r\n\r\n'
    )
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(len(whole), start + 12)))
    other = data.draw(
        st.binary(max_size=12) | st.sampled_from([b"\r\n", b"\n", b"\x00", b": ", b"0"])
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(whole[:start] + other + whole[end:])
            connection.shutdown(socket.SHUT_WR)
        answer = b""
        with suppress(ConnectionResetError):
            while part := connection.recv(4096):
                answer += part
    if answer:
        assert answer[:9] == b"HTTP/1.1 "
        assert answer[9:10] in b"1234"
    if answer[9:10] == b"4" and b"/fhir/" in whole[:start]:
        head, _, content = answer.partition(b"\r\n\r\n")
        assert b"application/fhir+json" in head, answer
        assert b"OperationOutcome" in content
