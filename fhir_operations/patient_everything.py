"""Patient $everything: the record of a patient, page by page.

https://hl7.org/fhir/R4/patient-operation-everything.html
"""

from fhir_operations._everything import everything
from fhir_server.operation.api import Call

PAGED = True


async def run(call: Call) -> bytes:
    return await everything(call)
