"""What is overdue, what comes of it, and when to look again: pure functions of the record."""

from collections.abc import Iterator, Set
from typing import Final

from fhir_server.fhir import canonicals
from fhir_server.fhir.json import Resource
from fhir_server.operation.records import reference_to
from operations._ageing import (
    ADULT_MONTHS,
    PARENTS_END_MONTHS,
    REVIEW_MONTHS,
    exit_months,
)
from operations._calendar import days_after, midnight, working_days_after
from operations._person import CLOCKS_DIFFER, covers, has_code, local_day, since, status_of
from operations._record import Record, due_of, end_of, is_open, task_code
from operations._work import Work, task_id

_OVERDUE: Final[Resource] = {
    "coding": [{"system": canonicals.BUSINESS_STATUS, "code": "overdue"}],
    "text": "Overdue",
}
"""By its code, of which a topic for notices tells."""
_ESCALATION: Final = "escalation"


def is_overdue(task: Resource, now: int) -> bool:
    """Whether it should have been done by now; a day is over at midnight."""
    due = due_of(task)
    return is_open(task) and task_code(task) is not None and due is not None and end_of(due) <= now


def marked(task: Resource, now: int) -> Resource:
    """The task with what is to be said of its being late; what people have said besides stays."""
    said = task.get("businessStatus")
    if is_overdue(task, now):
        return task if said else {**task, "businessStatus": _OVERDUE}
    if said != _OVERDUE:
        return task
    return {name: value for name, value in task.items() if name != "businessStatus"}


def escalations(record: Record, over: Set[str], *, on_time: bool) -> Iterator[Work]:
    """What is overdue for some days becomes the strategic keyworker's too.

    Args:
        over: ids of tasks that are about to be ended: nobody is asked about them.
        on_time: whether new ones are asked for; else what was escalated, and is done, has its end.
    """
    known = {task["id"] for task in record.tasks if task_code(task) == _ESCALATION}
    for task in record.tasks if known or on_time else ():
        if task_code(task) in (None, _ESCALATION) or due_of(task) is None:
            continue
        told = task_id(_ESCALATION, reference_to(task)) in known
        if told or (on_time and is_overdue(task, record.now)):
            work = _escalation(record, task, is_over=task["id"] in over)
            if told or not work.met:
                yield work


def _escalation(record: Record, task: Resource, *, is_over: bool) -> Work:
    what = str(task.get("description") or task_code(task))
    late = is_overdue(task, record.now) and not is_over
    return Work(
        _ESCALATION,
        f"Overdue: {what}"[:200],
        working_days_after(record.today, 1),
        reference_to(task),
        "urgent",
        fixed=True,
        met=not late or escalated_at(record, task) > record.now,
        owner=strategic_keyworker(record),
    )


def escalated_at(record: Record, task: Resource) -> int:
    """When it becomes the strategic keyworker's, in microseconds since the epoch."""
    day = local_day(end_of(str(due_of(task))) - 1)
    return midnight(days_after(working_days_after(day, record.numbers.escalation_days), 1))


def strategic_keyworker(record: Record) -> Resource | None:
    """A Reference, where the team has one."""
    for team in record.teams:
        for one in team.get("participant", ()) if status_of(team) == "active" else ():
            role = has_code(one.get("role", []), canonicals.CARE_TEAM_ROLE, "strategic-keyworker")
            if role and "member" in one and covers(one.get("period"), record.now):
                return dict(one["member"])
    return None


def next_moment(record: Record) -> int | None:
    """When time alone changes what ought to be; it may have passed. None where it never does."""
    return min((*_of_tasks(record), *_of_the_calendar(record)), default=None)


def _of_tasks(record: Record) -> Iterator[int]:
    escalated = {
        task.get("focus", {}).get("reference")
        for task in record.tasks
        if task_code(task) == _ESCALATION
    }
    for task in record.tasks:
        due = due_of(task)
        if due is None or not is_open(task) or task_code(task) is None:
            continue
        if "businessStatus" not in task or end_of(due) > record.now:
            yield end_of(due)
        elif task_code(task) != _ESCALATION and reference_to(task) not in escalated:
            yield escalated_at(record, task)


def _of_the_calendar(record: Record) -> Iterator[int]:
    """Birthdays, consents that begin and run out, stays that are told ahead: what is to come."""
    days = [record.birthday(months) for months in _ages(record)]
    notice = record.numbers.proxy_notice_days
    for months in (REVIEW_MONTHS, PARENTS_END_MONTHS):
        day = record.birthday(months)
        days.append(None if day is None else days_after(day, -notice))
    moments = [midnight(day) for day in days if day is not None]
    for consent in record.consents:
        period = consent.get("provision", {}).get("period", {})
        moments += [end_of(period["end"])] if "end" in period else []
        moments += [since(period["start"])] if "start" in period else []
    for stay in record.encounters:
        period = stay.get("period", {})
        moments += [
            since(period[name]) - CLOCKS_DIFFER for name in ("start", "end") if name in period
        ]
    yield from (moment for moment in moments if moment > record.now)


def _ages(record: Record) -> tuple[int, ...]:
    numbers = record.numbers
    return (
        REVIEW_MONTHS,
        numbers.transition_first_months,
        PARENTS_END_MONTHS,
        numbers.transition_second_months,
        ADULT_MONTHS,
        exit_months(numbers),
    )
