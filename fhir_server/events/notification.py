"""Notices as they go out: Bundles that begin with the status of their subscription.

https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/notifications.html, in R4's shape: a Bundle
of type history, whose first entry is Parameters by the profile backport-subscription-status-r4.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

from fhir_server.events.record import TYPE, Event, Record
from fhir_server.events.topics import TOPICS
from fhir_server.fhir import canonicals, json, xml
from fhir_server.fhir.bundles import Entry, bundle
from fhir_server.fhir.dates import instant
from fhir_server.fhir.json import Resource, encode
from fhir_server.storage.interface import StoredVersion

HANDSHAKE: Final = "handshake"
HEARTBEAT: Final = "heartbeat"
NOTIFICATION: Final = "event-notification"
QUERY_STATUS: Final = "query-status"
QUERY_EVENT: Final = "query-event"
_PROFILES: Final = f"{canonicals.BACKPORT}/StructureDefinition"
_FULL: Final = "full-resource"
_EMPTY: Final = "empty"


@dataclass(frozen=True, slots=True)
class Told:
    """An event, with what its receiver may see of it: nothing, where that is None."""

    event: Event
    shown: StoredVersion | None
    """Of a deletion the version before it, which is not sent."""


def notice(
    base: str, record: Record, kind: str, told: Sequence[Told], now: int, content: str = ""
) -> bytes:
    """A notification Bundle.

    Args:
        content: empty, id-only or full-resource, in the place of what the subscription says.
    """
    content = content or record.asked.content or _EMPTY
    status = status_of(record, kind, told, content)
    first = Entry(
        f"urn:uuid:{uuid4()}",
        encode(status),
        {
            "request": {"method": "GET", "url": f"{base}/{TYPE}/{record.id}/$status"},
            "response": {"status": "200"},
        },
    )
    entries = [first, *_entries(base, told, content)]
    meta = {"profile": [f"{_PROFILES}/backport-subscription-notification-r4"]}
    made = bundle("history", entries, timestamp=instant(now))
    return b'{"meta":' + encode(meta) + b"," + made[1:]


def as_sent(record: Record, content: bytes) -> bytes:
    """A resource in JSON in the format that the subscription asks for."""
    return xml.encode(json.decode_own(content)) if record.asked.xml else content


def status_of(record: Record, kind: str, told: Sequence[Told] = (), content: str = "") -> Resource:
    """The status as Parameters."""
    is_asked_for = kind in (QUERY_STATUS, QUERY_EVENT)
    known = record.numbered if is_asked_for else record.acked
    number = max([known, *(one.event.number for one in told)])
    parameters: list[Resource] = [
        {"name": "subscription", "valueReference": {"reference": f"{TYPE}/{record.id}"}}
    ]
    if record.asked.topic:
        url = TOPICS[record.asked.topic].url
        parameters.append({"name": "topic", "valueCanonical": url})
    parameters += [
        {"name": "status", "valueCode": record.status},
        {"name": "type", "valueCode": kind},
        {"name": "events-since-subscription-start", "valueString": str(number)},
        *(_event(one, content) for one in told),
    ]
    if record.error:
        parameters.append({"name": "error", "valueCodeableConcept": {"text": record.error}})
    return {
        "resourceType": "Parameters",
        "id": str(uuid4()),
        "meta": {"profile": [f"{_PROFILES}/backport-subscription-status-r4"]},
        "parameter": parameters,
    }


def _event(told: Told, content: str) -> Resource:
    """A number that is spent on what may not be seen any more comes without its focus."""
    event = told.event
    parts: list[Resource] = [
        {"name": "event-number", "valueString": str(event.number)},
        {"name": "timestamp", "valueInstant": instant(event.at)},
    ]
    if told.shown is not None and content != _EMPTY:
        parts.append({"name": "focus", "valueReference": {"reference": event.focus}})
    return {"name": "notification-event", "part": parts}


def _entries(base: str, told: Sequence[Told], content: str) -> Iterator[Entry]:
    """Each version once: a Bundle names nothing twice (https://hl7.org/fhir/R4/bundle.html)."""
    if content == _EMPTY:
        return
    done: set[tuple[str, int]] = set()
    for one in told:
        version = one.shown
        if version is None:
            continue
        event = one.event
        name = (event.focus, event.version if content == _FULL or event.deleted else 0)
        if name not in done:
            done.add(name)
            is_gone = event.deleted
            yield _gone(base, event) if is_gone else _entry(base, event.focus, version, content)


def _gone(base: str, event: Event) -> Entry:
    request = {"method": "DELETE", "url": event.focus}
    return Entry(f"{base}/{event.focus}", b"", {"request": request, "response": {"status": "204"}})


def _entry(base: str, focus: str, version: StoredVersion, content: str) -> Entry:
    method = version.method if version.method in ("POST", "PUT", "PATCH") else "PUT"
    url = focus.partition("/")[0] if method == "POST" else focus
    members: dict[str, Any] = {
        "request": {"method": method, "url": url},
        "response": {"status": "201" if version.version == 1 else "200"},
    }
    return Entry(f"{base}/{focus}", version.body if content == _FULL else b"", members)
