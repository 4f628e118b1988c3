"""$meta-delete: profiles, tags and security labels that go.

https://hl7.org/fhir/R4/resource-operation-meta-delete.html
"""

from fhir_operations._meta import change, reduced
from fhir_server.fhir.json import Resource
from fhir_server.operation.api import Call

SCOPES = ("{type}.ru",)


async def run(call: Call) -> Resource:
    return await change(call, reduced)
