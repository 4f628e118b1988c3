"""`python -m loadtests.access`: what access control and the audit cost, as ratios of one run.

Servers with `--auth none`, with tokens, and with `--auth none` and no audit, each with a copy of
one store, are asked for the same in small blocks in turn, so that whatever else the machine does
hits all alike. A ratio is of the processor time of the server for a request, which is what it has
less of on a busy machine; times of answers are told where they are what counts.
"""

import asyncio
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import socket
from statistics import median, quantiles
from typing import Final

import click
from jose import jwk, jwt

from loadtests import caseloads
from loadtests.client import Run, get, load

_ISSUER: Final = "https://idp.example.nhs.uk"
_AUDIENCE: Final = "https://fhir.example.nhs.uk/fhir"
_READS: Final = "system/*.rs"
_KEYWORKERS: Final = 20
"""Who ask by turns, so that no one of them is met twice in a row."""
_WARM: Final = 0.3
"""Seconds of a run before anything is measured: as many as it takes to ask for each once."""
_STRIDE: Final = 977
"""Addresses between the first ones of two blocks, so that not the same are asked each time."""


@dataclass(frozen=True, slots=True)
class Server:
    base: str
    pid: int

    def cpu(self) -> float:
        """Seconds of processor time that its threads have had: Linux tells it of any process."""
        return time.clock_gettime((~self.pid << 3) | 2)


@dataclass(frozen=True, slots=True)
class Asked:
    """One path of the bench: what it is called, and its addresses in turn, each with a token."""

    name: str
    pairs: Sequence[tuple[str, str]]


def _by(name: str, paths: Sequence[str], token: str) -> Asked:
    """All asked by one caller."""
    return Asked(name, [(path, token) for path in paths])


@dataclass(frozen=True, slots=True)
class Block:
    """A short run: processor time of a request, in microseconds, and times in milliseconds."""

    cpu: float
    run: Run


@click.command()
@click.option("--patients", default=5000, show_default=True)
@click.option("--blocks", default=15, show_default=True, help="Of each server and path.")
@click.option("--seconds", default=0.4, show_default=True, help="Length of a block.")
@click.option("--connections", default=8, show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), help="Keeps the store there.")
@click.option("--only", default="", help="What the names of the lines have in them.")
def main(
    patients: int, blocks: int, seconds: float, connections: int, folder: Path | None, only: str
) -> None:
    """Measure reads and searches with a policy, refusals, and the audit."""
    report(patients, blocks, seconds, connections, folder, only)


def report(
    patients: int = 5000,
    blocks: int = 15,
    seconds: float = 0.4,
    connections: int = 8,
    folder: Path | None = None,
    only: str = "",
) -> None:
    click.echo(
        f"access control: {os.cpu_count()} cores, {platform.machine()}, "
        f"Python {platform.python_version()}, {patients} patients, {connections} connections, "
        f"{blocks} blocks of {seconds:g} s in turn"
    )
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as running:
        place = Path(temporary)
        made = _built(folder or place, patients)
        tokens = _tokens(place)
        none, token, silent = (
            running.enter_context(_served(made, place, name, options))
            for name, options in _servers(place)
        )

        def compare(one: Server, other: Server, asked: Asked) -> list[tuple[Block, Block]]:
            return _in_turn((one, asked), (other, asked), blocks, seconds, connections)

        _policies(lambda asked: compare(none, token, asked), tokens, only)
        _audit(lambda asked: compare(silent, none, asked))
        _refusals(token, tokens["keyworker"], blocks, seconds)


def _policies(
    compare: Callable[[Asked], list[tuple[Block, Block]]], tokens: dict[str, str], only: str
) -> None:
    _heading("with a policy", "auth none", "token", "speed kept")
    for asked in filter(lambda one: only in one.name, _paths(tokens)):
        _line(asked.name, compare(asked))


def _audit(compare: Callable[[Asked], list[tuple[Block, Block]]]) -> None:
    _heading("audit, auth none", "off", "on", "speed kept")
    _line("read by id", compare(_by("read", _reads(range(2000)), "")))
    _line("search page of 20", compare(_by("search", [_SEARCH], "")))


_SEARCH: Final = "CarePlan?_count=20"


