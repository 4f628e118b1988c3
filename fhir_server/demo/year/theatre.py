"""A server for one evening: started on a free port over a new store, stopped by its own process."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from fhir_server.authorisation import pairs
from fhir_server.demo.conversation import CannotPlay
from fhir_server.demo.year import stage
from fhir_server.demo.year.cast import Tokens
from fhir_server.settings import PREFIX
from fhir_server.storage.clock import MovableClock

_UP: Final = 180.0
"""Seconds that the server may take until it answers; the caseload is loaded in them."""
_DOWN: Final = 20.0


@dataclass(frozen=True, slots=True)
class House:
    """A server, its clock, and what opens it; None where it asks for no tokens."""

    base: str
    stage_door: str
    """A base without tokens, for the demo itself; the same where the server asks for none."""
    clock: MovableClock
    tokens: Tokens | None


@contextmanager
def own_server(told: str) -> Iterator[House]:
    """A server of the demo's own, for as long as the story goes.

    Raises:
        CannotPlay: it does not come up.
    """
    with tempfile.TemporaryDirectory(prefix="keyworking-demo-") as folder:
        place, ports = stage.Place(Path(folder)), _free_ports(2)
        key = pairs.generated()
        stage.written(place.keys, pairs.public(key))
        process = _started(place, ports, told)
        try:
            base, door = (f"http://127.0.0.1:{port}/fhir" for port in ports)
            for one in (base, door):
                _await(process, one, place.log)
            clock = MovableClock(place.clock)
            yield House(base, door, clock, Tokens(key, base, stage.ISSUER, clock))
        finally:
            _stop(process)


@contextmanager
def their_server(base: str, clock: Path) -> Iterator[House]:
    """A server that runs already, without tokens, whose clock is moved by that file."""
    yield House(base, base, MovableClock(clock), None)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        found = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in found:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in found]


def _started(place: stage.Place, ports: Sequence[int], told: str) -> subprocess.Popen[bytes]:
    """Apart from the terminal, so that Ctrl-C comes here, and what is ended is ended in order."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    with place.log.open("wb") as log:
        return subprocess.Popen(  # noqa: S603 - a module of our own
            [sys.executable, "-m", stage.__name__, str(place.folder), *map(str, ports), told],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=log,
            env=kept,
            start_new_session=True,
        )


def _await(process: subprocess.Popen[bytes], base: str, log: Path) -> None:
    ready = base.removesuffix("/fhir") + "/health/ready"
    end = time.monotonic() + _UP
    with httpx.Client(trust_env=False) as client:
        while time.monotonic() < end and process.poll() is None:
            try:
                if client.get(ready).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.1)
    said = log.read_text(errors="replace").strip().splitlines()
    last = f": {said[-1]}" if said else ""
    raise CannotPlay(f"The demo's own server did not come up{last}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(_DOWN)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
