"""The tasks that a young person's record asks for: a pure function of it.

What is made from what, and the default numbers: docs/timers.md, which names the sources.
"""

from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from typing import Final

from fhir_server.fhir import canonicals
from fhir_server.fhir.json import Resource
from fhir_server.operation.records import reference_to
from operations._ageing import works_of_age
from operations._calendar import days_after, hours_after, midnight, months_after, working_days_after
from operations._consenting import works_of_consent
from operations._leaving import died
from operations._overdue import strategic_keyworker
from operations._person import begun, code_in, local_day, local_name, since, status_of
from operations._record import Record, day_of, is_open, is_over, task_code
from operations._staying import works_of_stays
from operations._work import Work

_REVIEWED: Final = {
    canonicals.RED: "T-REVIEW-RED",
    canonicals.AMBER: "T-REVIEW-AMBER",
    canonicals.GREEN: "T-REVIEW-GREEN",
}
_CETR: Final = ("T-CETR-COMMUNITY", "T-CETR-POSTADM", "T-CETR-REPEAT")


def wanted(record: Record) -> list[Work]:
    """What is to be done for this young person, and by when."""
    works = [*works_of_stays(record)]
    if record.dead:
        kept = [work for work in works if work.code == "root-cause-analysis"]
        return [*kept, *_works_of_deaths(record)]
    works += _works_of_referrals(record)
    works += _works_of_rating(record)
    works += _papers(record)
    works += works_of_consent(record)
    works += works_of_age(record)
    works += _retention(record)
    return works


def _works_of_deaths(record: Record) -> Iterator[Work]:
    """Somebody who can decide sees that nobody writes to the family as if nothing had happened."""
    stays = [stay for stay in record.stays if is_over(stay) and died(stay)]
    if _is_told_by_itself(record, stays):
        yield Work(
            "bereavement",
            "The young person has died: see to it that the family is met with care",
            working_days_after(record.today, 1),
            record.reference,
            "urgent",
            fixed=True,
            owner=strategic_keyworker(record),
        )
        return
    for stay in stays:
        yield Work(
            "bereavement",
            "The young person has died in hospital: see to it that the family is met with care",
            working_days_after(local_day(record.left(stay)), 1),
            reference_to(stay),
            "urgent",
            owner=strategic_keyworker(record),
        )


def _is_told_by_itself(record: Record, stays: Sequence[Resource]) -> bool:
    """Whether no stay told of the death, or only after somebody was asked already."""
    if not stays:
        return bool(record.involvements or record.flags)
    return any(
        task_code(task) == "bereavement" and local_name(task.get("focus")) == record.reference
        for task in record.tasks
    )


def _works_of_referrals(record: Record) -> Iterator[Work]:
    """T-CONTACT and T-DSR-REVIEW-REFERRAL."""
    numbers = record.numbers
    for request in record.requests:
        day, focus = day_of(request.get("authoredOn")), reference_to(request)
        role = code_in(request.get("performerType"), canonicals.CARE_TEAM_ROLE)
        if role != "keyworker" or status_of(request) != "active" or day is None:
            continue
        yield Work(
            "T-CONTACT",
            "First contact after the referral",
            working_days_after(day, numbers.contact_days),
            focus,
        )
        yield Work(
            "T-DSR-REVIEW-REFERRAL",
            "Look at the risk that the referral tells of",
            days_after(day, numbers.referral_review_days),
            focus,
            met=any(local_day(begun(flag)) > day for flag in record.flags if begun(flag) > 0),
        )


def _works_of_rating(record: Record) -> Iterator[Work]:
    """The reviews of a rating, and what red calls for in the community."""
    rating, colour = record.rating, record.colour
    day = None if rating is None else day_of(rating.get("period", {}).get("start"))
    if rating is None or day is None or colour not in _REVIEWED:
        return
    code, focus = _REVIEWED[colour], reference_to(rating)
    last = record.last_review(begun(rating), record.now + 1, code)
    yield Work(
        code,
        f"Look at the {colour} rating again",
        days_after(local_day(last[0]) if last else day, _days_between(record, colour)),
        focus,
        key=last[1]["id"] if last else "",
    )
    if colour == canonicals.RED and not record.in_hospital:
        yield from _community_review(record, focus, day)


def _days_between(record: Record, colour: str) -> int:
    numbers = record.numbers
    by_colour = {
        canonicals.RED: numbers.review_red_days,
        canonicals.AMBER: numbers.review_amber_days,
    }
    return by_colour.get(colour, numbers.review_green_days)


def _community_review(record: Record, flag: str, day: date) -> Iterator[Work]:
    """T-CETR-COMMUNITY and T-LAEP, unless a review took place that still counts."""
    numbers = record.numbers
    counts = timedelta(days=numbers.community_cetr_days) // timedelta(microseconds=1)
    met = record.last_review(midnight(day) - counts, record.now + 1) is not None
    text = "Care, Education and Treatment Review in the community"
    due = days_after(day, numbers.cetr_community_due_days)
    yield Work("T-CETR-COMMUNITY", text, due, flag, "urgent", met=met)
    answered = _imminent_since(record)
    if answered is not None:
        yield Work(
            "T-LAEP",
            "Meet under the local area emergency protocol: an admission is imminent",
            working_days_after(answered[1], numbers.laep_days),
            answered[0],
            "asap",
            met=met,
        )


def _imminent_since(record: Record) -> tuple[str, date] | None:
    """The answers that say that an admission is likely within 48 hours, and their day."""
    answers = record.answers or {}
    day = day_of(answers.get("authored"))
    said = any(
        item.get("linkId") == "admission-48h"
        and any(answer.get("valueBoolean") is True for answer in item.get("answer", ()))
        for item in answers.get("item", ())
    )
    return (reference_to(answers), day) if said and day else None


def _papers(record: Record) -> Iterator[Work]:
    """T-CETR-PAPERS: a review has its day once its Task says when it begins."""
    hours = record.numbers.cetr_papers_hours
    for task in record.tasks:
        start = task.get("executionPeriod", {}).get("start")
        day = day_of(start)
        if task_code(task) not in _CETR or not is_open(task) or day is None:
            continue
        whole_day = len(start) == len("2026-05-01")
        ahead = timedelta(days=-(-hours // 24))
        due = day - ahead if whole_day else hours_after(since(start), -hours)
        text = "Send the papers of the review to its panel"
        yield Work("T-CETR-PAPERS", text, due, reference_to(task))


def _retention(record: Record) -> Iterator[Work]:
    """T-RETENTION: first the archive, then the removal."""
    ended = [one for one in record.involvements if status_of(one) == "finished"]
    if record.episode is not None or record.rating is not None or not ended:
        return
    last = max(ended, key=lambda one: str(one.get("period", {}).get("end", "")))
    day, focus = day_of(last.get("period", {}).get("end")), reference_to(last)
    if day is None:
        return
    numbers = record.numbers
    archive = Work(
        "T-RETENTION",
        "Archive the record",
        months_after(day, numbers.retention_archive_months),
        focus,
        key="archive",
    )
    yield archive
    if any(task["id"] == archive.id and status_of(task) == "completed" for task in record.tasks):
        due = months_after(day, numbers.retention_delete_months)
        yield Work("T-RETENTION", "Remove the record", due, focus, key="delete")
