"""Searchsets of stored resources, put together from their bytes."""

from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import urlencode

from fhir_server.access.session import StoredVersion
from fhir_server.errors import Issue
from fhir_server.fhir import json
from fhir_server.fhir.bundles import AllFound, Entry, Rendered, bundle
from fhir_server.fhir.outcomes import outcome
from fhir_server.operation.api import Call


def searchset(
    call: Call,
    used: Sequence[tuple[str, str]],
    matches: Sequence[StoredVersion],
    included: Sequence[StoredVersion] = (),
    notes: Sequence[Issue] = (),
    links: Mapping[str, str] | None = None,
) -> bytes:
    """`used` are the parameters, for the link to itself."""
    query = urlencode(used)
    itself = f"{call.base}/{call.address}" + (f"?{query}" if query else "")
    entries = [
        *_entries(call.base, matches, "match"),
        *_entries(call.base, included, "include"),
        *_notes(notes),
    ]
    return bundle("searchset", entries, links=[("self", itself), *(links or {}).items()])


def _entries(base: str, versions: Sequence[StoredVersion], mode: str) -> Iterator[Rendered]:
    if versions:
        yield AllFound(base, versions, mode)


def _notes(issues: Sequence[Issue]) -> Iterator[Entry]:
    if issues:
        body = json.encode(outcome(issues, default_code="informational"))
        yield Entry("", body, {"search": {"mode": "outcome"}})
