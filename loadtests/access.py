"""What access control costs, and whether time tells what is hidden.

Two servers with the same synthetic caseload, one with `--auth none` and one with `--auth token`,
both with the audit on; runs alternate, medians of several rounds are printed. The caller of the
second is a keyworker, whose patients are a third of the caseload.

Forbidden and absent are asked for in turn, on one connection.
"""

import asyncio
import base64
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final

import click
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from loadtests.client import Make, alternate, get, load
from loadtests.processes import free_port, wait

ISSUER: Final = "https://bench.example.nhs.uk"
_OWN: Final = "kw-synthetic-007"
_HIDDEN: Final = "kw-synthetic-005"
"""Of another keyworker."""
_ABSENT: Final = "kw-synthetic-905"
_CALLER: Final = {"fhirUser": "Practitioner/kw-practitioner-keyworker-2", "ods_code": "ZZK01"}
PATHS: Final = {
    "read by id": f"CarePlan/{_OWN}-plan",
    "search, few matches": f"CarePlan?patient={_OWN}&status=active&_count=20",
    "search page of 20": "Task?_count=20",
    "search, one patient": f"Patient?_id={_OWN}",
}
ALIKE: Final = {
    "read": "CarePlan/{}-plan",
    "read of a Patient": "Patient/{}",
    "vread": "CarePlan/{}-plan/_history/1",
    "history": "CarePlan/{}-plan/_history",
    "search by patient": "CarePlan?patient={}",
    "search by id": "Flag?_id={}-flag",
    "$everything": "Patient/{}/$everything",
}


@click.command()
@click.option("--rounds", default=5, show_default=True, help="Pairs of runs of each path.")
@click.option("--seconds", default=2.0, show_default=True, help="Length of one run.")
@click.option("--connections", default=16, show_default=True)
def main(rounds: int, seconds: float, connections: int) -> None:
    """Measure reads under tokens against those without, and forbidden against absent."""
    report(rounds, seconds, connections)


def report(rounds: int, seconds: float, connections: int) -> None:
    key = rsa.generate_private_key(65537, 2048)
    with tempfile.TemporaryDirectory() as folder, _servers(Path(folder), key) as (free, guarded):
        token = _token(key, f"{guarded}")
        for path in PATHS.values():
            wait(f"{guarded}/{path}", token)
        click.echo(f"\n{'':22}{'none':>10}{'tokens':>10}{'share':>8}{'failed':>8}")
        for name, path in PATHS.items():
            addresses = f"{free}/{path}", f"{guarded}/{path}"
            _compare(name, *addresses, token, rounds, seconds, connections)
        click.echo(f"\n{'':22}{'hidden ms':>10}{'absent ms':>10}{'ratio':>8}")
        for name, path in ALIKE.items():
            hidden, absent = (f"{guarded}/{path.format(one)}" for one in (_HIDDEN, _ABSENT))
            _tell_apart(name, hidden, absent, token, int(400 * seconds))


def _compare(
    name: str,
    free: str,
    guarded: str,
    token: str,
    rounds: int,
    seconds: float,
    connections: int,
) -> None:
    pairs: list[tuple[float, float]] = []
    failed = 0
    for number in range(rounds + 1):
        runs = [
            asyncio.run(load(url, _same(sent), connections=connections, seconds=seconds))
            for url, sent in ((free, get(free)), (guarded, get(guarded, token)))
        ]
        failed += sum(run.failed for run in runs)
        if number:  # the first pair warms up
            pairs.append((runs[0].rate, runs[1].rate))
    none, tokens = (median(one[which] for one in pairs) for which in (0, 1))
    share = median(two / one for one, two in pairs)
    click.echo(f"{name:22}{none:10.0f}{tokens:10.0f}{share:8.3f}{failed:8}")


def _same(request: bytes) -> Make:
    return lambda _: request


def _tell_apart(name: str, hidden: str, absent: str, token: str, pairs: int) -> None:
    asyncio.run(alternate(hidden, absent, token, pairs // 10))  # warms up
    one, other = asyncio.run(alternate(hidden, absent, token, pairs))
    times = median(one.times), median(other.times)
    click.echo(f"{name:22}{times[0]:10.3f}{times[1]:10.3f}{times[0] / times[1]:8.3f}")


@contextmanager
def _servers(folder: Path, key: rsa.RSAPrivateKey) -> Iterator[tuple[str, str]]:
    keys = folder / "keys.json"
    keys.write_text(json.dumps({"keys": [_jwk(key)]}))
    told = {"KEYWORKING_ISSUER": ISSUER, "KEYWORKING_JWKS": str(keys)}
    started = [_serve(folder, "none", {}), _serve(folder, "token", told)]
    try:
        bases = [f"http://127.0.0.1:{port}/fhir" for _, port in started]
        for base in bases:
            wait(f"{base}/metadata")
        wait(f"{bases[0]}/CarePlan/{_OWN}-plan")
        yield bases[0], bases[1]
    finally:
        for process, _ in started:
            process.terminate()
            process.wait(20)


def _serve(folder: Path, auth: str, told: dict[str, str]) -> tuple[subprocess.Popen[bytes], int]:
    port = free_port()
    command = [sys.executable, "-m", "fhir_server.cli", "serve", "--auth", auth]
    options = ["--port", str(port), "--store", f"sqlite:///{folder / auth}.db"]
    process = subprocess.Popen(
        [*command, *options, "--synthetic-caseload"],
        cwd=folder,
        env={**os.environ, **told, "KEYWORKING_AUDIT": "on"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return process, port


def _jwk(key: rsa.RSAPrivateKey) -> dict[str, Any]:
    """https://www.rfc-editor.org/rfc/rfc7518#section-6.3.1"""
    numbers = key.public_key().public_numbers()
    told = {name: _base64(_bytes(value)) for name, value in (("n", numbers.n), ("e", numbers.e))}
    return {"kty": "RSA", "kid": "bench", "use": "sig", "alg": "RS256", **told}


def _token(key: rsa.RSAPrivateKey, audience: str) -> str:
    now = int(time.time())
    times = {"iat": now, "nbf": now, "exp": now + 3600, "jti": "bench"}
    about = {"iss": ISSUER, "aud": audience, "sub": "bench", "client_id": "bench"}
    told = {**times, **about, **_CALLER, "scope": "user/*.rs", "purpose_of_use": "TREAT"}
    header = {"alg": "RS256", "kid": "bench", "typ": "JWT"}
    signing = ".".join(_base64(json.dumps(one).encode()) for one in (header, told))
    signature = key.sign(signing.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{signing}.{_base64(signature)}"


def _bytes(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


if __name__ == "__main__":
    main()
