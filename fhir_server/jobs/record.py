"""A job as it is kept: memos of its caller, which expire together.

`job` holds the record, small because every step writes it anew; `job-open` marks those that are
not finished; `job-file` holds what goes in and comes out, in parts; `job-index` says of each file
that is shown how many lines it has. The key in each begins with the job's id.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import Enum
from typing import Any, Final

from fhir_server.access.caller import Caller, caller_from_json
from fhir_server.access.session import Memo
from fhir_server.errors import FhirError
from fhir_server.fhir.outcomes import outcome_of

RECORDS: Final = "job"
OPEN: Final = "job-open"
FILES: Final = "job-file"
INDEX: Final = "job-index"
SPACES: Final = (RECORDS, OPEN, FILES, INDEX)
PART: Final = 1024 * 1024
"""Bytes of a file that are kept and read at one time."""
_SEVERAL: Final = "several"
"""Of a job whose caller might read now this and now that: no reach is the same."""
REQUEST: Final = "request"
"""The file that says what is asked for."""


class State(Enum):
    """Where a job stands; one that is cancelled is not there any more."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Job:
    """Times are in microseconds since the epoch."""

    id: str
    kind: str
    """Says which function takes its steps."""
    caller: str
    request_id: str
    created: int
    """Read in the commit that made it: whatever was committed earlier has an earlier time."""
    expires: int
    state: State = State.QUEUED
    place: Any = None
    """JSON that says where the next step begins; None at the first."""
    progress: str = "waiting for its turn"
    """For people, in `X-Progress`."""
    holder: str = ""
    """The process that works at it."""
    until: int = 0
    """When its hold ends, unless it is renewed."""
    takes: int = 0
    """How often it was taken since its last step."""
    status: int = 0
    """HTTP status of its failure."""
    outcome: Mapping[str, Any] | None = None
    """OperationOutcome of its failure."""
    summary: Mapping[str, Any] | None = None
    """What its manifest says besides the files."""
    who: Mapping[str, Any] | None = None
    """The whole caller, as `caller_to_json` writes them: the job may do what they may."""
    reach: str = ""
    """What they might read while it was worked at: `Session.reach`."""

    @property
    def finished(self) -> bool:
        return self.state in (State.DONE, State.FAILED)

    @property
    def asked_by(self) -> Caller:
        """Its caller; with no rights but their name where these were not kept."""
        if self.who is None:
            return Caller(self.caller, self.request_id)
        return caller_from_json(self.who)

    def reaching(self, reach: str) -> "Job":
        """With what its caller may read at the next step, which may be other than at the last."""
        return replace(self, reach=reach if self.reach in ("", reach) else _SEVERAL)

    def failed(self, error: FhirError) -> dict[str, Any]:
        """What changes when it ends with that error."""
        return {
            "state": State.FAILED,
            "status": error.kind.status,
            "outcome": outcome_of(error),
        }

    def memo(self) -> Memo:
        told = {**asdict(self), "state": self.state.value}
        return Memo(RECORDS, self.id, json.dumps(told).encode(), self.expires)

    def file(self, name: str, content: bytes) -> Memo:
        """A file of the job, or a part of one."""
        return Memo(FILES, f"{self.id}/{name}", content, self.expires)

    def parts(self, name: str, content: bytes) -> list[Memo]:
        """A file of any size, in parts that are small enough for every store."""
        return [
            self.file(f"{name}/{number:04}", content[start : start + PART])
            for number, start in enumerate(range(0, len(content), PART))
        ]

    def index(self, name: str, lines: int) -> Memo:
        """What the index says of a file."""
        return Memo(INDEX, f"{self.id}/{name}", str(lines).encode(), self.expires)


def read(memo: Memo) -> Job:
    told = json.loads(memo.value)
    return Job(**{**told, "state": State(told["state"])})
