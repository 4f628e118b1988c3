"""The MongoDB that tests run against.

That is the one that `KEYWORKING_TEST_MONGO_URL` names or, without it, SecantusDB in a process of
its own: MongoDB's wire protocol over WiredTiger (https://pypi.org/project/SecantusDB/).
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from tests.support import free_port

URL: Final = "KEYWORKING_TEST_MONGO_URL"
_START_PATIENCE: Final = 60.0
_STOP_PATIENCE: Final = 20.0
_started: "list[MongoProcess]" = []


class MongoProcess:
    """SecantusDB on a free loopback port; every commit is on disk before it is answered."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.port = free_port()
        self.folder = folder
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, database: str) -> str:
        return f"mongodb://127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start, and wait until it listens."""
        command = "import sys; from secantus.cli import main; sys.exit(main())"
        options = ["--host", "127.0.0.1", "--port", str(self.port), "--cache-size", "256M"]
        options += ["--storage-path", str(self.folder / "data"), "--log-level", "ERROR"]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", command, *options, *self._options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + _START_PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                if time.monotonic() > deadline or self._ended():
                    raise AssertionError((self.folder / "log").read_text()) from None
                time.sleep(0.05)
            else:
                return

    def _ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def send(self, signal_number: int) -> None:
        assert self._process is not None
        self._process.send_signal(signal_number)

    def kill(self) -> None:
        self.stop(signal.SIGKILL)

    def stop(self, signal_number: int = signal.SIGTERM) -> None:
        """End it; one that does not end by itself in time is killed."""
        if self._process is not None:
            process, self._process = self._process, None
            process.send_signal(signal_number)
            try:
                process.wait(_STOP_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def mongo_url(database: str) -> str:
    """The address of a database; the first to ask starts the server."""
    if URL not in os.environ:
        process = MongoProcess(Path(tempfile.mkdtemp(prefix="keyworking-mongo-")))
        process.start()
        _started.append(process)
        # For the processes that tests start.
        os.environ[URL] = process.url("")
    parts = urlsplit(os.environ[URL])
    return parts._replace(path=f"/{database}").geturl()


def stop_mongo() -> None:
    """Stop what was started, and remove its data."""
    while _started:
        process = _started.pop()
        process.kill()
        shutil.rmtree(process.folder)
        del os.environ[URL]
