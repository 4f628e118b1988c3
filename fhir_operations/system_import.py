"""$import: many resources at once, one a line, stored in the background.

No standard has it yet; the address and the manifest follow the Bulk Data Access guide, whose
import is a proposal: https://github.com/smart-on-fhir/bulk-import. Lines are resources as
https://hl7.org/fhir/R4/nd-json.html has them.
"""

from fhir_operations import _import
from fhir_server.jobs.record import Job
from fhir_server.operation.api import Call, Task

SCOPES = ("*.cu",)
TAKES_LINES = True


async def run(call: Call) -> Job:
    return await _import.start(call)


async def step(task: Task) -> None:
    await _import.step(task)
