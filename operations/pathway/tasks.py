"""Tasks that a move of the pathway asks for, which nobody takes back but a person or its end.

What follows from the record by itself is made by `operations._tasks` instead; its tasks have other
ids, so that it leaves these alone.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from fhir_server.fhir.json import Resource
from fhir_server.operation.records import Records, reference_to, stable_id
from operations._person import Person, local_time, status_of
from operations._record import is_open
from operations._work import Work, task_of


@dataclass(frozen=True, slots=True)
class Step:
    """Something that comes next: its code in the code system `task`."""

    code: str
    text: str
    due: date


async def open_steps(
    records: Records, person: Person, episode: Resource, steps: Iterable[Step]
) -> list[str]:
    """Open each, or date anew the one that the involvement has already; what was done, in words.

    A task that somebody has taken up or ended stays as it is.
    """
    owner = (await person.episode() or {}).get("careManager")
    said = []
    for step in steps:
        task = _task(person, episode, step, owner)
        known = await records.get("Task", task["id"])
        if known is not None:
            if status_of(known) != "requested":
                continue
            task = {**known, "restriction": known.get("restriction", {}) | task["restriction"]}
        await records.save(task)
        said.append(f"{step.text}, due {step.due.isoformat()}: {reference_to(task)}")
    return said


async def cancel(records: Records, person: Person, tasks: Iterable[Resource], reason: str) -> int:
    """End those that are open, saying why; how many they were."""
    found = [task for task in tasks if is_open(task)]
    for task in found:
        ended = {"status": "cancelled", "statusReason": {"text": reason}}
        await records.amend({**task, **ended, "lastModified": local_time(person.now)})
    return len(found)


def _task(person: Person, episode: Resource, step: Step, owner: Resource | None) -> Resource:
    focus = reference_to(episode)
    work, own_id = Work(step.code, step.text, step.due, focus), stable_id("step", step.code, focus)
    return task_of(work, person.reference, person.now, owner, own_id)
