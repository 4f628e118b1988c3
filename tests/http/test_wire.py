"""What only the bytes on the wire can do: https://www.rfc-editor.org/rfc/rfc9112

Bodies that are cut off, in chunks, or of another length than declared, against a real server.
"""

import json
import socket
from contextlib import suppress
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fhir.resources.R4B.operationoutcome import OperationOutcome

from tests.support import ServerProcess

ENOUGH = 4096


@pytest.fixture
def mark() -> str:
    """An identifier of one test: the server is the same for all."""
    return uuid4().hex


def _patient(mark: str) -> bytes:
    return json.dumps({"resourceType": "Patient", "identifier": [{"value": mark}]}).encode()


def _sent(server: ServerProcess, *parts: bytes, cut_off: bool = False) -> bytes:
    """The beginning of the answer to `POST Patient` with these further headers and body."""
    head = (
        b"POST /fhir/Patient HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        b"Content-Type: application/fhir+json\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        # It may answer and go before it has read what is too large.
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(head + b"".join(parts))
        if cut_off:
            connection.shutdown(socket.SHUT_WR)
        return _received(connection)


def _received(connection: socket.socket) -> bytes:
    received = b""
    with suppress(ConnectionResetError):
        while len(received) < ENOUGH and (part := connection.recv(ENOUGH)):
            received += part
    return received


def _stored(server: ServerProcess, mark: str) -> int:
    found = httpx.get(f"{server.base}/Patient?identifier={mark}&_total=accurate&_count=0")
    total: int = found.json()["total"]
    return total


def test_takes_a_body_in_chunks(server: ServerProcess, mark: str) -> None:
    raw = _patient(mark)
    halves = (raw[:20], raw[20:], b"")
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(half), half) for half in halves)
    answer = _sent(server, b"Transfer-Encoding: chunked\r\n\r\n", chunks)
    assert answer.startswith(b"HTTP/1.1 201 ")
    assert _stored(server, mark) == 1


def test_refuses_chunks_that_become_too_large(server: ServerProcess) -> None:
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    answer = _sent(server, b"Transfer-Encoding: chunked\r\n\r\n", chunk * 300, b"0\r\n\r\n")
    # A server that closes while bytes are under way may reset the connection; it still lives.
    assert answer.startswith(b"HTTP/1.1 413 ") or not answer
    assert httpx.get(f"{server.base}/metadata").status_code == 200


