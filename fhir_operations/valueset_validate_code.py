"""ValueSet/$validate-code: whether a code is in a value set.

https://hl7.org/fhir/R4/valueset-operation-validate-code.html
"""

from fhir_operations._checks import answer
from fhir_operations._terms import codings_asked, resource_asked
from fhir_server.fhir.json import Resource
from fhir_server.operation.api import Call
from fhir_server.terminology.checking import Checker


async def run(call: Call) -> Resource:
    codings = codings_asked(call)
    service = call.session.terminology()
    url = await resource_asked(call, service, "ValueSet", "valueSet", "valueSetVersion")
    checker = Checker(service, url, call.parameters.one("abstract") is True)
    return await answer(checker, codings)
