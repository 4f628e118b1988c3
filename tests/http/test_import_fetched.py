"""$import of files from elsewhere: only from origins that the settings name, and no further.

https://hl7.org/fhir/R4/nd-json.html is what the files hold; the server that has them is a real one.
"""

import gzip
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Final

import httpx
import pytest
from pydantic import ValidationError

from fhir_operations._fetch import fetched
from fhir_server.errors import FhirError
from fhir_server.outgoing import Outgoing
from fhir_server.settings import Settings
from tests.jobs import later, lines, with_body
from tests.stores import store_at
from tests.support import assert_outcome, found_ids

COUNTS: Final = "https://keyworking.example/fhir/import-counts"


class Files(ThreadingHTTPServer):
    """Serves what it is given by path, and writes down what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: dict[str, bytes] = {}
        self.answers: dict[str, tuple[int, Mapping[str, str]]] = {}
        self.asked: list[tuple[str, str]] = []
        self.origin = f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Files

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers["Host"]))
        status, headers = self.server.answers.get(self.path, (200, {}))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(self.server.bodies.get(self.path, b""))

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def files() -> Iterator[Files]:
    with Files() as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def settings(tmp_path: Path, files: Files) -> Settings:
    return Settings(
        auth="none",
        store=store_at(tmp_path / "test.db"),
        import_from=(files.origin, "https://files.example.nhs.uk"),
        max_import=100_000,
    )


def _parameters(*urls: str, **more: str) -> dict[str, Any]:
    inputs = [{"name": "input", "part": [{"name": "url", "valueUrl": url}, _TYPE]} for url in urls]
    formats = [{"name": name, "valueCode": value} for name, value in more.items()]
    return with_body({"resourceType": "Parameters", "parameter": [*formats, *inputs]})


_TYPE: Final = {"name": "type", "valueCode": "Patient"}


def _patient(name: str) -> bytes:
    return b'{"resourceType":"Patient","id":"%s"}' % name.encode()


async def test_files_are_fetched_one_after_the_other(
    client: httpx.AsyncClient, files: Files
) -> None:
    files.bodies["/1"] = _patient("a") + b"\nnonsense\n" + _patient("b")
    files.bodies["/2"] = gzip.compress(_patient("c") + b"\n")
    files.answers["/2"] = (200, {"Content-Encoding": "gzip"})
    files.bodies["/empty"] = b""
    urls = [f"{files.origin}/{name}" for name in ("1", "empty", "2")]
    sent = _parameters(*urls, inputFormat="application/fhir+ndjson")
    manifest = await later(client, "POST", "$import", **sent)
    assert await found_ids(client, "Patient?_sort=_id") == ["a", "b", "c"]
    counts = {"created": 3, "updated": 0, "unchanged": 0, "refused": 1}
    assert manifest["extension"] == {COUNTS: counts}
    (told,) = await lines(client, manifest["error"])
    assert told["issue"][0]["diagnostics"].startswith(f"{urls[0]}, Line 2: ")


@pytest.mark.parametrize(
    ("path", "status", "headers", "content", "text"),
    [
        ("/gone", 404, {}, b"", "it answers 404"),
        ("/away", 302, {"Location": "/good"}, b"", "it answers 302"),
        ("/large", 200, {}, b"x\n" * 60_000, "too large"),
        ("/bomb", 200, {"Content-Encoding": "gzip"}, gzip.compress(b"x\n" * 900_000), "too large"),
        ("/broken", 200, {"Content-Encoding": "gzip"}, b"no gzip", "cannot be fetched"),
    ],
)
async def test_a_file_that_cannot_be_had_is_told_and_the_others_go_in(
    client: httpx.AsyncClient,
    files: Files,
    path: str,
    status: int,
    headers: dict[str, str],
    content: bytes,
    text: str,
) -> None:
    files.answers[path], files.bodies[path] = (status, headers), content
    files.bodies["/good"] = _patient("good")
    files.asked.clear()
    sent = _parameters(files.origin + path, f"{files.origin}/good")
    manifest = await later(client, "POST", "$import", **sent)
    assert [asked for asked, _ in files.asked] == [path, "/good"], "no redirect is followed"
    (told,) = await lines(client, manifest["error"])
    assert text in told["issue"][0]["diagnostics"]
    assert await found_ids(client, "Patient") == ["good"]


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("http://169.254.169.254/latest/meta-data", 403),
        ("{origin}.evil.example/1", 400),
        ("{origin}@evil.example/1", 400),
        ("http://evil.example/{origin}", 403),
        ("http://127.0.0.1/1", 403),
        ("http://localhost:{port}/1", 403),
        ("https://127.0.0.1:{port}/1", 403),
        ("http://files.example.nhs.uk/1", 403),
        ("https://files.example.nhs.uk.evil.example/1", 403),
        ("https://files.example.nhs.uk:8443/1", 403),
        ("https://user@files.example.nhs.uk/1", 400),
        ("file:///etc/passwd", 400),
        ("//files.example.nhs.uk/1", 400),
        ("ftp://files.example.nhs.uk/1", 400),
        ("http://[::1/1", 400),
    ],
)
async def test_nothing_else_is_fetched(
    client: httpx.AsyncClient, files: Files, url: str, status: int
) -> None:
    files.asked.clear()
    asked = url.replace("{origin}", files.origin).replace("{port}", str(files.server_port))
    refused = await client.post("$import", **_parameters(asked))
    assert refused.status_code == status, refused.text
    assert refused.json()["issue"][0]["expression"] == ["Parameters.parameter"]
    assert files.asked == []


@pytest.mark.parametrize(
    ("parameter", "text"),
    [
        ({"name": "input", "part": [_TYPE]}, "'url', with a valueUrl"),
        ({"name": "input", "part": [{"name": "address", "valueUrl": "http://a"}]}, "'url'"),
        ({"name": "mode", "valueCode": "bulk"}, "'mode' is not a parameter"),
        ({"name": "inputFormat", "valueCode": "text/csv"}, "missing"),
    ],
)
async def test_parameters_that_do_not_fit_are_refused(
    client: httpx.AsyncClient, parameter: dict[str, Any], text: str
) -> None:
    sent = with_body({"resourceType": "Parameters", "parameter": [parameter]})
    refused = await client.post("$import", **sent)
    assert refused.status_code in (400, 415)
    assert text in refused.text or "takes a body" in refused.text


async def test_another_format_is_refused(client: httpx.AsyncClient, files: Files) -> None:
    refused = await client.post("$import", **_parameters(f"{files.origin}/1", inputFormat="csv"))
    assert_outcome(refused, 400, "not-supported", "'csv' is not read")


async def test_by_default_no_origin_is_allowed(tmp_path: Path) -> None:
    assert Settings(auth="none", store=f"sqlite:///{tmp_path}/a.db").import_from == ()
    with pytest.raises(FhirError, match="origins that may be named: none"):
        Outgoing(()).require("https://files.example.nhs.uk/1", "here")


async def test_what_is_not_allowed_any_more_is_not_fetched(files: Files) -> None:
    """A job of a process with other settings goes on in one that does not let it."""
    files.asked.clear()
    with pytest.raises(FhirError, match=r"may be named: https://a\.example"):
        await anext(fetched(f"{files.origin}/1", 100, Outgoing(["https://a.example"])))
    assert files.asked == []


@pytest.mark.parametrize(
    "origin",
    [
        "http://files.example.nhs.uk",
        "https://files.example.nhs.uk/",
        "https://files.example.nhs.uk/a",
        "https://a@files.example.nhs.uk",
        "files.example.nhs.uk",
        "*",
        "https://",
    ],
)
def test_a_setting_that_is_no_origin_is_an_error_at_start(origin: str) -> None:
    with pytest.raises(ValidationError, match="import_from"):
        Settings(auth="none", import_from=(origin,))


async def test_lists_in_the_environment_are_separated_by_commas(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = "https://a.example, http://localhost:9000"
    monkeypatch.setenv("KEYWORKING_IMPORT_FROM", text)
    assert Settings().import_from == ("https://a.example", "http://localhost:9000")
