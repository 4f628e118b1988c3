"""The lines that `keyworking serve --synthetic-caseload` prints, and what they promise."""

import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support import free_port

KEYWORKING: Final = [sys.executable, "-c", "from fhir_server.cli import main; main()"]
_START_PATIENCE: Final = 60.0
_LAST_LINE: Final = "/fhir/metadata"

PRINTED: Final = {
    "Who is supported?": r'"resourceType": ?"Patient"',
    "One young person's plan, with its goals": r'"resourceType": ?"Goal"',
    "How likely is an admission?": r'"valueCode": ?"amber"',
    "The ward tells of an admission": r"The rating is blue",
    "Now the rating is blue": r'"name": ?"rating",\s*"valueCode": ?"blue"',
    "and a discharge plan is open": r'"name": ?"open"',
    "CAMHS looks for discharge plans": r'"code": ?"discharge-plan"',
    "The ward tells of the discharge": r"The rating is red",
    "What must be done by when?": r"Follow-up within 72 hours",
    "What can this server do?": r'"fhirVersion": ?"4\.0\.1"',
}
"""What each printed comment promises of the answer."""


@dataclass(frozen=True, slots=True)
class Served:
    """A server with the synthetic caseload, and what it printed."""

    base: str
    folder: Path
    """In which it was started, and in which its lines are to be run."""
    printed: str


def environment() -> dict[str, str]:
    """Without settings of whoever runs the tests."""
    return {k: v for k, v in os.environ.items() if not k.startswith("KEYWORKING_")}


@contextmanager
def serving(folder: Path, auth: str, **settings: str) -> Iterator[Served]:
    """`keyworking serve --synthetic-caseload` in a folder, on its usual store."""
    port, log = free_port(), folder / "server.log"
    options = ["--auth", auth, "--port", str(port), "--synthetic-caseload"]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*KEYWORKING, "serve", *options],
            cwd=folder,
            env={**environment(), **settings, "PYTHONUNBUFFERED": "1"},
            stdout=out,
            stderr=out,
        )
    try:
        _await(log, process)
        yield Served(f"http://127.0.0.1:{port}/fhir", folder, log.read_text())
    finally:
        process.terminate()
        process.wait(60)


def _await(log: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_PATIENCE
    while not re.search(rf"{_LAST_LINE}.*\n\n", log.read_text()):
        if time.monotonic() > deadline or process.poll() is not None:
            raise RuntimeError(f"The server did not start: {log.read_text()}")
        time.sleep(0.05)


def printed_lines(printed: str) -> list[tuple[str, str]]:
    """Comment and command of each example."""
    return re.findall(r"^  # (.+)\n  (curl .+)$", printed, re.MULTILINE)


def request_of(command: str, folder: Path) -> tuple[str, str, dict[str, str], bytes | None]:
    """Method, address, headers, body: of curl with `-s`, `-H`, `-d @file` and an address."""
    words = iter(shlex.split(command)[1:])
    headers, content, url = dict[str, str](), None, ""
    for word in words:
        match word:
            case "-s":
                continue
            case "-H":
                name, _, value = next(words).partition(":")
                headers[name] = value.strip()
            case "-d":
                content = (folder / next(words).removeprefix("@")).read_bytes()
            case _:
                url = word
    return "GET" if content is None else "POST", url, headers, content
