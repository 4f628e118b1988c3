"""ConceptMap/$translate: a code in another system, by what concept maps say.

https://hl7.org/fhir/R4/conceptmap-operation-translate.html
"""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any, Final

from fhir_operations._terms import codings_asked, not_known, parameters, resource_asked
from fhir_server.fhir.json import Resource
from fhir_server.operation.api import Call
from fhir_server.operation.parameters import Inputs
from fhir_server.terminology.checking import Coding
from fhir_server.terminology.elements import text
from fhir_server.terminology.expansion import too_costly
from fhir_server.terminology.service import Terminology
from fhir_server.terminology.translation import NO_MATCH, Asked, Match, matches, other_maps

_MOST_MAPS: Final = 20
"""Maps that stand in for each other, in a row."""
_SIDES: Final = ("source", "target")


async def run(call: Call) -> Resource:
    service = call.session.terminology()
    codings = codings_asked(call)
    target = call.parameters.one("targetsystem") or ""
    reverse = call.parameters.one("reverse") is True
    found: list[Match] = []
    for coding in codings:
        folds = await _folds(service, coding)
        asked = Asked(coding.system, coding.code, target, reverse, folds)
        for concept_map in await _maps(call, service, coding):
            found += await _matches(service, concept_map, asked)
    return _answer([*dict.fromkeys(found)], codings)


async def _folds(service: Terminology, coding: Coding) -> bool:
    """Whether case means nothing to the code's system: https://hl7.org/fhir/R4/codesystem.html#case"""
    await service.gather(("CodeSystem", coding.canonical))
    held = service.catalogue.code_system(coding.canonical)
    return held is not None and held.resource.get("caseSensitive") is False


async def _maps(call: Call, service: Terminology, coding: Coding) -> Sequence[Resource]:
    """The map that is named; without one, all that know the code's system and fit."""
    inputs = call.parameters
    if call.id or inputs.one("url") is not None or inputs.one("conceptMap") is not None:
        url = await resource_asked(call, service, "ConceptMap", "conceptMap", "conceptMapVersion")
        held = service.catalogue.get("ConceptMap", url)
        if held is None:
            raise not_known("ConceptMap", url)
        return [held.resource]
    known = await service.library.maps(coding.system)
    return [held.resource for held in known if _fits(held.resource, inputs)]


def _fits(concept_map: Resource, inputs: Inputs) -> bool:
    """Whether it is from and to the value sets that are named."""
    sides = _SIDES[::-1] if inputs.one("reverse") is True else _SIDES
    for name, side in zip(_SIDES, sides, strict=True):
        wanted = inputs.one(name)
        told = (text(concept_map, f"{side}Uri"), text(concept_map, f"{side}Canonical"))
        if wanted is not None and wanted not in (one.partition("|")[0] for one in told):
            return False
    return True


async def _matches(service: Terminology, concept_map: Resource, asked: Asked) -> list[Match]:
    found: list[Match] = []
    waiting, seen = [concept_map], {text(concept_map, "url")}
    while waiting:
        one = waiting.pop()
        found += await asyncio.to_thread(_listed, one, asked)
        for url in dict.fromkeys(other_maps(one, asked)):
            if url in seen:
                continue
            seen.add(url)
            if len(seen) > _MOST_MAPS:
                raise too_costly(f"More than {_MOST_MAPS} maps stand in for each other")
            held = await service.library.named("ConceptMap", url)
            if held is not None:
                waiting.append(held.resource)
    return found


def _listed(concept_map: Resource, asked: Asked) -> list[Match]:
    return [*matches(concept_map, asked)]


def _answer(found: Sequence[Match], codings: Sequence[Coding]) -> Resource:
    result = any(one.equivalence not in NO_MATCH for one in found)
    told = ", ".join(f"'{one.code}' of {one.system}" for one in codings)
    message = "; ".join(dict.fromkeys(_messages(found)))
    if not found:
        message = f"No concept map says what {told} is elsewhere"
    return parameters(
        {"name": "result", "valueBoolean": result},
        {"name": "message", "valueString": message} if message else None,
        *(_match(one) for one in found),
    )


def _messages(found: Sequence[Match]) -> Iterator[str]:
    for one in found:
        if one.comment:
            yield one.comment
        if one.depends:
            yield f"The match '{one.code}' depends on other data, or comes with some: see the map"


def _match(match: Match) -> dict[str, Any]:
    concept = {"system": match.system, "code": match.code, "display": match.display}
    told = {name: value for name, value in concept.items() if value}
    part: list[dict[str, Any]] = [{"name": "equivalence", "valueCode": match.equivalence}]
    if match.code:
        part.append({"name": "concept", "valueCoding": told})
    if match.source:
        part.append({"name": "source", "valueUri": match.source})
    return {"name": "match", "part": part}
