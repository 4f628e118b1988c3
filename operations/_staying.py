"""What is to be done because of stays in hospital, and after them."""

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Final

from fhir_server.fhir import canonicals
from fhir_server.fhir.json import Resource
from fhir_server.operation.records import reference_to
from operations._calendar import days_after, hours_after, months_after, working_days_after
from operations._leaving import was_planned
from operations._person import (
    begun,
    codes,
    extension,
    has_code,
    local_day,
    local_name,
    refers,
    status_of,
)
from operations._record import SELF_HARM, Record, is_over
from operations._work import Work

_RESOLVED: Final = ("inactive", "remission", "resolved")


def works_of_stays(record: Record) -> Iterator[Work]:
    current = {stay["id"] for stay in record.current_stays}
    for stay in record.stays:
        if stay["id"] in current:
            yield from _in_hospital(record, stay)
        if not _reviewed_before(record, stay) and _brought_something(record, stay):
            yield _root_cause(record, stay)
        if record.went_home(stay):
            yield from _home_again(record, stay)


def _in_hospital(record: Record, stay: Resource) -> Iterator[Work]:
    numbers, focus = record.numbers, reference_to(stay)
    day, unknown = local_day(record.admitted(stay)), not _says(stay, "start")
    yield Work(
        "contact-hospital",
        "Contact the hospital and the young person there",
        working_days_after(day, numbers.hospital_contact_days),
        focus,
        "urgent",
        fixed=unknown,
    )
    if not _is_near(stay):
        yield _oversight(record, focus, day)
    yield Work(
        "obtain-consent",
        "Ask for consent to be on the register",
        working_days_after(day, numbers.consent_request_days),
        focus,
        fixed=unknown,
        met=record.consented("register"),
    )
    yield Work(
        "T-DPLAN-START",
        "Name who leads the discharge plan",
        day,
        focus,
        "urgent",
        fixed=unknown,
        met=_plan_is_led(record, stay),
    )
    yield from _reviews(record, stay)


def _oversight(record: Record, focus: str, day: date) -> Work:
    """T-OVERSIGHT-VISIT: the first after the admission, each other after the one before."""
    numbers = record.numbers
    last = [
        (at, task)
        for at, task in record.done("T-OVERSIGHT-VISIT")
        if local_name(task.get("focus")) == focus and local_day(at) >= day
    ][-1:]
    since = local_day(last[0][0]) if last else day
    adult = record.is_adult(since)
    days = numbers.oversight_visit_adult_days if adult else numbers.oversight_visit_child_days
    key = last[0][1]["id"] if last else ""
    return Work(
        "T-OVERSIGHT-VISIT",
        "Commissioner's oversight visit",
        days_after(since, days),
        focus,
        key=key,
    )


def _is_near(stay: Resource) -> bool:
    """Whether it is told that the hospital is in the area; of most stays neither is told."""
    area, away = (
        has_code(stay.get("type"), canonicals.STAY_TYPE, code)
        for code in ("in-area", "out-of-area")
    )
    return area and not away


def _plan_is_led(record: Record, stay: Resource) -> bool:
    return any(
        refers(plan.get("encounter"), stay) and ("author" in plan or status_of(plan) != "draft")
        for plan in record.plans
    )


def _reviews(record: Record, stay: Resource) -> Iterator[Work]:
    """T-CETR-POSTADM and T-CETR-REPEAT."""
    numbers, focus = record.numbers, reference_to(stay)
    admitted, unknown = record.admitted(stay), not _says(stay, "start")
    before = _reviewed_before(record, stay)
    inside = record.last_review(admitted, record.now + 1, "T-CETR-POSTADM", "T-CETR-REPEAT")
    last = inside or before
    since = local_day(last[0] if last else admitted)
    months = numbers.cetr_repeat_child_months
    if record.is_adult(since):
        is_secure = has_code(stay.get("type"), canonicals.STAY_TYPE, "secure")
        months = (
            numbers.cetr_repeat_secure_months if is_secure else numbers.cetr_repeat_adult_months
        )
    yield Work(
        "T-CETR-REPEAT",
        "Care, Education and Treatment Review in hospital",
        months_after(since, months),
        focus,
        key=inside[1]["id"] if inside else "",
        fixed=unknown and last is None,
    )
    if before is None and not was_planned(stay):
        yield Work(
            "T-CETR-POSTADM",
            "Care, Education and Treatment Review after admission",
            days_after(local_day(admitted), numbers.cetr_after_admission_days),
            focus,
            "urgent",
            fixed=unknown,
        )


