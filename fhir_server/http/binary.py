"""Binary by its own media type: the bytes come and go as they are.

https://hl7.org/fhir/R4/binary.html#rest. A reading gives the bytes unless the client names a
media type of FHIR; a writing takes them unless the body is itself a Binary resource. What people
stored is never run in a browser as if this server had written it.
"""

import asyncio
import base64
import re
from collections.abc import Mapping, Sequence
from typing import Final

from fhir_server.errors import FhirError, Kind
from fhir_server.fhir import json, xml
from fhir_server.fhir.json import Resource
from fhir_server.http.messages import HttpAnswer, HttpRequest
from fhir_server.http.negotiate import NAMES, Format, media_ranges, sent
from fhir_server.interactions.routing import Match

_LARGE: Final = 256 * 1024
"""Bytes that are turned into base64 or back beside the loop."""
_WORD: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_MEDIA_TYPE: Final = re.compile(
    rf'{_WORD}/{_WORD}(?: ?; ?{_WORD}=(?:{_WORD}|"[\x21\x23-\x5b\x5d-\x7e ]*"))*', re.ASCII
)
_REFERENCE: Final = re.compile(
    r"(?:https?://[\x21-\x7e]+/)?[A-Z][A-Za-z]{1,63}/[A-Za-z0-9.-]{1,64}(?:/_history/[0-9]{1,18})?",
    re.ASCII,
)
_ER7: Final = "x-application/hl7-v2+er7"
_UNKNOWN: Final = "application/octet-stream"
_EXACT: Final = frozenset(one.value for one in Format)
_OF_THE_RESOURCE: Final = frozenset({"_format", "_summary", "_elements"})
"""Who asks for these asks for the resource, not for its content."""
_HARMLESS: Final = {
    "content-disposition": "attachment",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
}


class Wanted:
    """What a client that reads a Binary takes."""

    def __init__(self, accept: str) -> None:
        self._qualities = {one.name: one.quality for one in media_ranges(accept)}

    def content(self, content_type: str) -> bool:
        """Whether it takes the bytes of that media type rather than the resource."""
        taken = {name for name, quality in self._qualities.items() if quality > 0}
        name = content_type.partition(";")[0].strip().lower()
        if _EXACT & taken:
            best = max(self._qualities[one] for one in _EXACT & taken)
            return name not in _EXACT and self._qualities.get(name, 0) > best
        # application/json alone may mean either: the resource, or content that is JSON.
        return name in taken or not taken or not taken <= NAMES.keys()


def wanted(http: HttpRequest, match: Match, parameters: Sequence[tuple[str, str]]) -> Wanted | None:
    """Of a reading of Binary, what the client takes; None for any other request."""
    if match.operation:
        return _answered_in(http) if is_message(http, match) else None
    if match.resource_type != "Binary" or match.interaction.code not in ("read", "vread"):
        return None
    if any(name in _OF_THE_RESOURCE for name, _ in parameters):
        return None
    return Wanted(http.headers.get("accept", ""))


async def content(answered: HttpAnswer, taken: Wanted) -> HttpAnswer | None:
    """The answer with the bytes instead of the resource; None where the resource is taken."""
    if answered.status != 200:
        return None
    binary = json.decode_own(answered.body)
    content_type = str(binary.get("contentType", ""))
    if not taken.content(content_type):
        return None
    headers = {**answered.headers, **_HARMLESS, "content-type": _told(content_type)}
    context = binary.get("securityContext", {}).get("reference", "")
    if _REFERENCE.fullmatch(context):
        headers["x-security-context"] = context
    return HttpAnswer(200, await _decoded(str(binary.get("data", ""))), headers)


def _told(content_type: str) -> str:
    """What may stand in a header; a code of FHIR may hold line breaks and any letter."""
    return content_type if _MEDIA_TYPE.fullmatch(content_type) else _UNKNOWN


def is_message(http: HttpRequest, match: Match) -> bool:
    """Whether an operation is invoked with text of HL7 v2: it takes it as a Binary."""
    return bool(match.operation) and _media(http.headers.get("content-type", "")) == _ER7