def _reads(patients: range) -> list[str]:
    """Of each of them, as much as a keyworker looks at: no answer is asked for twice in a row."""
    parts = ("CarePlan/c{}-0", "Task/t{}-0", "Flag/f{}", "CarePlan/c{}-1", "EpisodeOfCare/e{}")
    return [part.format(number) for part in (*parts, "Task/t{}-1") for number in patients]


def _of_many(tokens: dict[str, str]) -> Iterator[tuple[str, str]]:
    """What 20 keyworkers read, each of their own, by turns: 2,400 resources."""
    each = [
        [(path, tokens[f"keyworker-{who}"]) for path in _reads(caseloads.of_keyworker(who))]
        for who in range(_KEYWORKERS)
    ]
    return (pair for several in zip(*each, strict=True) for pair in several)


def _paths(tokens: dict[str, str]) -> Iterator[Asked]:
    keyworker, unit, signatory = (tokens[name] for name in ("keyworker", "unit", "signatory"))
    one = [f"CarePlan?patient=p{number}&_count=20" for number in range(10)]
    flags = [f"Flag/f{number}" for number in range(2000)]
    yield Asked("20 keyworkers: read", [*_of_many(tokens)])
    yield _by("keyworker: read", _reads(range(20)), keyworker)
    yield _by("keyworker: search of one", one, keyworker)
    yield _by("keyworker: page of 20", [_SEARCH], keyworker)
    yield _by("keyworker: page, anew", _anew(_SEARCH), keyworker)
    yield _by("unit: read", _reads(range(10)), unit)
    yield _by("unit: search of one", one, unit)
    yield _by("unit: page of 20", [_SEARCH], unit)
    yield _by("unit: page, anew", _anew(_SEARCH), unit)
    yield _by("signatory: read", flags, signatory)
    yield _by("signatory: search of one", [f"Flag?patient=p{n}" for n in range(1000)], signatory)
    yield _by("signatory: page of 20", [_FLAGS], signatory)
    yield _by("signatory: page, anew", _anew(_FLAGS), signatory)
    yield _by("signatory: by colour", [_COLOUR], signatory)


_FLAGS: Final = "Flag?_count=20"


def _anew(search: str) -> list[str]:
    """In other words each time: more than any server remembers, or knows to be asked again."""
    return [f"{search}&_id:not=x{number}" for number in range(_OTHER_WORDS)]


_OTHER_WORDS: Final = 4000
_COLOUR: Final = "Flag?code=red&status=active&_count=20"


def _heading(*names: str) -> None:
    first, one, other, kept = names
    click.echo(f"{first:28}{one + ' µs':>14}{other + ' µs':>12}{kept:>12}   quartiles    failed")


def _line(name: str, pairs: Sequence[tuple[Block, Block]]) -> None:
    """The processor time of a request with one server and the other, and how they compare."""
    ratios = [one.cpu / other.cpu for one, other in pairs]
    low, middle, high = quantiles(ratios, n=4)
    failed = sum(block.run.failed for pair in pairs for block in pair)
    one, other = (median(pair[at].cpu for pair in pairs) for at in (0, 1))
    spread = f"{low:.2f} to {high:.2f}"
    click.echo(f"{name:28}{one:14.0f}{other:12.0f}{middle:12.3f}   {spread}{failed:8}")


def _refusals(server: Server, token: str, blocks: int, seconds: float) -> None:
    """What is hidden against what is not there: one connection, as whoever listens would do it."""
    hidden = _by("hidden", [f"CarePlan/c{number}-0" for number in range(3000, 3500)], token)
    absent = _by("absent", [f"CarePlan/x{number}-0" for number in range(3000, 3500)], token)
    pairs = _in_turn((server, hidden), (server, absent), blocks, seconds, 1, refused=True)
    one, other = (median(one for pair in pairs for one in pair[at].run.refused) for at in (0, 1))
    click.echo(
        f"hidden {one * 1000:.0f} µs, absent {other * 1000:.0f} µs (median times of answers): "
        f"hidden takes {one / other:.3f} of absent"
    )


