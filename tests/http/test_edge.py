"""What stands on every answer: headers that browsers keep to, and CORS.

https://cheatsheetseries.owasp.org/cheatsheets/REST_Security_Cheat_Sheet.html#security-headers,
https://fetch.spec.whatwg.org/#http-cors-protocol
"""

import socket
from typing import Final

import httpx
import pytest

from fhir_server.settings import Settings
from tests.http.serving import served
from tests.support import FHIR_JSON, ServerProcess, assert_outcome, body

APP: Final = "https://app.example.nhs.uk"
OTHER: Final = "http://localhost:3000"
ALWAYS: Final = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}
PLACES: Final = [
    ("GET", "metadata", 200),
    ("GET", "Patient", 200),
    ("GET", "Patient/nobody", 404),
    ("DELETE", "metadata", 405),
    ("POST", "Patient", 400),
    ("OPTIONS", "Patient", 204),
    ("HEAD", "Patient", 200),
    ("GET", "Dragon?a=%ff", 404),
    ("GET", "/health/live", 200),
    ("GET", "/health/ready", 200),
    ("GET", "/openapi.json", 200),
    ("GET", "/nowhere", 404),
    ("POST", "/health/live", 405),
    ("POST", "/auth/token/", 404),
    ("TRACE", "Patient", 405),
]


def _held(response: httpx.Response) -> dict[str, str | None]:
    return {name: response.headers.get(name) for name in ALWAYS}


def _crossing(response: httpx.Response) -> list[str]:
    return [name for name in response.headers if name.startswith("access-control-")]


@pytest.mark.parametrize(("method", "place", "status"), PLACES)
async def test_every_answer_has_them(
    client: httpx.AsyncClient, settings: Settings, method: str, place: str, status: int
) -> None:
    address = settings.base.removesuffix("/fhir") + place if place.startswith("/") else place
    answer = await client.request(method, address, headers=FHIR_JSON)
    assert answer.status_code == status, answer.text
    assert _held(answer) == ALWAYS
    assert "strict-transport-security" not in answer.headers, "it is not served over TLS"
    assert _crossing(answer) == []
    assert all(answer.headers.get_list(name) == [value] for name, value in ALWAYS.items())


async def test_content_of_a_binary_is_never_run(client: httpx.AsyncClient) -> None:
    page = b"<html><script>alert(1)</script></html>"
    made = await client.post("Binary", content=page, headers={"content-type": "text/html"})
    answer = await client.get(made.headers["location"], headers={"accept": "text/html"})
    assert answer.content == page
    assert answer.headers["content-disposition"] == "attachment"
    policy = "default-src 'none'; frame-ancestors 'none'; sandbox"
    assert _held(answer) == {**ALWAYS, "content-security-policy": policy}


def test_what_the_wire_refuses_has_them_too(server: ServerProcess) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(b"NONSENSE\r\n\r\n")
        head = connection.recv(4096).decode().partition("\r\n\r\n")[0]
    lines = head.split("\r\n")
    assert lines[0] == "HTTP/1.1 400 Bad Request"
    assert {f"{name}: {value}" for name, value in ALWAYS.items()} <= set(lines)


