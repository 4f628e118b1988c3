"""Subscription/$resume: a suspended subscription goes on where it stopped.

Suspended is `status` error of https://hl7.org/fhir/R4/subscription.html, which the server says of
one whose receiver failed for too long.
"""

from fhir_server.events.desk import resume
from fhir_server.fhir.json import Resource
from fhir_server.operation.api import Call

SCOPES = ("Subscription.u",)


async def run(call: Call) -> Resource:
    return await resume(call.session, call.id)
