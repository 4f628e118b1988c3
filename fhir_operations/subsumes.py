"""CodeSystem/$subsumes: how two codes of a code system stand to each other.

https://hl7.org/fhir/R4/codesystem-operation-subsumes.html
"""

import asyncio

from fhir_operations._terms import not_known, parameters
from fhir_server.access.session import current
from fhir_server.errors import FhirError, Kind
from fhir_server.fhir.json import Resource
from fhir_server.operation.api import Call
from fhir_server.terminology.checking import Coding, coding_of
from fhir_server.terminology.held import read
from fhir_server.terminology.service import Terminology
from fhir_server.terminology.systems import CodeSystem


async def run(call: Call) -> Resource:
    service = call.session.terminology()
    system = await _of_instance(call, service)
    one, other = _coding(call, "A", system), _coding(call, "B", system)
    if one.canonical != other.canonical:
        raise FhirError.at(
            Kind.INVALID,
            "http.codingB",
            f"Both codes are of one code system, not of {one.canonical} and {other.canonical}",
        )
    await service.gather(("CodeSystem", one.canonical))
    held = service.catalogue.code_system(one.canonical)
    if service.outside is not None and not (held and held.system.is_complete):
        return await service.outside.ask(
            "CodeSystem/$subsumes",
            {"name": "codeA", "valueCode": one.code},
            {"name": "codeB", "valueCode": other.code},
            {"name": "system", "valueUri": one.system},
        )
    if held is None:
        raise not_known("CodeSystem", one.canonical)
    outcome = await asyncio.to_thread(_outcome, held.system, one, other)
    return parameters({"name": "outcome", "valueCode": outcome})


async def _of_instance(call: Call, service: Terminology) -> str:
    if not call.id:
        return ""
    stored = await current(call.session, "CodeSystem", call.id)
    held = await asyncio.to_thread(read, stored.body)
    await asyncio.to_thread(held.prepare)
    service.catalogue.put("CodeSystem", held.system.url, held)
    return held.system.url


def _coding(call: Call, letter: str, of_instance: str) -> Coding:
    inputs = call.parameters
    code, coding = inputs.one(f"code{letter}"), inputs.one(f"coding{letter}")
    place = f"http.code{letter}" if coding is None else f"http.coding{letter}"
    if (code is None) is (coding is None):
        raise FhirError.at(Kind.INVALID, place, f"Name one of 'code{letter}' and 'coding{letter}'")
    version = inputs.one("version") or ""
    system = of_instance or inputs.one("system") or ""
    found = Coding(system, version, code, "", place)
    if coding is not None:
        found = coding_of(coding, system, place)
    if not (found.code and found.system):
        raise FhirError.at(Kind.INVALID, place, "A code comes with its system")
    if of_instance and found.canonical != of_instance:
        raise FhirError.at(Kind.INVALID, place, f"The codes are of {of_instance}")
    return found


def _outcome(system: CodeSystem, one: Coding, other: Coding) -> str:
    """Raises: FhirError: for a code that is none, or a hierarchy that does not subsume."""
    a, b = (system.spelt(coding.code) or coding.code for coding in (one, other))
    above, below = system.subsumes(a, b), system.subsumes(b, a)
    match above, below:
        case True, True:
            return "equivalent"
        case True, False:
            return "subsumes"
        case False, True:
            return "subsumed-by"
        case _:
            return "not-subsumed"
