"""What is used while there is load, and receivers of notices of several sorts."""

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

from loadtests.processes import free_port
from loadtests.samples import Use

_EACH: Final = 0.5
"""Seconds between two looks."""
_SLOW: Final = 3.0
"""Seconds that the slow receiver takes."""
_PAGE: Final = os.sysconf("SC_PAGE_SIZE") / 1e6
_TICK: Final = os.sysconf("SC_CLK_TCK")


@contextmanager
def watching(looked: Callable[[], Use], file: Path) -> Iterator[None]:
    """Write down, while it is open, what is used (Linux alone)."""
    ended = threading.Event()

    def look() -> None:
        with file.open("w") as lines:
            while not ended.wait(_EACH):
                use = looked()
                lines.write(json.dumps([use.at, use.cpu, use.megabytes]) + "\n")

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    try:
        yield
    finally:
        ended.set()
        looking.join(5)


def used(pid: int) -> Use:
    """By the process and those below it: /proc, https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html."""
    cpu, pages = 0, 0
    for one in (pid, *_below(pid)):
        fields = _stat(one)
        if fields:
            cpu += int(fields[11]) + int(fields[12])
            pages += int(fields[21])
    return Use(time.time(), cpu / _TICK, round(pages * _PAGE, 1))


def machine() -> Use:
    """By everything together: https://man7.org/linux/man-pages/man5/proc_stat.5.html.

    A core that waits for a disk is idle.
    """
    try:
        line = Path("/proc/stat").read_text().partition("\n")[0]
    except OSError:
        return Use(time.time(), float("nan"), 0.0)
    user, nice, system, idle, waits, *rest = map(int, line.split()[1:9])
    del idle, waits
    return Use(time.time(), (user + nice + system + sum(rest[:2])) / _TICK, 0.0)


def _stat(pid: int) -> list[str]:
    """The fields from the state on: the name before it may hold anything."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _below(pid: int) -> Iterator[int]:
    try:
        told = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for child in map(int, told):
        yield child
        yield from _below(child)


class Receivers:
    """Where notices go: one takes them at once, one slowly; and one is not there."""

    def __init__(self, server: ThreadingHTTPServer, taken: Counter[str]) -> None:
        self._origin = f"http://127.0.0.1:{server.server_address[1]}"
        self._dead = f"http://127.0.0.1:{free_port()}"
        self.taken = taken
        """Notices by receiver."""

    @property
    def origins(self) -> list[str]:
        return [self._origin, self._dead]

    @property
    def addresses(self) -> dict[str, str]:
        return {
            "quick": f"{self._origin}/quick",
            "slow": f"{self._origin}/slow",
            "dead": f"{self._dead}/dead",
        }


@contextmanager
def receiving() -> Iterator[Receivers]:
    taken: Counter[str] = Counter()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            name = self.path.strip("/")
            if name == "slow":
                time.sleep(_SLOW)
            taken[name] += 1
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    try:
        yield Receivers(server, taken)
    finally:
        server.shutdown()
        server.server_close()
