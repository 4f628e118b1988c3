"""Tasks made to fit what the record asks for: opened, dated again, ended.

What a person has taken up or ended stays as it is. So does what a person has asked for by hand,
until it has no point any more.
"""

from collections.abc import Iterator, Set
from itertools import chain
from typing import Final

from fhir_server.fhir import canonicals
from fhir_server.fhir.json import Resource
from fhir_server.operation.records import Records
from operations._ageing import ADULT_MONTHS, exit_months
from operations._calendar import due_text
from operations._doubt import CODE
from operations._overdue import escalations, is_overdue, marked
from operations._person import local_name, local_time, refers, since, status_of
from operations._record import Record, due_of, is_open, task_code
from operations._wanted import wanted
from operations._work import (
    OF_THE_REGISTER,
    Work,
    is_made_of_names,
    register_keeper,
    task_id,
    task_of,
)

_HOSPITAL: Final = frozenset(
    {"contact-hospital", "T-OVERSIGHT-VISIT", "T-CETR-POSTADM", "T-CETR-REPEAT", "T-DPLAN-START"}
)
"""What has no point any more once the young person has left."""
_FOLLOW_UP: Final = frozenset({"T-FU-48", "T-FU-72", "T-FU-7D", "T-RED-HOLD"})
"""What has no point any more once the young person is back; the plan is to be shared still."""
_REVIEWS: Final = frozenset({"T-REVIEW-RED", "T-REVIEW-AMBER", "T-REVIEW-GREEN"})
_WITHOUT_KEYWORKING: Final = OF_THE_REGISTER | {"escalation"}
_RETENTION: Final = "T-RETENTION"
"""Not asked for any more of somebody living who is referred or rated again."""
_BEREAVEMENT: Final = "bereavement"
_AFTER_DEATH: Final = frozenset(
    {_BEREAVEMENT, "root-cause-analysis", "review-break-glass", _RETENTION}
)
DIED: Final = "The young person has died"
_OF_ANOTHER: Final = CODE
"""Its stay is in the record of somebody else, and so tells nothing of whether it is over."""
_IN_ERROR: Final = "Added in error"
_DISCHARGED: Final = "Discharged"
_AGAIN: Final = "Admitted again"
_BLUE: Final = "In hospital: rated blue"
_OVER: Final = "Not asked for any more"
_MET: Final = "It has come about"
_OURS: Final = frozenset({DIED, _IN_ERROR, _DISCHARGED, _AGAIN, _BLUE, _OVER, _MET})
"""Why rules end tasks; one that has ended for another reason was ended by a person."""
_UNDONE: Final = ("cancelled", "entered-in-error")
_NOT_TAKEN_UP: Final = ("draft", "requested")


async def fit(records: Records, record: Record, *, on_time: bool = False) -> list[str]:
    """Make the tasks fit the record; what was done, in words.

    Args:
        on_time: whether to say what is overdue, which is the scheduler's.
    """
    works = [*wanted(record)]
    over = {task["id"] for task, _ in _over(record, {work.id for work in works})}
    over |= {work.id for work in works if work.met}
    works += escalations(record, over, on_time=on_time)
    asked = [await _ask(records, record, work) for work in works]
    said = list(filter(None, asked))
    said += await _end(records, record, {work.id for work in works})
    if on_time:
        said += await _mark(records, record)
    return said


async def _ask(records: Records, record: Record, work: Work) -> str:
    known = record.task(work.id) or await records.get("Task", work.id)
    if known is None:
        if work.met or _is_asked_already(record, work):
            return ""
        task = _task(record, work)
        await (records.make if is_made_of_names(task) else records.save)(task)
        return work.said
    if work.met:
        return await _meet(records, record, known)
    return await _ask_again(records, record, work, known)


async def _meet(records: Records, record: Record, known: Resource) -> str:
    if status_of(known) not in _NOT_TAKEN_UP:
        return ""
    at = local_time(record.now)
    period = {**known.get("executionPeriod", {}), "end": at}
    await records.amend({**_ended(record, known, "completed", _MET), "executionPeriod": period})
    return f"{_MET}: {known['description']}: Task/{known['id']}"


async def _ask_again(records: Records, record: Record, work: Work, known: Resource) -> str:
    """Date it again where nobody has taken it up, and ask again where rules have ended it."""
    was_ended = not is_open(known) and _reason(known) in _OURS
    if status_of(known) != "requested" and not was_ended:
        return ""
    task = {name: value for name, value in known.items() if name != "statusReason"}
    if was_ended:
        task = {**task, "status": "requested", "lastModified": local_time(record.now)}
    due = due_of(known)
    if due is None or not work.fixed:
        period = {**known.get("restriction", {}).get("period", {}), "end": due_text(work.due)}
        task["restriction"] = {**known.get("restriction", {}), "period": period}
    owner = _owner(record, work)
    if owner is not None:  # who came to the involvement only later
        task = {"owner": owner, **task}
    if task == known:
        return ""
    await records.amend(marked(task, record.now) if "businessStatus" in task else task)
    return work.said


