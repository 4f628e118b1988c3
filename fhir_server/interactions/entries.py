"""Entries of a transaction or batch: what each asks for, and how its answer is shown.

https://hl7.org/fhir/R4/http.html#transaction
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

from fhir_server.errors import FhirError, Issue, Kind, let_go
from fhir_server.fhir import json
from fhir_server.fhir.bundles import Entry
from fhir_server.fhir.dates import instant, interval
from fhir_server.fhir.definitions import is_resource_type
from fhir_server.fhir.json import Resource
from fhir_server.fhir.outcomes import outcome_of
from fhir_server.interactions.exchange import LARGE, Answer, Request
from fhir_server.interactions.preconditions import etag
from fhir_server.interactions.routing import Interaction


@dataclass(frozen=True, slots=True)
class Planned:
    """One entry with the interaction that it asks for."""

    index: int
    full_url: str
    interaction: Interaction
    request: Request
    text: bytes = b""
    """The resource in JSON, as it was sent: whether it may hold links or criteria is seen there."""


def planned(index: int, entry: Resource, outer: Request) -> Planned:
    """What an entry asks for, checked as far as it can be without reading.

    Raises:
        FhirError: with expressions that begin with `Bundle.entry[index]`.
    """
    try:
        return _planned(index, entry, outer)
    except FhirError as error:
        raise placed(error, index) from None


def _planned(index: int, entry: Resource, outer: Request) -> Planned:
    asked = entry.get("request")
    if not isinstance(asked, dict):
        raise FhirError.at(
            Kind.INVALID, "request", "The entry has no request; its method and url are needed"
        )
    url, method = _told(asked, "url"), _told(asked, "method")
    path, _, query = _relative(url, outer.server.base).partition("?")
    match = outer.server.router.match(method, path)
    request = Request(
        server=outer.server,
        resource_type=match.resource_type,
        id=match.id,
        version=match.version,
        operation=match.operation,
        member=match.member,
        method=method,
        parameters=parse_qsl(query, keep_blank_values=True),
        resource=entry.get("resource"),
        size=_size(entry, outer),
        if_match=asked.get("ifMatch"),
        if_none_match=asked.get("ifNoneMatch"),
        if_modified_since=_moment(asked.get("ifModifiedSince")),
        if_none_exist=asked.get("ifNoneExist"),
        preferences=replace(
            outer.preferences,
            returns=outer.preferences.returns or "minimal",
            respond_async=False,
        ),
    )
    return Planned(index, str(entry.get("fullUrl", "")), match.interaction, request)


def asked_by(entry: Any) -> str:
    """Method and address of an entry as it came, whatever is wrong with it."""
    asked = entry.get("request") if isinstance(entry, dict) else None
    told = asked if isinstance(asked, dict) else {}
    return f"{told.get('method', '')} {told.get('url', '')}".strip()


def _size(entry: Resource, outer: Request) -> int:
    """Bytes of its resource, in JSON; 0 in a body where none can be large."""
    return 0 if outer.size < LARGE else len(json.encode(entry.get("resource")))


def _moment(text: str | None) -> int | None:
    return None if text is None else interval(text).low


def _told(asked: Resource, name: str) -> str:
    """A member that R4 requires, and which may yet be an extension without a value."""
    if name not in asked:
        raise FhirError.at(Kind.INVALID, f"request.{name}", f"The request has no {name}")
    return str(asked[name])


def _relative(url: str, base: str) -> str:
    return url.removeprefix(base).lstrip("/")


def placed(error: FhirError, index: int) -> FhirError:
    """The error, its places told from the Bundle."""
    root = f"Bundle.entry[{index}]"
    return FhirError.of(
        error.kind,
        (replace(issue, expression=_within(root, issue.expression)) for issue in error.issues),
        error.challenge,
    )


def _within(root: str, expression: str | None) -> str:
    if expression is None:
        return root
    head, dot, rest = expression.partition(".")
    if not dot and is_resource_type(head):
        return f"{root}.resource"
    if head in ("http", "request") or not dot:
        return f"{root}.request"
    return f"{root}.resource.{rest}"


def response(answer: Answer) -> Entry:
    """https://hl7.org/fhir/R4/bundle-definitions.html#Bundle.entry.response"""
    shown: dict[str, Any] = {"status": _status(answer.status)}
    version = answer.version
    if version is not None:
        if answer.located:
            shown["location"] = f"{version.type}/{version.id}/_history/{version.version}"
        shown["etag"] = etag(version)
        shown["lastModified"] = instant(version.last_updated)
    return Entry("", answer.body, {"response": shown})


def failure(error: FhirError) -> Entry:
    """The response to an entry of a batch that was refused."""
    shown: Mapping[str, Any] = {
        "status": _status(error.kind.status),
        "outcome": outcome_of(let_go(error)),
    }
    return Entry("", b"", {"response": shown})


def _status(status: int) -> str:
    return f"{status} {HTTPStatus(status).phrase}"


def entries_of(request: Request) -> list[Resource]:
    """The Bundle's entries.

    Raises:
        FhirError: TOO_COSTLY above the limit.
    """
    entries: list[Resource] = (request.resource or {}).get("entry", [])
    limit = request.server.max_entries
    if len(entries) > limit:
        raise FhirError(
            Kind.TOO_COSTLY,
            Issue(f"{len(entries)} entries; {limit} are allowed in one Bundle", "Bundle.entry"),
        )
    return entries