def _answered_in(http: HttpRequest) -> Wanted:
    """In the same, unless the client names what it takes."""
    accept = http.headers.get("accept", "")
    return Wanted(_ER7 if accept in ("", "*/*") else accept)


def is_written(http: HttpRequest, match: Match) -> bool:
    if is_message(http, match):
        return True
    return match.resource_type == "Binary" and match.interaction.code in ("create", "update")


def told_beside(http: HttpRequest) -> tuple[bytes, ...]:
    """What headers say of the content, and is stored with it."""
    named = ("content-type", "x-security-context")
    return tuple(http.headers.get(name, "").encode() for name in named)


async def received(http: HttpRequest, match: Match, raw: bytes) -> Resource:
    """The Binary in the body, or the body as a Binary.

    Raises:
        FhirError: UNSUPPORTED_MEDIA_TYPE without a media type; MALFORMED for an empty body and
            for FHIR that is broken; TOO_LARGE; INVALID for a security context that is none.
    """
    declared = http.headers.get("content-type", "")
    resource = await asyncio.to_thread(_resource, raw, http) if _media(declared) in NAMES else None
    binary = await _wrapped(raw, declared, http) if resource is None else resource
    if resource is None and match.id:
        binary = {"resourceType": "Binary", "id": match.id, **binary}
    context = http.headers.get("x-security-context")
    return binary if context is None else _in_context(binary, context)


def _resource(raw: bytes, http: HttpRequest) -> Resource | None:
    """The body as a Binary resource, None where it is content."""
    depth = http.limits.max_depth
    try:
        as_json = sent(http.headers) is Format.JSON
        decode = json.decode_resource if as_json else xml.decode_resource
        found = decode(raw, depth)
    except FhirError:
        if _media(http.headers["content-type"]) in _EXACT:
            raise
        return None
    return found if found.get("resourceType") == "Binary" else None


async def _wrapped(raw: bytes, declared: str, http: HttpRequest) -> Resource:
    content_type = re.sub(r"[ \t]*;[ \t]*", "; ", declared.strip(" \t"))
    if not _MEDIA_TYPE.fullmatch(content_type):
        raise FhirError.at(
            Kind.UNSUPPORTED_MEDIA_TYPE,
            "http.Content-Type",
            f"'{declared[:200]}' is not a media type; one such as application/pdf is expected",
        )
    if not raw:
        raise FhirError(Kind.MALFORMED, "The body is empty; the content of the Binary is expected")
    most = http.limits.max_body // 4 * 3  # as a resource it is a third longer
    if len(raw) > most:
        raise FhirError(Kind.TOO_LARGE, f"{len(raw)} bytes; a Binary may have {most}")
    return {"resourceType": "Binary", "contentType": content_type, "data": await _encoded(raw)}


def _in_context(binary: Resource, context: str) -> Resource:
    """https://hl7.org/fhir/R4/binary-definitions.html#Binary.securityContext"""
    if not _REFERENCE.fullmatch(context):
        raise FhirError.at(
            Kind.INVALID,
            "http.X-Security-Context",
            f"'{context[:200]}' is not a reference such as Patient/1",
        )
    told = binary.get("securityContext")
    if isinstance(told, Mapping) and told.get("reference") != context:
        raise FhirError.at(
            Kind.INVALID,
            "http.X-Security-Context",
            f"It is '{context[:200]}'; Binary.securityContext says otherwise",
        )
    return {**binary, "securityContext": told or {"reference": context}}


def _media(declared: str) -> str:
    return declared.partition(";")[0].strip().lower()


async def _encoded(raw: bytes) -> str:
    if len(raw) < _LARGE:
        return base64.b64encode(raw).decode()
    return (await asyncio.to_thread(base64.b64encode, raw)).decode()


async def _decoded(text: str) -> bytes:
    if len(text) < _LARGE:
        return base64.b64decode(text)
    return await asyncio.to_thread(base64.b64decode, text)