def _is_asked_already(record: Record, work: Work) -> bool:
    """Whether a person has asked for the same by a task of their own, or has ended such a one."""
    return any(
        _is_same(task, work) and not _is_made_by_rules(record, task)
        for task in record.tasks_of(work.code)
    )


def _is_same(task: Resource, work: Work) -> bool:
    focus = local_name(task.get("focus"))
    if is_open(task):
        return focus == work.focus or not focus.startswith(("Encounter/", "Consent/"))
    if not work.key and focus == work.focus:
        return True
    return (due_of(task) or "")[:10] == due_text(work.due)[:10]


def _is_made_by_rules(record: Record, task: Resource) -> bool:
    """The id of such a one says what it is about, and which one it follows."""
    code = task_code(task) or ""
    keys = ("", "archive", "delete", *_months(record))
    others = (one["id"] for one in record.tasks_of(code))
    focus = local_name(task.get("focus"))
    return any(task["id"] == task_id(code, focus, key) for key in chain(keys, others))


def _months(record: Record) -> Iterator[str]:
    numbers = record.numbers
    first, second = numbers.transition_first_months, numbers.transition_second_months
    for months in (first, second, ADULT_MONTHS, exit_months(numbers)):
        yield str(months)


# What has no point any more ---------------------------------------------------------------------


async def _end(records: Records, record: Record, ids: Set[str]) -> list[str]:
    """End what is not asked for any more, saying why; how many there were of each reason."""
    counts: dict[str, int] = {}
    for task, reason in _over(record, ids):
        await records.amend(_ended(record, task, "cancelled", reason))
        counts[reason] = counts.get(reason, 0) + 1
    return [f"{reason}: tasks that are cancelled: {count}" for reason, count in counts.items()]


def _over(record: Record, ids: Set[str]) -> Iterator[tuple[Resource, str]]:
    """What is open, not asked for any more, and not taken up; and why."""
    for task in record.tasks:
        if not is_open(task) or task["id"] in ids:
            continue
        reason = _why_over(record, task)
        if reason and (status_of(task) in _NOT_TAKEN_UP or reason in (DIED, _IN_ERROR)):
            yield task, reason


def _why_over(record: Record, task: Resource) -> str:
    """'' where it is left as it is."""
    code = task_code(task) or ""
    if not code or code == _OF_ANOTHER:
        return ""
    if code == _BEREAVEMENT and not record.dead:
        return _IN_ERROR
    if code in _AFTER_DEATH and (record.dead or code != _RETENTION):
        return _IN_ERROR if _is_of_undone(record, task) else ""
    if record.dead:
        return DIED
    if _is_of_undone(record, task):
        return _IN_ERROR
    if code in _REVIEWS and record.colour == canonicals.BLUE:
        return _BLUE
    is_ours = _is_made_by_rules(record, task)
    if code in _FOLLOW_UP and (is_ours or _was_before(task, _last_admission(record))):
        return _AGAIN
    if code in _HOSPITAL and (is_ours or _was_before(task, _last_home(record))):
        return _DISCHARGED
    return _OVER if is_ours and code != "escalation" else ""


def _is_of_undone(record: Record, task: Resource) -> bool:
    focus = local_name(task.get("focus"))
    if not focus.startswith("Encounter/"):
        return False
    stay = next((one for one in record.encounters if refers(task.get("focus"), one)), None)
    return stay is None or status_of(stay) in _UNDONE or record.is_after_death(stay)


def _last_admission(record: Record) -> int:
    return max((record.admitted(stay) for stay in record.open_stays), default=-(2**62))


def _last_home(record: Record) -> int:
    return -(2**62) if record.in_hospital else record.home_since


def _was_before(task: Resource, at: int) -> bool:
    """Whether the task can be about what went before that moment."""
    return at > -(2**62) and since(task.get("authoredOn")) <= at


def _reason(task: Resource) -> str:
    return str(task.get("statusReason", {}).get("text", ""))


def _ended(record: Record, task: Resource, status: str, reason: str) -> Resource:
    kept = {name: value for name, value in task.items() if name != "businessStatus"}
    why = {"status": status, "statusReason": {"text": reason}}
    return {**kept, **why, "lastModified": local_time(record.now)}


# What is late -----------------------------------------------------------------------------------


async def _mark(records: Records, record: Record) -> list[str]:
    late = [task for task in record.tasks if is_overdue(task, record.now)]
    said = []
    for task in late:
        if marked(task, record.now) == task:
            continue
        current = await records.get("Task", task["id"])
        if current is not None and is_open(current):
            await records.amend(marked(current, record.now))
            said.append(f"Overdue: Task/{task['id']}")
    return said


# As a resource ----------------------------------------------------------------------------------


def _task(record: Record, work: Work) -> Resource:
    return task_of(work, record.reference, record.now, _owner(record, work))


def _owner(record: Record, work: Work) -> Resource | None:
    """The keyworker; once keyworking is over, the keeper of the register, of what runs on."""
    if record.episode is None and work.code in _WITHOUT_KEYWORKING:
        return register_keeper(record.numbers) or work.owner
    found: Resource | None = work.owner or (record.episode or {}).get("careManager")
    return found
