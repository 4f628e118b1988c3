"""Tasks that events open, with their due dates.

Codes are those of the code systems `timer` and `task` in terminology/; the numbers are settings
(`fhir_server.operation.pathway`).
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from fhir_server.fhir import canonicals
from fhir_server.fhir.json import Resource
from fhir_server.operation.records import Records, reference_to, stable_id
from operations._person import Person, code_in, local_time, status_of

_OPEN: Final = ("draft", "requested", "received", "accepted", "ready", "in-progress", "on-hold")


@dataclass(frozen=True, slots=True)
class Work:
    """Something that must be done: `due` is a moment in microseconds, or a day."""

    code: str
    text: str
    due: int | date
    priority: str = "routine"

    @property
    def system(self) -> str:
        return canonicals.TIMER if self.code.startswith("T-") else canonicals.TASK


def due_text(due: int | date) -> str:
    return local_time(due) if isinstance(due, int) else due.isoformat()


def working_days_after(day: date, count: int) -> date:
    """Monday to Friday; bank holidays are not known here yet."""
    while count:
        day += timedelta(days=1)
        count -= day.weekday() < 5
    return day


def hours_after(at: int, hours: int) -> int:
    return at + hours * 3_600_000_000


def months_after(day: date, months: int) -> date:
    """The same day of a later month, or its last day."""
    years, month = divmod(day.month - 1 + months, 12)
    first = date(day.year + years, month + 1, 1)
    following = (first + timedelta(days=32)).replace(day=1)
    return min(first + timedelta(days=day.day - 1), following - timedelta(days=1))


async def open_tasks(
    records: Records, person: Person, focus: Resource, works: Iterable[Work], now: int
) -> list[str]:
    """Open each, or re-date the one that this focus has already; what was done, in words.

    A task that somebody has taken up or ended stays as it is.
    """
    episode = await person.episode()
    said = []
    for work in works:
        task = _task(person, focus, work, episode, now)
        known = await records.get("Task", task["id"])
        if known is not None:
            if status_of(known) != "requested":
                continue
            task = {**known, "restriction": known.get("restriction", {}) | task["restriction"]}
        await records.save(task)
        said.append(f"{work.text}, due {due_text(work.due)}: {reference_to(task)}")
    return said


async def cancel_tasks(records: Records, person: Person, codes: Iterable[str], reason: str) -> None:
    """End the open tasks of these codes, saying why."""
    wanted = set(codes)
    tasks = [task for task in await person.tasks() if task_code(task) in wanted]
    await cancel(records, person, tasks, reason)


async def cancel(records: Records, person: Person, tasks: Iterable[Resource], reason: str) -> int:
    """End those that are open, saying why; how many they were."""
    found = [task for task in tasks if is_open(task)]
    for task in found:
        ended = {"status": "cancelled", "statusReason": {"text": reason}}
        await records.save({**task, **ended, "lastModified": local_time(person.now)})
    return len(found)


async def reopen(
    records: Records, person: Person, reasons: Collection[str], cancelled: str | None
) -> int:
    """Ask again for what was cancelled at that time for one of these reasons; how many."""
    found = [
        task
        for task in await person.tasks()
        if status_of(task) == "cancelled"
        and task.get("statusReason", {}).get("text") in reasons
        and task.get("lastModified") == cancelled
    ]
    for task in found:
        asked = {name: value for name, value in task.items() if name != "statusReason"}
        again = {"status": "requested", "lastModified": local_time(person.now)}
        await records.save({**asked, **again})
    return len(found)


def task_code(task: Resource) -> str | None:
    concept = task.get("code")
    return code_in(concept, canonicals.TIMER) or code_in(concept, canonicals.TASK)


def is_open(task: Resource) -> bool:
    return status_of(task) in _OPEN


def _task(
    person: Person, focus: Resource, work: Work, episode: Resource | None, now: int
) -> Resource:
    task: Resource = {
        "resourceType": "Task",
        "id": stable_id("task", work.code, reference_to(focus)),
        "status": "requested",
        "intent": "order",
        "priority": work.priority,
        "code": {"coding": [{"system": work.system, "code": work.code}], "text": work.text},
        "description": work.text,
        "focus": {"reference": reference_to(focus)},
        "for": {"reference": person.reference},
        "authoredOn": local_time(now),
        "restriction": {"period": {"end": due_text(work.due)}},
    }
    keyworker = (episode or {}).get("careManager")
    if keyworker:
        task["owner"] = keyworker
    return task