def test_refuses_a_declared_length_that_is_too_large(server: ServerProcess) -> None:
    answer = _sent(server, b"Content-Length: 99999999999\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"OperationOutcome" in answer


@pytest.mark.parametrize("too_few", [1, 30])
def test_a_body_that_is_cut_off_stores_nothing(
    server: ServerProcess, mark: str, too_few: int
) -> None:
    raw = _patient(mark)
    length = b"Content-Length: %d\r\n\r\n" % (len(raw) + too_few)
    answer = _sent(server, length, raw, cut_off=True)
    assert not answer.startswith(b"HTTP/1.1 2")
    assert _stored(server, mark) == 0


def test_a_body_longer_than_declared_stores_nothing(server: ServerProcess, mark: str) -> None:
    raw = _patient(mark)
    answer = _sent(server, b"Content-Length: %d\r\n\r\n" % (len(raw) - 1), raw)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert _stored(server, mark) == 0


@pytest.mark.parametrize(
    "headers",
    [
        b"X-Request-ID: a\nSet-Cookie: b=c\r\n",
        b"X-Request-ID: a\x00b\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: -5\r\n",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"If Match: x\r\n",
    ],
)
def test_refuses_headers_that_two_readers_could_read_in_two_ways(
    server: ServerProcess, mark: str, headers: bytes
) -> None:
    answer = _sent(server, headers, b"\r\n", _patient(mark))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"set-cookie" not in answer.lower()
    assert _stored(server, mark) == 0


def test_dots_in_the_address_lead_nowhere(server: ServerProcess) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(
            b"GET /fhir/Patient/../metadata HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        assert _received(connection).startswith(b"HTTP/1.1 404 ")


def _answered(server: ServerProcess, raw: bytes) -> tuple[bytes, Any]:
    """The head of the answer, and the JSON behind it."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(raw)
        head, _, content = _received(connection).partition(b"\r\n\r\n")
    return head, json.loads(content) if content else None


@pytest.mark.parametrize(
    "raw",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET\r\n\r\n",
        b"GET /fhir/metadata HTTP/9.9\r\n\r\n",
        b"GET /fhir/Patient?name=\xff HTTP/1.1\r\nHost\r\n\r\n",
        b"GET / fhir HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /fhir/\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /fhir/Patient HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /fhir/metadata HTTP/1.1\r\nHost : x\r\n\r\n",
        b"CONNECT nowhere HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused_with_an_outcome(server: ServerProcess, raw: bytes) -> None:
    head, outcome = _answered(server, raw)
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"content-type: application/fhir+json; charset=utf-8" in head
    assert OperationOutcome.model_validate(outcome).issue[0].code == "structure"
    assert "not a request of HTTP/1.1" in outcome["issue"][0]["diagnostics"]


@pytest.mark.parametrize(
    ("raw", "status", "text"),
    [
        (b"GET /fhir/%b HTTP/1.1\r\n\r\n" % (b"x" * 65_600), 414, "65535 bytes are allowed"),
        (b"GET /fhir/%b" % (b"x" * 300_000), 414, "65535 bytes are allowed"),
        (
            b"GET /fhir/Patient HTTP/1.1\r\nConnection: close\r\nX-Long: %b\r\n\r\n"
            % (b"x" * 40_000),
            431,
            "32768 bytes are allowed",
        ),
        (
            b"GET /fhir/Patient HTTP/1.1\r\n%b" % (b"X-Long: %b\r\n" % (b"x" * 2000) * 40),
            431,
            "32768 bytes are allowed",
        ),
        (
            b"GET /fhir/Patient HTTP/1.1\r\nConnection: close\r\n%b\r\n" % (b"X-Many: x\r\n" * 120),
            431,
            "121 headers; 100 are allowed",
        ),
    ],
    ids=["address", "endless address", "one header", "endless headers", "many headers"],
)
def test_what_is_too_long_is_refused_before_it_is_read_to_its_end(
    server: ServerProcess, raw: bytes, status: int, text: str
) -> None:
    head, outcome = _answered(server, raw)
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert outcome["issue"][0]["code"] == "too-long"
    assert text in outcome["issue"][0]["diagnostics"]


def test_a_trailer_is_not_taken_for_a_header(server: ServerProcess, mark: str) -> None:
    raw = _patient(mark)
    chunks = b"%x\r\n%b\r\n0\r\nIf-None-Exist: no=criteria\r\n\r\n" % (len(raw), raw)
    answer = _sent(server, b"Transfer-Encoding: chunked\r\n\r\n", chunks)
    assert answer.startswith(b"HTTP/1.1 201 ")
    assert _stored(server, mark) == 1


def test_a_request_that_is_good_is_answered_after_one_that_is_not(server: ServerProcess) -> None:
    _answered(server, b"nonsense\r\n\r\n")
    assert httpx.get(f"{server.base}/metadata").status_code == 200


def test_nonsense_behind_a_request_is_not_taken_for_its_refusal(
    server: ServerProcess, mark: str
) -> None:
    raw = _patient(mark)
    head = b"POST /fhir/Patient HTTP/1.1\r\nHost: x\r\nContent-Type: application/fhir+json\r\n"
    whole = head + b"Content-Length: %d\r\n\r\n" % len(raw) + raw
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(whole + b"nonsense\r\n\r\n")
        answer = b""
        while part := connection.recv(ENOUGH):  # until the server closes
            answer += part
    assert answer.startswith(b"HTTP/1.1 201 ")
    assert answer.count(b"HTTP/1.1") == 1
    assert _stored(server, mark) == 1
