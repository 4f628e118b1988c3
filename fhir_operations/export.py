"""$export of everything, as files of ndjson.

https://hl7.org/fhir/uv/bulkdata/STU2/export.html#endpoint---system-level-export
"""

from fhir_operations import _export
from fhir_server.jobs.record import Job
from fhir_server.operation.api import Call, Task

SCOPES = ("{_type}.rs",)


async def run(call: Call) -> Job:
    return await _export.start(call)


async def step(task: Task) -> None:
    await _export.step(task)
