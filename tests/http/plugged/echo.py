"""$echo: what it was given, as JSON text in one parameter."""

from typing import Any

from fhir_server.fhir import json
from fhir_server.operation.api import Call

NAMES = ("text", "count", "flag", "code", "who", "patient", "group")


async def run(call: Call) -> dict[str, Any]:
    heard = {
        "at": [call.resource_type, call.id],
        **{name: call.parameters.all(name) for name in NAMES if call.parameters.all(name)},
    }
    parameter = {"name": "heard", "valueString": json.encode(heard).decode()}
    return {"resourceType": "Parameters", "parameter": [parameter]}
