"""Bundles put together from bytes: stored resources go out as they are stored.

Source: https://hl7.org/fhir/R4/bundle.html.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from fhir_server.fhir import json
from fhir_server.fhir.json import Resource


class Rendered(Protocol):
    """What says by itself how it stands in a Bundle."""

    def render(self) -> bytes: ...


class Found(NamedTuple):
    """An entry of a searchset, of which a page has many; `mode` is one of search-entry-mode."""

    full_url: str
    body: bytes
    mode: str

    def render(self) -> bytes:
        url, mode = json.encode(self.full_url), self.mode.encode()
        return b'{"fullUrl":%b,"resource":%b,"search":{"mode":"%b"}}' % (url, self.body, mode)


class Stored(Protocol):
    """A resource as it is kept; type and id hold nothing that JSON would write otherwise."""

    @property
    def type(self) -> str: ...
    @property
    def id(self) -> str: ...
    @property
    def body(self) -> bytes: ...


class AllFound(NamedTuple):
    """Some entries as `Found`, one at least, each at its own address below the base."""

    base: str
    found: Sequence[Stored]
    mode: str

    def render(self) -> bytes:
        start = b'{"fullUrl":' + json.encode(f"{self.base}/")[:-1]
        end = b',"search":{"mode":"%b"}}' % self.mode.encode()
        return b",".join(
            [
                b'%b%b/%b","resource":%b%b'
                % (start, one.type.encode(), one.id.encode(), one.body, end)
                for one in self.found
            ]
        )


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry; `members` are its other properties, such as search, request or response."""

    full_url: str = ""
    body: bytes = b""
    members: Resource = field(default_factory=dict)

    def render(self) -> bytes:
        parts = []
        if self.full_url:
            parts.append(b'"fullUrl":' + json.encode(self.full_url))
        if self.body:
            parts.append(b'"resource":' + self.body)
        if self.members:
            parts.append(json.encode(self.members)[1:-1])
        return b"{" + b",".join(parts) + b"}"


def bundle(
    bundle_type: str,
    entries: Iterable[Rendered],
    *,
    links: Sequence[tuple[str, str]] = (),
    total: int | None = None,
    timestamp: str | None = None,
) -> bytes:
    """A Bundle as JSON; one without entries has no `entry`, as FHIR has no empty arrays."""
    head: Resource = {"resourceType": "Bundle", "type": bundle_type}
    if timestamp is not None:
        head["timestamp"] = timestamp
    if total is not None:
        head["total"] = total
    if links:
        head["link"] = [{"relation": relation, "url": url} for relation, url in links]
    return _with_entries(head, (entry.render() for entry in entries))


def of_rendered(bundle_type: str, entries: Iterable[bytes]) -> bytes:
    """A Bundle of entries that were rendered before."""
    return _with_entries({"resourceType": "Bundle", "type": bundle_type}, entries)


def _with_entries(head: Resource, entries: Iterable[bytes]) -> bytes:
    rendered = b",".join(list(entries))
    tail = b',"entry":[' + rendered + b"]}" if rendered else b"}"
    return json.encode(head)[:-1] + tail
