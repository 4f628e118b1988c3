"""The systems of two partners, as the server reaches them: they take notices over HTTP.

https://hl7.org/fhir/R4/subscription.html#2.46.7.1
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from fhir_server.errors import FhirError
from fhir_server.fhir import json
from fhir_server.fhir.json import Resource

_TOPIC: Final = "topic"
_PATIENCE: Final = 60.0


@dataclass(frozen=True, slots=True)
class Notice:
    """One event, as it was told."""

    system: str
    """Whose system was told: the last part of the address."""
    topic: str
    """The last part of the topic's address."""
    resources: tuple[Resource, ...]


@dataclass
class Receiver:
    """What has come in, in its order."""

    origin: str
    got: list[Notice] = field(default_factory=list)
    _numbers: set[tuple[str, str]] = field(default_factory=set)
    told: int = 0
    """How many of them were shown."""

    def wait_for(self, since: int, holds: Callable[[Notice], bool]) -> bool:
        """Until one after the first `since` is as asked, for some seconds."""
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
            if any(holds(notice) for notice in self.got[since:]):
                return True
            time.sleep(0.05)
        return False

    def fresh(self) -> list[Notice]:
        """Those that were not shown yet; they are now."""
        found = self.got[self.told :]
        self.told += len(found)
        return found

    def take(self, system: str, content: bytes) -> None:
        """One request; a handshake brings no event."""
        if (bundle := _bundle(content)) is None:
            return
        entries = bundle.get("entry", [])
        status = entries[0]["resource"]["parameter"] if entries else []
        if _value(status, "type") != "event-notification":
            return
        found = tuple(entry["resource"] for entry in entries[1:] if "resource" in entry)
        topic = str(_value(status, _TOPIC)).rpartition("/")[2]
        if self._is_new(status):
            self.got.append(Notice(system, topic, found))

    def _is_new(self, status: list[Resource]) -> bool:
        """A notice comes at least once: by its number one knows what came already."""
        subscription = str(_value(status, "subscription"))
        numbers = {
            (subscription, str(part["valueString"]))
            for one in status
            if one["name"] == "notification-event"
            for part in one["part"]
            if part["name"] == "event-number"
        }
        known = numbers <= self._numbers
        self._numbers |= numbers
        return not known


def _bundle(content: bytes) -> Resource | None:
    try:
        return json.decode_resource(content)
    except FhirError:
        return None


def _value(parameters: list[Resource], name: str) -> Any:
    for one in parameters:
        if one["name"] == name:
            return next((value for key, value in one.items() if key.startswith("value")), None)
    return None


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A server on a free port of loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers.get("content-length", 0)))
            receiver.take(self.path.strip("/"), content)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Quietly."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        receiver = Receiver(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()
