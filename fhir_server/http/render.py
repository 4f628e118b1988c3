"""The only maker of HTTP answers: from what an interaction gives, or from an error."""

from email.utils import formatdate
from typing import Final

import msgspec

from fhir_server.errors import FhirError
from fhir_server.fhir import json
from fhir_server.fhir.outcomes import outcome_of
from fhir_server.http.messages import HttpAnswer
from fhir_server.interactions.exchange import Answer
from fhir_server.interactions.preconditions import etag

_CONTENT_TYPE: Final = "application/fhir+json; charset=utf-8"


def answer(answer: Answer, base: str) -> HttpAnswer:
    """https://hl7.org/fhir/R4/http.html#return"""
    headers: dict[str, str] = {}
    version = answer.version
    if version is not None:
        headers["etag"] = etag(version)
        headers["last-modified"] = formatdate(version.last_updated // 1_000_000, usegmt=True)
        if answer.located:
            headers["location"] = f"{base}/{version.type}/{version.id}/_history/{version.version}"
    if answer.body:
        headers["content-type"] = _CONTENT_TYPE
    return HttpAnswer(answer.status, answer.body, headers)


def error(error: FhirError) -> HttpAnswer:
    """An OperationOutcome with the kind's status."""
    headers = {"content-type": _CONTENT_TYPE}
    if error.kind.status == 503:
        headers["retry-after"] = "1"
    if error.allowed_methods:
        headers["allow"] = ", ".join(error.allowed_methods)
    return HttpAnswer(error.kind.status, json.encode(outcome_of(error)), headers)


def pretty(answered: HttpAnswer) -> HttpAnswer:
    """With line breaks, for people (`_pretty=true`)."""
    if answered.body:
        answered.body = msgspec.json.format(answered.body, indent=2)
    return answered
