"""$check-nhs-number: whether the last digit of an NHS number fits the others."""

from fhir_server.fhir.json import Resource
from fhir_server.fhir.nhs_number import is_valid
from fhir_server.operation.api import Call


async def run(call: Call) -> Resource:
    valid = is_valid(call.parameters.one("number"))
    return {
        "resourceType": "Parameters",
        "parameter": [{"name": "valid", "valueBoolean": valid}],
    }