def _in_turn(
    one: tuple[Server, Asked],
    other: tuple[Server, Asked],
    blocks: int,
    seconds: float,
    connections: int,
    *,
    refused: bool = False,
) -> list[tuple[Block, Block]]:
    for server, asked in (one, other):
        answered = 0
        while answered < len(asked.pairs):  # who asks for the first time waits for the facts
            run = _block(server, asked, _WARM, connections, answered, refused=refused).run
            answered += len(run.refused if refused else run.times)
    pairs: list[tuple[Block, Block]] = []
    for number in range(blocks):
        order = (one, other) if number % 2 else (other, one)
        begin = number * _STRIDE
        found = [_block(*each, seconds, connections, begin, refused=refused) for each in order]
        first, second = found if number % 2 else reversed(found)
        pairs.append((first, second))
    return pairs


def _block(
    server: Server, asked: Asked, seconds: float, connections: int, begin: int, *, refused: bool
) -> Block:
    """A run that begins with the address of that number, and goes on in their order."""
    made = [get(f"{server.base}/{path}", token) for path, token in asked.pairs]
    before = server.cpu()
    run = asyncio.run(
        load(
            server.base,
            lambda number: made[(begin + number) % len(made)],
            connections=connections,
            seconds=seconds,
        )
    )
    time.sleep(0.06)  # what is flushed after the answer belongs to it
    answered = len(run.refused if refused else run.times)
    if not answered:
        raise click.ClickException(f"{asked.name}: nothing was answered as it should be")
    return Block((server.cpu() - before) / answered * 1e6, run)


def _built(folder: Path, patients: int) -> Path:
    path = folder / f"access-{patients}.db"
    if not path.exists():
        before = time.perf_counter()
        asyncio.run(caseloads.build(path, patients))
        click.echo(f"built in {time.perf_counter() - before:.0f} s")
    return path


def _servers(place: Path) -> list[tuple[str, dict[str, str]]]:
    tokens = {
        "AUTH": "token",
        "ISSUER": _ISSUER,
        "JWKS": str(place / "jwks.json"),
        "AUDIENCE": _AUDIENCE,
        "REGISTER_SIGNATORIES": f"{caseloads.SIGNATORY}=health",
        "INPATIENT_UNITS": caseloads.UNIT,
    }
    return [
        ("none", {"AUTH": "none"}),
        ("token", tokens),
        ("silent", {"AUTH": "none", "AUDIT": "off"}),
    ]


def _tokens(place: Path) -> dict[str, str]:
    """One for each caller; what verifies them is written to `jwks.json`."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    private = ec.generate_private_key(ec.SECP256R1())
    pem = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
    known = {**jwk.construct(pem, "ES256").public_key().to_dict(), "kid": "bench", "use": "sig"}
    (place / "jwks.json").write_text(json.dumps({"keys": [known]}))
    now = int(time.time())
    people = {
        **{
            f"keyworker-{who}": {"fhirUser": f"Practitioner/kw-{who}", "ods_code": "RTX"}
            for who in range(_KEYWORKERS)
        },
        "keyworker": {"fhirUser": caseloads.KEYWORKER, "ods_code": "RTX"},
        "unit": {"ods_code": caseloads.UNIT},
        "signatory": {"ods_code": caseloads.SIGNATORY},
    }
    about = {"iss": _ISSUER, "aud": _AUDIENCE, "iat": now, "exp": now + 24 * 3600, "scope": _READS}
    return {
        name: jwt.encode(
            {**about, "client_id": name, "sub": name, "jti": f"{name}-{now}", **told},
            pem,
            "ES256",
            headers={"kid": "bench", "typ": "JWT"},
        )
        for name, told in people.items()
    }


@contextmanager
def _served(made: Path, place: Path, name: str, options: dict[str, str]) -> Iterator[Server]:
    path = place / f"{name}.db"
    shutil.copy(made, path)
    with socket() as found:
        found.bind(("127.0.0.1", 0))
        port = int(found.getsockname()[1])
    told = {f"KEYWORKING_{key}": value for key, value in options.items()}
    command = [sys.executable, "-m", "fhir_server.cli", "serve", "--port", str(port)]
    process = subprocess.Popen(
        [*command, "--store", f"sqlite:///{path}"],
        env={**os.environ, **told},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait(f"http://127.0.0.1:{port}/fhir/metadata")
        yield Server(f"http://127.0.0.1:{port}/fhir", process.pid)
    finally:
        process.terminate()
        process.wait(20)


def _wait(url: str) -> None:
    for _ in range(1000):
        try:
            urllib.request.urlopen(url).close()  # noqa: S310 - a loopback address
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise click.ClickException(f"{url} does not answer")


if __name__ == "__main__":
    main()