def _reviewed_before(record: Record, stay: Resource) -> tuple[int, Resource] | None:
    """The last review in the community before the admission, if it still counts."""
    day = local_day(record.admitted(stay))
    earliest = day - timedelta(days=record.numbers.community_cetr_days)
    found = [
        (at, task)
        for at, task in record.done("T-CETR-COMMUNITY")
        if earliest <= local_day(at) <= day
    ]
    return found[-1] if found else None


def _brought_something(record: Record, stay: Resource) -> bool:
    """It was known as open: of a stay that is over when it is first told, nobody asks why.

    Nor of one that would have begun after a death.
    """
    if record.is_after_death(stay):
        return False
    return not is_over(stay) or any(refers(plan.get("encounter"), stay) for plan in record.plans)


def _root_cause(record: Record, stay: Resource) -> Work:
    return Work(
        "root-cause-analysis",
        "Find out why there was no community review before the admission",
        days_after(local_day(record.admitted(stay)), record.numbers.root_cause_days),
        reference_to(stay),
        fixed=not _says(stay, "start"),
    )


def _home_again(record: Record, stay: Resource) -> Iterator[Work]:
    numbers, focus, at = record.numbers, reference_to(stay), record.left(stay)
    fixed = not _says(stay, "end")
    yield Work(
        "T-CAREPLAN-SHARE",
        "Send the care plan to everyone it names",
        hours_after(at, numbers.care_plan_share_hours),
        focus,
        fixed=fixed,
    )
    if any(record.admitted(other) >= at for other in record.stays if other["id"] != stay["id"]):
        return
    yield from _follow_up(record, focus, at, fixed=fixed)
    yield from _plan_at_home(record, local_day(at), fixed=fixed)
    held = days_after(local_day(at), numbers.red_hold_days)
    text = "Rate again: red is held until then"
    yield Work("T-RED-HOLD", text, held, focus, fixed=fixed, met=_rated_since(record, held))


def _follow_up(record: Record, focus: str, at: int, *, fixed: bool) -> Iterator[Work]:
    numbers = record.numbers
    hours, days = numbers.follow_up_hours, numbers.follow_up_days
    text, due = f"Follow-up within {hours} hours", hours_after(at, hours)
    yield Work("T-FU-72", text, due, focus, "urgent", fixed=fixed)
    text, due = f"Follow-up within {days} days", hours_after(at, days * 24)
    yield Work("T-FU-7D", text, due, focus, fixed=fixed)
    if _at_risk_of_self_harm(record):
        soon = numbers.follow_up_suicide_risk_hours
        text = f"Follow-up within {soon} hours, as there is a risk of suicide"
        yield Work("T-FU-48", text, hours_after(at, soon), focus, "asap", fixed=fixed)


def _plan_at_home(record: Record, day: date, *, fixed: bool) -> Iterator[Work]:
    """planning-visit, of somebody who went to hospital before there was a plan for home."""
    if record.episode is None or record.state != "plan-active":
        return
    yield Work(
        "planning-visit",
        "Visit at home: begin the keyworking plan together",
        working_days_after(day, record.numbers.planning_visit_days),
        reference_to(record.episode),
        fixed=fixed,
        met=record.has_plan,
    )


def _rated_since(record: Record, day: date) -> bool:
    """Whether somebody has; the red that is held, or given back, is no new rating."""
    rating = record.rating
    if rating is None or extension(rating, canonicals.MINIMUM_UNTIL_EXTENSION) is not None:
        return False
    return begun(rating) > 0 and local_day(begun(rating)) >= day


def _at_risk_of_self_harm(record: Record) -> bool:
    return any(
        has_code(condition.get("code"), *SELF_HARM)
        and not any(code in _RESOLVED for _, code in codes(condition.get("clinicalStatus")))
        for condition in record.conditions
    )


def _says(stay: Resource, end: str) -> bool:
    return bool(stay.get("period", {}).get(end))
