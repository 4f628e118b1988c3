"""What the terminology operations are asked about: a value set, a code system, codes."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any, Final

from fhir_server.access.session import current
from fhir_server.errors import FhirError, Issue, Kind
from fhir_server.fhir import json
from fhir_server.fhir.json import Resource
from fhir_server.operation.api import Call
from fhir_server.terminology.checking import Coding, coding_of
from fhir_server.terminology.elements import items, text
from fhir_server.terminology.expansion import too_costly
from fhir_server.terminology.held import Held, digest, read
from fhir_server.terminology.service import Terminology

Part = dict[str, Any]
_MAX_CODINGS: Final = 50
"""Of one question: each is looked for in all of a value set."""
_INLINE: Final = "#inline"
"""The address of a value set that is sent along and has none."""


async def resource_asked(
    call: Call, service: Terminology, kind: str, inline: str, version: str
) -> str:
    """Where the resource that is asked about is in the service's catalogue, once it is there.

    It is the one at whose address the operation is invoked, one that is sent along as `inline`,
    or the one named by `url`, with the parameter `version` where that is given.

    Raises:
        FhirError: INVALID unless it is one of these ways; NOT_FOUND, GONE.
    """
    url, sent = call.parameters.one("url"), call.parameters.one(inline)
    if [bool(call.id), url is not None, sent is not None].count(True) != 1:
        raise FhirError.at(
            Kind.INVALID,
            "http.url",
            f"Name one {kind}: with 'url', or with '{inline}' in the body"
            + (", or its id in the address, and no other" if call.id else ""),
        )
    if url is not None:
        return await _named(service, kind, url, call.parameters.one(version))
    held = await _given(call, kind, sent)
    address = text(held.resource, "url") or (f"{kind}/{call.id}" if call.id else _INLINE)
    service.catalogue.put(kind, address, held)
    return address


async def _given(call: Call, kind: str, sent: Resource | None) -> Held:
    if sent is not None:
        return await asyncio.to_thread(lambda: Held(digest(json.encode(sent)), sent))
    return await asyncio.to_thread(read, (await current(call.session, kind, call.id)).body)


async def _named(service: Terminology, kind: str, url: str, version: str | None) -> str:
    """With the version of the parameter, where the address has none."""
    canonical = f"{url}|{version}" if version and "|" not in url else url
    held = await service.library.named(kind, canonical)
    service.catalogue.put(kind, canonical, held)
    if held is None and service.outside is None:
        raise not_known(kind, canonical)
    return canonical


def not_known(kind: str, canonical: str) -> FhirError:
    return FhirError.at(Kind.NOT_FOUND, "http.url", f"The {kind} '{canonical}' is not known here")


def not_checkable(what: str) -> FhirError:
    """https://hl7.org/fhir/R4/terminology-service.html: an error, rather than a guess."""
    issue = Issue(
        f"{what} could not be checked: not all of what is needed is known here, and no terminology "
        "server that knows it is set",
        code="not-supported",
    )
    return FhirError(Kind.BUSINESS_RULE, issue)


def codings_asked(call: Call, system: str = "") -> Sequence[Coding]:
    """The codes: one of `code` with `system`, `coding`, `codeableConcept`.

    Args:
        system: what a code without a system is of.

    Raises:
        FhirError: INVALID unless it is exactly one, each with a code and a system;
            BUSINESS_RULE for too many codings.
    """
    inputs = call.parameters
    given = [name for name in ("code", "coding", "codeableConcept") if inputs.one(name) is not None]
    if len(given) != 1:
        raise FhirError.at(
            Kind.INVALID,
            "http.code",
            "Name what it is about: 'code' with 'system', or 'coding', or 'codeableConcept'",
        )
    found = [*_codings(call, given[0], system)]
    if not found:
        raise FhirError.at(Kind.INVALID, f"http.{given[0]}", "There is no coding in it")
    if len(found) > _MAX_CODINGS:
        raise too_costly(f"One question is about {_MAX_CODINGS} codings at most, not {len(found)}")
    for one in found:
        if not (one.code and one.system):
            raise FhirError.at(Kind.INVALID, one.place, "A code comes with its system")
    return found


def _codings(call: Call, name: str, system: str) -> Iterator[Coding]:
    inputs = call.parameters
    if name == "code":
        version = inputs.one("systemVersion") or inputs.one("version") or ""
        display = inputs.one("display") or ""
        told = inputs.one("system") or system
        yield Coding(told, version, inputs.one("code"), display, "http.system")
    elif name == "coding":
        yield coding_of(inputs.one("coding"), system, "http.coding")
    else:
        for index, one in enumerate(items(inputs.one("codeableConcept"), "coding")):
            yield coding_of(one, system, f"http.codeableConcept.coding[{index}]")


def as_refused(error: FhirError) -> FhirError:
    """What the definition of a value set does not allow is no fault of the question: 422."""
    if error.kind is Kind.TOO_COSTLY:
        return too_costly(str(error))
    if error.kind not in (Kind.INVALID, Kind.UNSUPPORTED):
        return error
    issues = [Issue(one.text, one.expression, one.code or error.kind.code) for one in error.issues]
    return FhirError.of(Kind.BUSINESS_RULE, issues)


def parameters(*parts: Part | None) -> Resource:
    """A Parameters resource with those parts that there are."""
    return {"resourceType": "Parameters", "parameter": [part for part in parts if part]}
