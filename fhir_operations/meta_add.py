"""$meta-add: profiles, tags and security labels that are not there yet.

https://hl7.org/fhir/R4/resource-operation-meta-add.html
"""

from fhir_operations._meta import added, change
from fhir_server.fhir.json import Resource
from fhir_server.fhir.summary import refuse_subset
from fhir_server.operation.api import Call

SCOPES = ("{type}.ru",)


async def run(call: Call) -> Resource:
    # A resource that carries that mark could not be updated any more.
    refuse_subset({"resourceType": call.resource_type, "meta": call.parameters.one("meta")})
    return await change(call, added)
