"""One request at a time, with all of its answer: what a run then asks for many times."""

import json
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPResponse
from typing import Any, Final
from urllib.parse import urlsplit

_PATIENCE: Final = 60.0
"""Seconds."""


@dataclass(frozen=True, slots=True)
class Target:
    """A FHIR base, without a slash at its end, and the token that it is asked with."""

    base: str
    token: str = ""


def raw(
    method: str, target: Target, path: str, body: bytes = b"", headers: Sequence[str] = ()
) -> bytes:
    """The bytes of a request; the path is relative to the base, as are those of entries."""
    parts = urlsplit(f"{target.base}/{path}" if path else target.base)
    asked = parts.path + (f"?{parts.query}" if parts.query else "")
    lines = [f"{method} {asked} HTTP/1.1", f"Host: {parts.netloc}", *headers]
    if target.token:
        lines.append(f"Authorization: Bearer {target.token}")
    if body:
        lines += ["Content-Type: application/fhir+json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: dict[str, str]
    """Their names are in small letters."""
    body: bytes

    @property
    def succeeded(self) -> bool:
        return 200 <= self.status < 300

    @property
    def resource(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    @property
    def entries(self) -> int:
        """Resources that came: the entries of a Bundle, else one, or none without a body."""
        if not self.body:
            return 0
        found = json.loads(self.body)
        is_bundle = isinstance(found, dict) and found.get("resourceType") == "Bundle"
        return len(found.get("entry", ())) if is_bundle else 1

    @property
    def why(self) -> str:
        """What a refusal says, on one line."""
        try:
            issue = self.resource["issue"][0]
            said = issue.get("diagnostics") or issue.get("details", {}).get("text") or ""
        except (ValueError, KeyError, IndexError, TypeError):
            said = self.body[:200].decode("utf-8", "replace")
        return f"{self.status} {' '.join(str(said).split())[:200]}"


class Refused(Exception):
    """A server does not do what it is to be measured with; the text says what it said."""


def ask(sent: bytes, base: str) -> Reply:
    """Send the bytes of a request to the server at that address.

    Raises:
        Refused: it does not answer.
    """
    parts = urlsplit(base)
    address = (parts.hostname or "127.0.0.1", parts.port or 80)
    try:
        with socket.create_connection(address, _PATIENCE) as connection:
            connection.sendall(sent)
            answer = HTTPResponse(connection, method=sent[:4].decode().strip())
            answer.begin()
            headers = {name.lower(): value for name, value in answer.getheaders()}
            length = answer.length
            body = answer.read(length) if length is not None else answer.read()
            return Reply(answer.status, headers, body)
    except OSError as error:
        raise Refused(f"no answer: {error}") from None


def tried(sent: bytes, base: str, *, entries: int = 0) -> Reply:
    """As `ask`, of what has to succeed in a way that the load generator can count.

    Raises:
        Refused: it is no success, has fewer entries, or tells no length.
    """
    reply = ask(sent, base)
    if not reply.succeeded:
        raise Refused(reply.why)
    if "content-length" not in reply.headers:
        raise Refused("the answer has no Content-Length")
    if entries and reply.entries < entries:
        raise Refused(f"{reply.entries} entries came where there are at least {entries}")
    return reply
