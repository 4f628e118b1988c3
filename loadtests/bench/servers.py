"""The servers of a run, each a process of its own: the bare one, ours, and somebody else's."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from jose import jwk, jwt

from loadtests.bench.asking import Target
from loadtests.bench.data import Data, built
from loadtests.processes import free_port, wait
from loadtests.watching import used

_ISSUER: Final = "https://idp.example.nhs.uk"
_AUDIENCE: Final = "https://fhir.example.nhs.uk/fhir"
_BARE: Final = """
import sys, uvicorn
size = 2000
async def app(scope, receive, send):
    global size
    if scope["type"] != "http":
        return
    if scope["path"] == "/size":
        size = int(scope["query_string"])
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [
        (b"content-type", b"application/fhir+json"), (b"content-length", b"%d" % size)]})
    await send({"type": "http.response.body", "body": b"x" * size})
uvicorn.run(app, port=int(sys.argv[1]), access_log=False, log_level="error", lifespan="off")
"""


class Served(Protocol):
    """A server that is measured."""

    name: str
    target: Target

    def renew(self) -> None:
        """Bring its data back to what they were, where that can be done."""


@dataclass(frozen=True, slots=True)
class Options:
    """How ours is run."""

    resources: int = 10_000
    workers: int = 1
    token: bool = False
    store: str = ""
    """The address of a MongoDB database of its own, which is filled; '' for a SQLite file."""
    folder: Path | None = None
    """Keeps the SQLite file that was built there."""

    def __str__(self) -> str:
        store = "MongoDB" if self.store else "SQLite (WAL, synchronous=FULL)"
        asked = "tokens" if self.token else "--auth none"
        return f"{self.resources:,} resources, {self.workers} worker(s), {asked}, {store}"


@dataclass
class Ours:
    """A server of this project on a store of its own.

    Raises:
        click.ClickException: when it does not come up.
    """

    options: Options
    place: Path
    name: str = "this server"
    data: Data = field(default_factory=Data)
    target: Target = field(init=False)
    process: "subprocess.Popen[bytes] | None" = None
    _jwks: Path = field(init=False)

    def __post_init__(self) -> None:
        port = free_port()
        self._jwks = self.place / "jwks.json"
        token = signed(self._jwks) if self.options.token else ""
        self.target = Target(f"http://127.0.0.1:{port}/fhir", token)

    @property
    def _made(self) -> Path:
        return (self.options.folder or self.place) / f"bench-{self.options.resources}.db"

    @property
    def _store(self) -> str:
        return self.options.store or f"sqlite:///{self.place / 'served.db'}"

    def build(self) -> float:
        """Fill the store; the seconds that it took."""
        before = time.perf_counter()
        if self.options.store:
            self.data = built(self.options.store, self.options.resources)
        else:
            self._made.unlink(missing_ok=True)
            self.data = built(f"sqlite:///{self._made}", self.options.resources)
        return time.perf_counter() - before

    def start(self) -> float:
        """The seconds from the start to the first answer."""
        before = time.perf_counter()
        port = self.target.base.split(":")[2].removesuffix("/fhir")
        command = [sys.executable, "-m", "fhir_server.cli", "serve", "--port", port]
        command += ["--store", self._store, "--workers", str(self.options.workers)]
        self.process = subprocess.Popen(
            command,
            env={**os.environ, **self._environment()},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        path = f"CarePlan/{self.data.plans[0]['id']}" if self.data.plans else "metadata"
        wait(f"{self.target.base}/{path}", self.target.token)
        return time.perf_counter() - before

    def _environment(self) -> dict[str, str]:
        told = {"AUTH": "none", "SCHEDULER": "false"}
        if self.options.token:
            told |= {"AUTH": "token", "ISSUER": _ISSUER, "JWKS": str(self._jwks)}
            told |= {"AUDIENCE": _AUDIENCE}
        return {f"KEYWORKING_{name}": value for name, value in told.items()}

    def renew(self) -> None:
        """A SQLite file is copied anew; a MongoDB database stays as it is."""
        if self.options.store and self.process is not None:
            return
        self.stop()
        if not self.options.store:
            for path in self.place.glob("served.db*"):
                path.unlink()
            shutil.copy(self._made, self.place / "served.db")
        self.start()

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(30)
            self.process = None

    def cpu(self) -> float:
        """Seconds of processor time of its process: Linux tells it of any. That of several, which
        a parent has started, is told in hundredths of a second."""
        assert self.process is not None  # noqa: S101 - it was started
        if self.options.workers > 1:
            return used(self.process.pid).cpu
        return time.clock_gettime((~self.process.pid << 3) | 2)

    def megabytes(self) -> float:
        """Resident memory of its process, or processes, where the system tells it."""
        assert self.process is not None  # noqa: S101 - it was started
        if self.options.workers > 1:
            return used(self.process.pid).megabytes * 1e6 / 2**20
        try:
            status = Path(f"/proc/{self.process.pid}/status").read_text()
        except OSError:
            return float("nan")
        line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) / 1024


@contextmanager
def ours(options: Options, place: Path) -> Iterator[Ours]:
    """Built, started, and stopped in the end."""
    server = Ours(options, place)
    server.build()
    try:
        server.renew()
        yield server
    finally:
        server.stop()


@dataclass
class Peer:
    """Somebody else's server, with the data in it; nobody brings them back."""

    target: Target
    name: str = "peer"

    def renew(self) -> None:
        """What was written stays: one more reason to compare within one run alone."""


@contextmanager
def bare() -> Iterator[str]:
    """The base of a server that reads what is sent and answers with as many bytes as it is told."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", _BARE, str(port)])
    try:
        wait(f"http://127.0.0.1:{port}/")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def signed(jwks: Path) -> str:
    """A token of a load test, which sees and writes what is marked as synthetic; what verifies it
    is written to the file."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    pem = (
        ec.generate_private_key(ec.SECP256R1())
        .private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        .decode()
    )
    known = {**jwk.construct(pem, "ES256").public_key().to_dict(), "kid": "bench", "use": "sig"}
    jwks.write_text(json.dumps({"keys": [known]}))
    return str(jwt.encode(_claims(), pem, "ES256", headers={"kid": "bench", "typ": "JWT"}))


def _claims() -> dict[str, Any]:
    now = int(time.time())
    return {
        "iss": _ISSUER,
        "aud": _AUDIENCE,
        "iat": now,
        "exp": now + 24 * 3600,
        "client_id": "bench",
        "sub": "bench",
        "jti": f"bench-{now}",
        "scope": "system/*.cruds",
        "role": "load-test",
    }
