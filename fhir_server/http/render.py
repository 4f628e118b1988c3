"""The only maker of HTTP answers: from what an interaction gives, or from an error."""

import asyncio
from email.utils import formatdate
from functools import lru_cache
from typing import Final

import msgspec

from fhir_server.errors import FhirError, let_go
from fhir_server.fhir import json, xml
from fhir_server.fhir.outcomes import outcome_of
from fhir_server.http.messages import HttpAnswer
from fhir_server.http.negotiate import PLAIN, Format, Presentation
from fhir_server.interactions.exchange import Answer
from fhir_server.interactions.preconditions import etag

_CONTENT_TYPE: Final = Format.JSON.content_type
_LARGE: Final = 64 * 1024
"""Bytes that are written anew beside the loop, which goes on meanwhile."""


def answer(answer: Answer, base: str) -> HttpAnswer:
    """https://hl7.org/fhir/R4/http.html#return"""
    headers: dict[str, str] = {}
    version = answer.version
    if version is not None:
        headers["etag"] = etag(version)
        headers["last-modified"] = http_time(version.last_updated // 1_000_000)
        if answer.located:
            headers["location"] = f"{base}/{version.type}/{version.id}/_history/{version.version}"
    if answer.body:
        headers["content-type"] = answer.media_type or _CONTENT_TYPE
    headers.update(answer.headers)
    return HttpAnswer(answer.status, answer.body, headers)


@lru_cache(maxsize=4096)
def http_time(seconds: int) -> str:
    """Seconds since the epoch as headers have them: RFC 9110 section 5.6.7."""
    day, second = divmod(seconds, 86_400)
    minute, second = divmod(second, 60)
    hour, minute = divmod(minute, 60)
    return f"{_day(day)} {hour:02}:{minute:02}:{second:02} GMT"


@lru_cache(maxsize=4096)
def _day(number: int) -> str:
    return formatdate(number * 86_400, usegmt=True).rpartition(" ")[0].rpartition(" ")[0]


def error(error: FhirError) -> HttpAnswer:
    """An OperationOutcome with the kind's status, which is all that is left of the error."""
    let_go(error)
    headers = {"content-type": _CONTENT_TYPE}
    if error.retry_after or error.kind.status == 503:
        headers["retry-after"] = str(error.retry_after or 1)
    if error.allowed_methods:
        headers["allow"] = ", ".join(error.allowed_methods)
    if error.challenge:
        headers["www-authenticate"] = error.challenge
    if any(issue.expression == "http.Content-Encoding" for issue in error.issues):
        headers["accept-encoding"] = "gzip, identity"
    return HttpAnswer(error.kind.status, json.encode(outcome_of(error)), headers)


async def presented(answered: HttpAnswer, look: Presentation) -> HttpAnswer:
    """The answer, which is JSON without line breaks, as the client wants it to look."""
    if look is PLAIN or answered.headers.get("content-type") != _CONTENT_TYPE:
        return answered
    if len(answered.body) < _LARGE:
        answered.body = _written(answered.body, look)
    else:
        answered.body = await asyncio.to_thread(_written, answered.body, look)
    answered.headers["content-type"] = look.format.content_type
    return answered


def _written(body: bytes, look: Presentation) -> bytes:
    if look.format is Format.XML:
        return xml.encode(json.decode_own(body), pretty=look.pretty)
    return msgspec.json.format(body, indent=2)
