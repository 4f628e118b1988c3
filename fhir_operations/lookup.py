"""CodeSystem/$lookup: what is known of a code.

https://hl7.org/fhir/R4/codesystem-operation-lookup.html
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

from fhir_operations._terms import Part, codings_asked, not_known, parameters
from fhir_server.errors import FhirError, Issue, Kind
from fhir_server.fhir.json import Resource
from fhir_server.operation.api import Call
from fhir_server.terminology.checking import Coding
from fhir_server.terminology.elements import items, text
from fhir_server.terminology.expansion import Concept
from fhir_server.terminology.held import Held
from fhir_server.terminology.service import Terminology

_ALWAYS: Final = ("system", "name", "version", "display")
"""Properties that are in every answer as parts of their own."""


async def run(call: Call) -> Resource:
    (coding,) = codings_asked(call)
    service = call.session.terminology()
    await service.gather(("CodeSystem", coding.canonical))
    held = service.catalogue.code_system(coding.canonical)
    code = held.system.spelt(coding.code) if held else None
    if held is None or code is None:
        return await _elsewhere(service, coding, held, call.parameters.all("property"))
    language = call.parameters.one("displayLanguage") or ""
    return _told(held, code, {*call.parameters.all("property")}, language)


async def _elsewhere(
    service: Terminology, coding: Coding, held: Held | None, properties: Sequence[str]
) -> Resource:
    if service.outside is not None and not (held and held.system.is_complete):
        wanted = ({"name": "property", "valueCode": name} for name in properties)
        told = [one for one in coding.parameters if one["name"] != "display"]
        return await service.outside.ask("CodeSystem/$lookup", *told, *wanted)
    if held is None:
        raise not_known("CodeSystem", coding.canonical)
    issue = Issue(
        f"'{coding.code}' is not a code of {coding.canonical}"
        + ("" if held.system.is_complete else f", as far as it is known ({held.system.content})"),
        "http.code",
        "not-found",
    )
    raise FhirError(Kind.NOT_FOUND, issue)


def _told(held: Held, code: str, wanted: Collection[str], language: str) -> Resource:
    system = held.system
    node = system.concepts[code]
    designations = items(node, "designation")
    concept = Concept(system.url, code, system.display(code), designations, False, False)
    name = text(held.resource, "name") or text(held.resource, "title") or system.url
    display = concept.display_in(language) if language else concept.display
    return parameters(
        {"name": "name", "valueString": name},
        {"name": "version", "valueString": system.version} if system.version else None,
        {"name": "display", "valueString": display or code},
        *(_designation(one) for one in designations if _is_wanted("designation", wanted)),
        *(
            {"name": "property", "part": [{"name": "code", "valueCode": name}, value]}
            for name, value in _properties(held, code, node)
            if _is_wanted(name, wanted)
        ),
    )


def _is_wanted(name: str, wanted: Collection[str]) -> bool:
    return not wanted or name in wanted


def _designation(one: Mapping[str, Any]) -> Part:
    told: list[Part] = []
    if text(one, "language"):
        told.append({"name": "language", "valueCode": text(one, "language")})
    if isinstance(one.get("use"), dict):
        told.append({"name": "use", "valueCoding": one["use"]})
    told.append({"name": "value", "valueString": text(one, "value")})
    return {"name": "designation", "part": told}


def _properties(held: Held, code: str, node: Mapping[str, Any]) -> Iterator[tuple[str, Part]]:
    system = held.system
    if text(node, "definition"):
        yield "definition", {"name": "value", "valueString": text(node, "definition")}
    yield "inactive", {"name": "value", "valueBoolean": code in system.inactive}
    for name, links in (("parent", system.parents), ("child", system.children)):
        for other in sorted(links.get(code, ())):
            yield name, {"name": "value", "valueCode": other}
    for one in items(node, "property"):
        name = text(one, "code")
        if name in ("parent", "child", "inactive", *_ALWAYS):
            continue
        for kind, value in one.items():
            if kind.startswith("value"):
                yield name, {"name": "value", kind: value}
