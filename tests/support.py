"""What tests of every part lean on: refusals, what is stored, and a server in its own process."""

import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from fhir.resources.R4B.operationoutcome import OperationOutcome

from fhir_server.app import create_app
from fhir_server.caseload import generate
from fhir_server.fhir import json
from fhir_server.keeping import open_store
from fhir_server.settings import Settings
from fhir_server.storage.interface import Store, StoredVersion
from tests.stores import store_at

REPOSITORY: Final = Path(__file__).parents[1]
SHARED: Final = REPOSITORY.parent / "shared"
"""Beside a developer's checkout; tests pass without it."""
PACKAGE: Final = SHARED / "fhir" / "hl7.fhir.r4.core.tgz"
"""HL7's own definitions of R4."""
_ABSENT: Final = "the official files are not here"
needs_package: Final = pytest.mark.skipif(not PACKAGE.exists(), reason=_ABSENT)
VALID: Final = REPOSITORY / "tests" / "validation" / "valid"
FHIR_JSON: Final = {"content-type": "application/fhir+json"}
FORM: Final = {"content-type": "application/x-www-form-urlencoded"}
_START_PATIENCE: Final = 60.0
_MOST_RESERVED: Final = 64 if sys.platform == "linux" else 0
"""Ports: more than one test asks for, and few of the files that a process may have open."""
_reserved: Final[deque[socket.socket]] = deque()


def official_examples(pattern: str = "*.json") -> list[Any]:
    """Files of NHS England and HL7 to run a test with; without them, one that is skipped."""
    found = sorted((SHARED / "examples").glob(pattern))
    skipped = pytest.param(None, id="official", marks=pytest.mark.skip(reason=_ABSENT))
    return [pytest.param(path, id=path.stem) for path in found] or [skipped]


@cache
def caseload() -> tuple[dict[str, Any], ...]:
    """The transactions of the synthetic caseload: 770 resources, on whatever machine."""
    return tuple(generate(1, date(2026, 6, 1)))


def assert_outcome(
    response: httpx.Response,
    status: int,
    code: str,
    text_fragment: str,
    expression: str | None = None,
) -> None:
    """A refusal: its status, and an issue with that code, text and place."""
    assert response.status_code == status, (response.status_code, response.text)
    issues = outcome_issues(response)
    fitting = [
        issue
        for issue in issues
        if issue["code"] == code
        and text_fragment in issue["diagnostics"]
        and (expression is None or issue.get("expression") == [expression])
    ]
    assert fitting, issues


def outcome_issues(response: httpx.Response) -> list[dict[str, Any]]:
    """The issues of an OperationOutcome that R4B's own model takes as valid."""
    assert response.headers["content-type"] == "application/fhir+json; charset=utf-8"
    assert response.headers["vary"] == "Accept, Accept-Encoding, Prefer"
    OperationOutcome.model_validate_json(response.content)
    issues: list[dict[str, Any]] = response.json()["issue"]
    return issues


def exact(response: httpx.Response) -> Any:
    """The answer's JSON, with decimals as they were written."""
    return json.decode(response.content)


def body(resource: Any) -> dict[str, Any]:
    """Arguments of a request that carries the resource, decimals as they are."""
    return {"content": json.encode(resource), "headers": dict(FHIR_JSON)}


async def create(client: httpx.AsyncClient, resource: dict[str, Any]) -> dict[str, Any]:
    """The resource as the server created it."""
    response = await client.post(resource["resourceType"], **body(resource))
    assert response.status_code == 201, response.text
    created: dict[str, Any] = exact(response)
    return created


async def put(client: httpx.AsyncClient, resource: dict[str, Any]) -> dict[str, Any]:
    """The resource as the server stored it under its id."""
    response = await write_over(client, resource)
    assert response.status_code in (200, 201), response.text
    stored: dict[str, Any] = exact(response)
    return stored


async def write_over(client: httpx.AsyncClient, resource: dict[str, Any]) -> httpx.Response:
    """The answer to an update of whatever version is there."""
    address = f"{resource['resourceType']}/{resource['id']}"
    there = await client.head(address)
    request = body(resource)
    if there.status_code == 200:
        request["headers"]["If-Match"] = there.headers["etag"]
    return await client.put(address, **request)


