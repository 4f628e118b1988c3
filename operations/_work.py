"""What ought to be done, as the rules ask for it: the Task comes of it.

Codes are those of the code systems `timer` and `task` in terminology/.
"""

from dataclasses import dataclass
from datetime import date
from typing import Final

from fhir_server.fhir import canonicals
from fhir_server.fhir.json import Resource
from fhir_server.fhir.references import parse_relative
from fhir_server.operation.pathway import Numbers
from fhir_server.operation.records import stable_id
from operations._calendar import due_text
from operations._person import local_time

OF_THE_REGISTER: Final = frozenset(
    {"T-DSR-REVIEW-REFERRAL", "T-REVIEW-RED", "T-REVIEW-AMBER", "T-REVIEW-GREEN"}
    | {"T-CONSENT-RECHECK", "T-CETR-COMMUNITY", "T-PROXY-REVIEW", "T-PROXY-16"}
    | {"T-TRANSITION", "T-RETENTION"}
)
"""Timers that run on without keyworking."""


def register_keeper(numbers: Numbers) -> Resource | None:
    """A Reference to the organisation that keeps the register, where it is set."""
    code = numbers.register_organisation
    if not code:
        return None
    return {"identifier": {"system": canonicals.ODS_ORGANIZATION, "value": code}}


@dataclass(frozen=True, slots=True)
class Work:
    """Something that must be done: `due` is a moment in microseconds, or a day."""

    code: str
    text: str
    due: int | date
    focus: str
    """What it is about, as `Type/id`."""
    priority: str = "routine"
    key: str = ""
    """Which of them, where there is one after the other about the same."""
    fixed: bool = False
    """Whether a due date that is there stays: it is not told what to reckon it from."""
    met: bool = False
    """Whether it has come about by itself; then it is not asked for, and ends as completed."""
    owner: Resource | None = None
    """A Reference; without one, it is the keyworker's, or is nobody's but the register's."""

    @property
    def system(self) -> str:
        return canonicals.TIMER if self.code.startswith("T-") else canonicals.TASK

    @property
    def id(self) -> str:
        return task_id(self.code, self.focus, self.key)

    @property
    def said(self) -> str:
        return f"{self.text}, due {due_text(self.due)}: Task/{self.id}"


def is_made_of_names(task: Resource) -> bool:
    """Whether its owner is no more than a name too, which says nothing that could be unsound."""
    owner = task.get("owner", {})
    told = owner.get("reference", "")
    return owner.keys() <= {"reference", "display"} and (
        not owner or parse_relative(told) is not None
    )


def task_id(code: str, focus: str, key: str = "") -> str:
    return stable_id("task", code, focus, *([key] if key else []))


def task_of(
    work: Work, patient: str, now: int, owner: Resource | None, own_id: str = ""
) -> Resource:
    """The Task that asks for it; `own_id` where it is none that the record asks for by itself."""
    task: Resource = {
        "resourceType": "Task",
        "id": own_id or work.id,
        "status": "requested",
        "intent": "order",
        "priority": work.priority,
        "code": {"coding": [{"system": work.system, "code": work.code}], "text": work.text},
        "description": work.text,
        "focus": {"reference": work.focus},
        "for": {"reference": patient},
        "authoredOn": local_time(now),
        "restriction": {"period": {"end": due_text(work.due)}},
    }
    return {**task, "owner": owner} if owner else task
