"""$export of the records of a group's members, as files of ndjson.

https://hl7.org/fhir/uv/bulkdata/STU2/export.html#endpoint---group-of-patients
"""

from fhir_operations import _export
from fhir_server.jobs.record import Job
from fhir_server.operation.api import Call, Task

SCOPES = ("Group.r", "{_type}.rs")


async def run(call: Call) -> Job:
    return await _export.start(call)


async def step(task: Task) -> None:
    await _export.step(task)
