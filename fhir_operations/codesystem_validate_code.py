"""CodeSystem/$validate-code: whether a code is one of a code system.

https://hl7.org/fhir/R4/codesystem-operation-validate-code.html
"""

from collections.abc import Sequence
from dataclasses import replace

from fhir_operations._checks import answer
from fhir_operations._terms import codings_asked, parameters, resource_asked
from fhir_server.fhir.json import Resource
from fhir_server.operation.api import Call
from fhir_server.terminology.checking import Checker, Coding


async def run(call: Call) -> Resource:
    service = call.session.terminology()
    checker = Checker(service, None, call.parameters.one("abstract") is True)
    if _says_its_system(call):
        return await answer(checker, codings_asked(call))
    url = await resource_asked(call, service, "CodeSystem", "codeSystem", "version")
    system, _, version = url.partition("|")
    asked = codings_asked(call, system)
    fitting = [replace(one, version=version) for one in asked if one.system == system]
    return await answer(checker, fitting) if fitting else _of_another(asked, system)


def _says_its_system(call: Call) -> bool:
    """A coding needs no address beside it."""
    inputs = call.parameters
    named = call.id or inputs.one("url") or inputs.one("codeSystem")
    return not named and (
        inputs.one("coding") is not None or inputs.one("codeableConcept") is not None
    )


def _of_another(asked: Sequence[Coding], system: str) -> Resource:
    told = ", ".join(f"'{one.code}' of {one.system}" for one in asked)
    return parameters(
        {"name": "result", "valueBoolean": False},
        {"name": "message", "valueString": f"{told} is not of {system}"},
    )
