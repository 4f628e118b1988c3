"""ValueSet/$expand: the codes of a value set, in order and with their displays.

https://hl7.org/fhir/R4/valueset-operation-expand.html
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from fhir_operations._terms import Part, as_refused, not_known, resource_asked
from fhir_server.errors import FhirError, Kind
from fhir_server.fhir import json
from fhir_server.fhir.json import Resource
from fhir_server.fhir.references import new_id
from fhir_server.operation.api import Call
from fhir_server.operation.parameters import Inputs
from fhir_server.terminology.expansion import (
    Concept,
    Expansion,
    contains,
    expansion,
    nested,
    too_costly,
)
from fhir_server.terminology.library import Catalogue
from fhir_server.terminology.service import Terminology

_HEAD: Final = ("url", "version", "name", "title", "status", "experimental", "publisher")
_MAX_FILTER: Final = 200
"""Characters: each word is looked for in every concept."""
_ECHOED: Final = {
    "filter": "valueString",
    "offset": "valueInteger",
    "count": "valueInteger",
    "activeOnly": "valueBoolean",
    "includeDesignations": "valueBoolean",
    "excludeNested": "valueBoolean",
    "excludeNotForUI": "valueBoolean",
    "displayLanguage": "valueCode",
}


@dataclass(frozen=True, slots=True)
class _Asked:
    """How the expansion is to be shown."""

    words: tuple[str, ...]
    offset: int
    count: int | None
    active_only: bool
    for_ui: bool
    is_nested: bool
    designations: bool
    language: str
    echoed: tuple[Part, ...]


async def run(call: Call) -> Resource:
    asked = _asked(call.parameters)
    service = call.session.terminology()
    url = await resource_asked(call, service, "ValueSet", "valueSet", "valueSetVersion")
    await service.gather(("ValueSet", url), every_system=True)
    try:
        found = await asyncio.to_thread(expansion, service.catalogue, url)
    except FhirError as error:
        return await _elsewhere(service, url, asked, error)
    held = service.catalogue.value_set(url)
    assert held is not None  # noqa: S101 - it was expanded
    head: Resource = {name: held.resource[name] for name in _HEAD if name in held.resource}
    shown = await asyncio.to_thread(_shown, service.catalogue, found, asked, service.max_codes)
    told = {"identifier": f"urn:uuid:{new_id()}", "timestamp": call.time.isoformat(), **shown}
    return {"resourceType": "ValueSet", "status": "active", **head, "expansion": told}


def _asked(inputs: Inputs) -> _Asked:
    offset, count = inputs.one("offset"), inputs.one("count")
    for name, value in (("offset", offset), ("count", count)):
        if value is not None and value < 0:
            raise FhirError.at(Kind.INVALID, f"http.{name}", f"'{name}' is 0 or more, not {value}")
    is_nested = inputs.one("excludeNested") is False
    if is_nested and not (offset is None and count is None):
        raise FhirError.at(
            Kind.INVALID,
            "http.excludeNested",
            "Pages are of a flat list: leave out 'excludeNested=false', or 'offset' and 'count'",
        )
    return _Asked(
        words=_words(inputs.one("filter") or ""),
        offset=offset or 0,
        count=count,
        active_only=inputs.one("activeOnly") is True,
        for_ui=inputs.one("excludeNotForUI") is True,
        is_nested=is_nested,
        designations=inputs.one("includeDesignations") is True,
        language=inputs.one("displayLanguage") or "",
        echoed=tuple(
            {"name": name, kind: inputs.one(name)}
            for name, kind in _ECHOED.items()
            if inputs.one(name) is not None
        ),
    )


def _words(filtered: str) -> tuple[str, ...]:
    if len(filtered) > _MAX_FILTER:
        text = f"A filter has at most {_MAX_FILTER} characters, not {len(filtered)}"
        raise FhirError.at(Kind.INVALID, "http.filter", text)
    return tuple(dict.fromkeys(filtered.casefold().split()))


def _shown(catalogue: Catalogue, found: Expansion, asked: _Asked, most: int) -> dict[str, Any]:
    """The expansion's total, parameters and, unless there are none, concepts."""
    selected = _selected(found.concepts, asked)
    end = None if asked.count is None else asked.offset + asked.count
    page = selected[asked.offset : end]
    if len(page) > most:
        raise too_costly(
            f"The expansion has {len(selected)} codes; {most} are allowed in one answer: "
            "ask for a page with 'offset' and 'count', or narrow it with 'filter'"
        )
    if asked.is_nested:
        rows = nested(catalogue, page, asked.language, designations=asked.designations)
    else:
        rows = contains(page, asked.language, designations=asked.designations)
    used = [{"name": "version", "valueUri": version} for version in found.versions]
    warned = [{"name": "warning", "valueString": warning} for warning in found.warnings]
    parameters = [*asked.echoed, *used, *warned]
    return {
        "total": len(selected),
        **({"offset": asked.offset} if asked.count is not None or asked.offset else {}),
        **({"parameter": parameters} if parameters else {}),
        **({"contains": rows} if rows else {}),
    }


def _selected(concepts: Sequence[Concept], asked: _Asked) -> Sequence[Concept]:
    return [
        one
        for one in concepts
        if not (asked.active_only and one.inactive)
        and not (asked.for_ui and one.abstract)
        and one.told(asked.words)
    ]


async def _elsewhere(service: Terminology, url: str, asked: _Asked, error: FhirError) -> Resource:
    """What is not known here may be known to the terminology server of the settings."""
    held = service.catalogue.value_set(url)
    is_gap = error.kind is Kind.UNSUPPORTED or any(one.code == "not-found" for one in error.issues)
    if service.outside is None or not is_gap:
        raise as_refused(error)
    what: Part = (
        {"name": "valueSet", "resource": held.resource}
        if held
        else {"name": "url", "valueUri": url}
    )
    try:
        answer = await service.outside.ask("ValueSet/$expand", what, *asked.echoed)
    except FhirError as refusal:
        if held is None and refusal.kind is Kind.UNSUPPORTED:
            raise not_known("ValueSet", url) from None
        raise
    if answer["resourceType"] != "ValueSet":
        raise FhirError(Kind.UNSUPPORTED, "The terminology server's answer is no ValueSet")
    return json.decode_resource(json.encode(answer))