@asynccontextmanager
async def client_of(folder: Path, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server with those settings and a store in the folder."""
    given = Settings(auth="none", store=store_at(folder / "test.db"), **settings)
    app = create_app(given)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url=given.base + "/") as client:
            yield client


async def found_ids(client: httpx.AsyncClient, search: str) -> list[str]:
    """The ids of the matches on the first page."""
    response = await client.get(search)
    assert response.status_code == 200, response.text
    return [
        entry["resource"]["id"]
        for entry in response.json().get("entry", ())
        if entry["search"]["mode"] == "match"
    ]


async def opened(place: Path | str) -> Store:
    """The store at a place, or at an address, as another process opens it."""
    address = place if isinstance(place, str) else store_at(place)
    return await open_store(Settings(auth="none", store=address))


async def stored_versions(store: Store) -> list[StoredVersion]:
    """Every version that was ever committed, in the order of the commits."""
    found: list[StoredVersion] = []
    after = 0
    while page := await store.changes(after, 1000):
        after = page[-1][0]
        found += [version for _, version in page]
    return found


def without_server_parts(resource: dict[str, Any]) -> dict[str, Any]:
    """The resource but for what a server gives it: id, version and time."""
    kept = {name: value for name, value in resource.items() if name not in ("id", "meta")}
    meta = {
        name: value
        for name, value in resource.get("meta", {}).items()
        if name not in ("versionId", "lastUpdated")
    }
    return {**kept, "meta": meta} if meta else kept


def free_port() -> int:
    """One that nobody else is given before the test's server listens at it.

    It stays bound by a socket that does not listen. Linux then gives it to nobody who asks for any
    port, to listen at or to connect from, and who asks for this one and sets SO_REUSEADDR, as
    servers do, may listen at it (socket(7)). Elsewhere somebody may come first.
    """
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", 0))
    _reserved.append(bound)
    port: int = bound.getsockname()[1]
    if len(_reserved) > _MOST_RESERVED:
        _reserved.popleft().close()
    return port


class ServerProcess:
    """`keyworking serve` on a free loopback port, in a process of its own."""

    def __init__(self, store: Path | str, log: Path, **environment: str) -> None:
        self.port = free_port()
        self.trust: ssl.SSLContext | None = None
        """How a client trusts one that is served over TLS."""
        self._store = store if isinstance(store, str) else store_at(store)
        self._log = log
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and wait until it answers."""
        outside = {k: v for k, v in os.environ.items() if not k.startswith("KEYWORKING_")}
        options = [
            "--auth",
            "none",
            "--port",
            str(self.port),
            "--store",
            self._store,
        ]
        command = "from fhir_server.cli import main; main()"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", command, "serve", *options],
                cwd=REPOSITORY,
                env={**outside, "KEYWORKING_PUBLISH": "false", **self._environment},
                stdout=log,
                stderr=log,
            )
        self._await_ready(self._process)

    def _await_ready(self, process: subprocess.Popen[bytes]) -> None:
        """The port is asked first, as that costs the starting server nothing."""
        deadline = time.monotonic() + _START_PATIENCE
        ready = f"{self.base.removesuffix('/fhir')}/health/ready"
        while time.monotonic() < deadline and process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), 2).close()
                # Without TLS nothing is to be trusted, and not to read what would be saves 30 ms.
                httpx.get(ready, timeout=2, verify=self.trust or False)
            except (OSError, httpx.TransportError):
                time.sleep(0.02)
            else:
                return
        self.stop()
        raise RuntimeError(f"The server did not start: {self._log.read_text()}")

    @property
    def base(self) -> str:
        return f"{'https' if self.trust else 'http'}://127.0.0.1:{self.port}/fhir"

    @property
    def store(self) -> Path:
        """Its file, of one that stands on SQLite."""
        return Path(self._store.removeprefix("sqlite:///"))

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError("The server is not running")
        return self._process.pid

    def logged(self) -> str:
        return self._log.read_text()

    def kill(self) -> None:
        """As a power cut does it: SIGKILL, nothing is flushed or closed."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
