"""A server of our own for a run: a region in a store, clients with keys, and processes."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click
from click.testing import CliRunner

from fhir_server.cli import main
from fhir_server.region import Asked
from loadtests.people import Identity, identities, inpatient_units
from loadtests.plan import Client
from loadtests.processes import free_port, wait

_STORE: Final = "region.db"
_PURPOSE: Final = "TREAT"
_STOPS: Final = 30.0
"""Seconds that a server has to stop."""


class CannotRun(Exception):
    """The run cannot begin; the text says why."""


@dataclass(frozen=True, slots=True)
class Served:
    """A server that answers."""

    base: str
    pid: int

    @property
    def token_url(self) -> str:
        return f"{self.base.removesuffix('/fhir')}/auth/token"


def make_region(asked: Asked, folder: Path) -> str:
    """Fill a store with the region; what was made beside what was asked."""
    options = {
        "--boards": asked.boards,
        "--register": asked.register,
        "--population": asked.population,
        "--seed": asked.seed,
        "--as-of": asked.as_of.isoformat(),
        "--store": _address(folder),
    }
    return command("region", *(str(word) for pair in options.items() for word in pair))


def register(asked: Asked, folder: Path) -> list[Client]:
    """Keys for each identity, and each registered on the store, as an operator would do it."""
    return [_registered(identity, folder) for identity in identities(asked)]


def prepare(asked: Asked, folder: Path) -> tuple[list[Client], list[str]]:
    """Keys for each identity, and the lines that register them where the store is."""
    clients, lines = [], []
    for identity in identities(asked):
        client = _with_keys(identity, folder)
        words = _registration(identity, Path(f"{identity.name}.jwks.json"))
        clients.append(client)
        lines.append(shlex.join(["keyworking", *words]))
    return clients, lines


def _registered(identity: Identity, folder: Path) -> Client:
    client = _with_keys(identity, folder)
    keys = folder / f"{identity.name}.jwks.json"
    command(*_registration(identity, keys), "--store", _address(folder))
    return client


def _with_keys(identity: Identity, folder: Path) -> Client:
    command("key", "generate", identity.name, "--folder", str(folder))
    return Client(identity, identity.name, str(folder / f"{identity.name}.private.json"))


def _registration(identity: Identity, keys: Path) -> list[str]:
    words = ["client", "add", identity.name, "--jwks", str(keys), "--ods", identity.ods]
    words += ["--purpose", _PURPOSE]
    for scope in identity.scopes:
        words += ["--scope", scope]
    for role in identity.roles:
        words += ["--role", role]
    return [*words, "--user", identity.user] if identity.user else words


def command(*words: str) -> str:
    """What `keyworking` prints; called here, as forty processes would take a minute to start.

    Raises:
        CannotRun: it refuses.
    """
    runner = CliRunner(env={name: None for name in os.environ if name.startswith("KEYWORKING_")})
    ran = runner.invoke(main, words)
    if ran.exit_code:
        raise CannotRun(f"keyworking {' '.join(words[:3])}: {ran.output.strip()[-500:]}")
    return ran.stdout


def _keyworking() -> list[str]:
    return [sys.executable, "-m", "fhir_server.cli"]


def _environment(settings: dict[str, str]) -> dict[str, str]:
    """Settings of the caller's own are not for this server."""
    plain = {name: one for name, one in os.environ.items() if not name.startswith("KEYWORKING_")}
    return {**plain, **{f"KEYWORKING_{name}": one for name, one in settings.items()}}


def _address(folder: Path) -> str:
    return f"sqlite:///{(folder / _STORE).resolve()}"


def _require_answer(served: Served, log: Path) -> None:
    try:
        wait(f"{served.base}/metadata")
    except click.ClickException as error:
        told = log.read_text(errors="replace").strip()[-500:]
        raise CannotRun(f"{error.message}: {told} ({log})") from None


@contextmanager
def serving(
    asked: Asked, folder: Path, into: Path, *, workers: int, notices_to: Sequence[str]
) -> Iterator[Served]:
    """A server on a copy of the store, so that each begins with the same."""
    into.mkdir(parents=True, exist_ok=True)
    copy = into / _STORE
    shutil.copy(folder / _STORE, copy)
    settings = {
        "AUTH": "token",
        "PORT": str(free_port()),
        "STORE": f"sqlite:///{copy.resolve()}",
        "WORKERS": str(workers),
        "SERVER_TIMING": "true",
        "TOKEN_LIFETIME": "60",
        "INPATIENT_UNITS": ",".join(inpatient_units(asked)),
        "NOTICES_TO": ",".join(notices_to),
    }
    with (into / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [*_keyworking(), "serve"], env=_environment(settings), stdout=log, stderr=log
        )
    served = Served(f"http://127.0.0.1:{settings['PORT']}/fhir", process.pid)
    try:
        _require_answer(served, into / "server.log")
        yield served
    finally:
        process.terminate()
        try:
            process.wait(_STOPS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        copy.unlink(missing_ok=True)
