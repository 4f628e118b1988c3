"""$mark: writes, and on request fails after it wrote."""

from typing import Any

from fhir_server.access.session import SessionUnit
from fhir_server.errors import FhirError, Kind
from fhir_server.operation.api import Call


async def run(call: Call) -> dict[str, Any]:
    fault = call.parameters.one("fault")

    async def work(unit: SessionUnit) -> None:
        mark = {"resourceType": "Basic", "id": "mark", "code": {"text": "marked"}}
        await unit.put(mark, "PUT")
        if fault == "refusal":
            raise FhirError(Kind.BUSINESS_RULE, "This may not be marked")
        if fault == "bug":
            raise RuntimeError("secret detail of the inside")

    await call.session.commit("mark", work)
    return {"resourceType": "Parameters"}