HANDSHAKE: Final = (
    "GET /fhir/Patient HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def _shaken(server: ServerProcess, sent: str) -> tuple[list[str], str]:
    """The head and the body of what comes until the connection ends."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(sent.encode())
        answer = b""
        while piece := connection.recv(4096):
            answer += piece
    head, _, told = answer.decode().partition("\r\n\r\n")
    return head.split("\r\n"), told


def test_a_websocket_that_there_is_not_is_refused_with_them(server: ServerProcess) -> None:
    lines, told = _shaken(server, HANDSHAKE)
    assert lines[0] == "HTTP/1.1 404 Not Found"
    assert {f"{name}: {value}" for name, value in ALWAYS.items()} <= set(lines)
    assert "There is no websocket at /fhir/Patient; there is one at /fhir/ws" in told


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("Host: a\r\n", f"Host: a\r\nX: {'a' * 8200}\r\n"),
        ("/Patient", f"/ws?{'a' * 8200}"),
        ("Host: a\r\n", "Host: a\r\n" + "X: a\r\n" * 130),
        ("Host: a\r\n", "Host: a\r\nContent-Length: 4\r\n"),
    ],
    ids=["header", "address", "headers", "body"],
)
def test_class_25_a_handshake_that_is_none_is_answered_and_ends(
    server: ServerProcess, good: str, bad: str
) -> None:
    """It was left open without a word, and the server could not stop in order because of it."""
    lines, told = _shaken(server, HANDSHAKE.replace(good, bad))
    assert lines[0] == "HTTP/1.1 400 Bad Request"
    assert {f"{name}: {value}" for name, value in ALWAYS.items()} <= set(lines)
    assert '"resourceType":"OperationOutcome"' in told


async def test_class_25_nobody_is_sent_to_where_the_host_header_says(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    """A slash too many was a redirect to `Host`: with the form and its assertion."""
    root = settings.base.removesuffix("/fhir")
    for method, place in (
        ("POST", "/auth/token/"),
        ("GET", "/auth/jwks/"),
        ("GET", "/health/live/"),
    ):
        answer = await client.request(method, root + place, headers={"host": "evil.example"})
        assert_outcome(answer, 404, "not-found", place)
        assert "location" not in answer.headers


@pytest.mark.parametrize(
    ("base", "secure"),
    [("https://fhir.example.nhs.uk/fhir", True), ("http://127.0.0.1:9/fhir", False), ("", False)],
)
async def test_browsers_keep_to_https_where_clients_use_it(
    settings: Settings, base: str, secure: bool
) -> None:
    async with served(settings, public_base=base) as client:
        for address in ("metadata", "Patient/nobody"):
            told = (await client.get(f"/fhir/{address}")).headers.get("strict-transport-security")
            assert told == ("max-age=31536000" if secure else None)


# CORS


def _preflight(origin: str, **more: str) -> dict[str, str]:
    named = {name.replace("_", "-"): value for name, value in more.items()}
    return {"origin": origin, "access-control-request-method": "PUT", **named}


@pytest.mark.parametrize("origin", [APP, OTHER, "null", "*"])
async def test_by_default_no_script_of_another_origin_reads_anything(
    client: httpx.AsyncClient, origin: str
) -> None:
    for answer in (
        await client.get("Patient", headers={"origin": origin}),
        await client.options("Patient/1", headers=_preflight(origin)),
    ):
        assert _crossing(answer) == []
        assert "origin" not in answer.headers["vary"].lower()


@pytest.mark.parametrize("origin", [APP, OTHER])
async def test_scripts_of_an_origin_that_is_named_may_read(settings: Settings, origin: str) -> None:
    async with served(settings, cors_origins=(APP, OTHER)) as client:
        health = settings.base.removesuffix("/fhir") + "/health/live"
        for place, status in (("Patient", 200), ("Patient/nobody", 404), (health, 200)):
            answer = await client.get(place, headers={"origin": origin})
            assert answer.status_code == status
            assert answer.headers["access-control-allow-origin"] == origin
            shown = answer.headers["access-control-expose-headers"].split(", ")
            assert {"ETag", "Location", "X-Request-ID", "Retry-After"} <= set(shown)
            assert "access-control-allow-credentials" not in answer.headers
            assert answer.headers["vary"].endswith("Origin")


async def test_a_preflight_is_answered_before_anything_else_is_looked_at(
    settings: Settings,
) -> None:
    async with served(settings, cors_origins=(APP,)) as client:
        for place in ("Patient/1", "Dragon", "/auth/token", "/.well-known/smart-configuration"):
            asked = _preflight(APP, access_control_request_headers="authorization,if-match,x-evil")
            answer = await client.options(place, headers=asked)
            assert answer.status_code == 204
            assert answer.content == b""
            assert answer.headers["access-control-allow-origin"] == APP
            methods = answer.headers["access-control-allow-methods"].split(", ")
            assert methods == ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
            taken = answer.headers["access-control-allow-headers"].lower().split(", ")
            assert {"authorization", "content-type", "if-match", "prefer"} <= set(taken)
            assert "x-evil" not in taken, "nothing is sent back because it was sent"
            assert "access-control-allow-credentials" not in answer.headers
            assert answer.headers["vary"] == "Origin"
            assert _held(answer) == ALWAYS


async def test_without_a_method_that_is_asked_about_it_is_no_preflight(settings: Settings) -> None:
    async with served(settings, cors_origins=(APP,)) as client:
        answer = await client.options("Patient", headers={"origin": APP})
        assert "POST" in answer.headers["allow"].split(", ")
        assert answer.headers["access-control-allow-origin"] == APP
        assert "access-control-allow-methods" not in answer.headers


@pytest.mark.parametrize(
    "origin",
    [
        "https://app.example.nhs.uk.evil.example",
        "https://evil.example",
        "https://app.example.nhs.uk:8443",
        "http://app.example.nhs.uk",
        "https://APP.example.nhs.uk",
        "https://app.example.nhs.uk/",
        "https://xapp.example.nhs.uk",
        "null",
        "",
        "*",
    ],
)
async def test_an_origin_that_is_not_named_gets_nothing(settings: Settings, origin: str) -> None:
    async with served(settings, cors_origins=(APP,)) as client:
        answer = await client.get("Patient", headers={"origin": origin})
        assert answer.status_code == 200, "who is no browser is no business of CORS"
        assert _crossing(answer) == []
        assert answer.headers["vary"] == "Accept, Accept-Encoding, Prefer, Origin", "for caches"
        refused = await client.options("Patient/1", headers=_preflight(origin))
        assert _crossing(refused) == []


async def test_two_origins_are_none(settings: Settings) -> None:
    async with served(settings, cors_origins=(APP, OTHER)) as client:
        twice = [("origin", APP), ("origin", OTHER)]
        assert _crossing(await client.get("Patient", headers=twice)) == []


async def test_a_write_of_an_app_in_a_browser_comes_through(settings: Settings) -> None:
    """And without CORS a script cannot write either: its content type takes a preflight."""
    async with served(settings, cors_origins=(APP,)) as client:
        sent = body({"resourceType": "Patient"})
        made = await client.post(
            "Patient", content=sent["content"], headers={**sent["headers"], "origin": APP}
        )
        assert made.status_code == 201
        assert made.headers["access-control-allow-origin"] == APP
        for simple in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
            refused = await client.post(
                "Patient", content=sent["content"], headers={"content-type": simple}
            )
            assert refused.status_code == 415


@pytest.mark.parametrize(
    "origin",
    [
        "*",
        "null",
        "https://*.example.nhs.uk",
        "https://app.example.nhs.uk/",
        "https://app.example.nhs.uk:443",
        "http://app.example.nhs.uk:80",
        "https://App.example.nhs.uk",
        "https://user@app.example.nhs.uk",
        "app.example.nhs.uk",
        "https://",
        "https://a.example:port",
        "https://a.example\r\nx: y",
    ],
)
def test_a_setting_that_no_browser_would_send_is_an_error_at_start(origin: str) -> None:
    with pytest.raises(ValueError, match="cors_origins"):
        Settings(auth="none", cors_origins=(origin,))


def test_origins_in_the_environment_are_separated_by_commas(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KEYWORKING_CORS_ORIGINS", f"{APP}, {OTHER}")
    assert Settings().cors_origins == (APP, OTHER)
    monkeypatch.setenv("KEYWORKING_CORS_ORIGINS", "")
    assert Settings().cors_origins == ()
