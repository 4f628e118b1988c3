"""What an admission and a discharge bring about, besides the stay itself."""

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Final

from fhir_server.fhir import canonicals
from fhir_server.operation.records import reference_to
from operations import _plan, _rating
from operations._event import Event
from operations._leaving import died, is_understood, left_for_hospital, was_planned
from operations._person import (
    OPEN_STAY,
    UNDONE_STAY,
    Person,
    codes,
    colour_of,
    extension,
    has_code,
    is_open_plan,
    local_day,
    refers,
    since,
    status_of,
    with_extension,
)
from operations._tasks import (
    Work,
    cancel,
    cancel_tasks,
    hours_after,
    months_after,
    open_tasks,
    reopen,
    task_code,
    working_days_after,
)

_INVOLVED: Final = frozenset(
    {"information-gathering", "planning", "plan-active", "discharge-planning", "step-down"}
)
"""Pathway states that an admission turns into in-hospital; consent goes before keyworking."""
_IN_HOSPITAL: Final = frozenset({"in-hospital", "discharge-planning"})
_SELF_HARM: Final = (canonicals.SNOMED_CT, "401206008")
_HOSPITAL_TASKS: Final = (
    "contact-hospital",
    "T-OVERSIGHT-VISIT",
    "T-CETR-POSTADM",
    "T-CETR-REPEAT",
)
"""What has no point any more once the young person has left."""
_FOLLOW_UP_TASKS: Final = ("T-FU-48", "T-FU-72", "T-FU-7D", "T-RED-HOLD")
"""What has no point any more once the young person is back; the plan is to be shared still."""
_REVIEW_TASKS: Final = ("T-REVIEW-RED", "T-REVIEW-AMBER", "T-REVIEW-GREEN")
"""Timers of ratings that blue supersedes."""
_ADMITTED_AGAIN: Final = "Admitted again"
_RATED_BLUE: Final = "In hospital: rated blue"


def may_follow(known: str, told: str) -> bool:
    """Whether what a stay has brought can be squared with its new status."""
    if known in OPEN_STAY:
        return told in (*OPEN_STAY, "finished", *UNDONE_STAY)
    return known != "finished" or told in (*OPEN_STAY, "planned", "finished", *UNDONE_STAY)


async def admitted(event: Event) -> list[str]:
    """Blue, the plan, the first tasks, the pathway; what was done, in words."""
    records, person = event.records, event.person
    rating = await _rating.rate_blue(event)
    known = await _plan.plan_of(person, event.stay)
    plan = known or await _plan.open_plan(records, person, event.stay, event.at)
    works = await _works_of_admission(event)
    said = [
        rating,
        f"The discharge plan is {status_of(plan)}: {reference_to(plan)}",
        *_unclear_status(event),
        *await _end_what_went_before(event),
        *await open_tasks(records, person, event.stay, works, person.now),
    ]
    if known is not None:
        # Told again: by now the pathway may have gone on from in-hospital.
        return said + await corrected(event)
    return said + await _move_to(event, "in-hospital", _INVOLVED)


def _unclear_status(event: Event) -> list[str]:
    status = _plan.unclear_status(event.stay)
    if status is None:
        return []
    return [
        f"The legal status {status} is not understood: it is no code of "
        f"{canonicals.LEGAL_STATUS_CLASSIFICATION}. Whether it gives a right to aftercare under "
        "section 117 is left open"
    ]


async def _end_what_went_before(event: Event) -> list[str]:
    """Cancel the follow-up of earlier stays, and the reviews of ratings that blue supersedes."""
    person = event.person
    left_since = [
        stay for stay in await person.stays() if since(stay.get("period", {}).get("end")) > event.at
    ]
    follow_up = [
        task
        for task in await person.tasks()
        if task_code(task) in _FOLLOW_UP_TASKS
        and not any(refers(task.get("focus"), stay) for stay in left_since)
    ]
    count = await cancel(event.records, person, follow_up, _ADMITTED_AGAIN)
    active = await person.active_ratings()
    if active and colour_of(active[0]) == canonicals.BLUE:
        await cancel_tasks(event.records, person, _REVIEW_TASKS, _RATED_BLUE)
    return [f"The follow-up of the stay before is cancelled: {count} tasks"] if count else []


async def corrected(event: Event) -> list[str]:
    """What more is known of a stay; what was done, in words."""
    plan = await _plan.plan_of(event.person, event.stay)
    if plan is None or not await _plan.note_aftercare(event.records, plan, event.stay):
        return []
    return [f"There is a right to aftercare under section 117: {reference_to(plan)}"]


async def _works_of_admission(event: Event) -> list[Work]:
    person, day, bounds = event.person, event.day, event.pathway
    adult = (person.age_at(event.at) or 0) >= 18
    visit = bounds.oversight_visit_adult_days if adult else bounds.oversight_visit_child_days
    works = [
        Work(
            "contact-hospital",
            "Contact the hospital and the young person there",
            working_days_after(day, bounds.hospital_contact_days),
            "urgent",
        ),
        Work("T-OVERSIGHT-VISIT", "Commissioner's oversight visit", day + timedelta(days=visit)),
    ]
    if not event.consented:
        works.append(
            Work(
                "obtain-consent",
                "Ask for consent to be on the register",
                working_days_after(day, bounds.consent_request_days),
            )
        )
    return [*works, *await _reviews(event, adult)]


async def _reviews(event: Event, adult: bool) -> list[Work]:
    """The Care, Education and Treatment Reviews that an admission calls for."""
    bounds, reviewed = event.pathway, await _community_review(event)
    months = bounds.cetr_repeat_adult_months if adult else bounds.cetr_repeat_child_months
    repeat = Work(
        "T-CETR-REPEAT",
        "Care, Education and Treatment Review in hospital",
        months_after(reviewed or event.day, months),
    )
    if reviewed:
        return [repeat]
    works = [
        repeat,
        Work(
            "root-cause-analysis",
            "Find out why there was no community review before the admission",
            event.day + timedelta(days=bounds.root_cause_days),
        ),
    ]
    if not was_planned(event.stay):
        works.append(
            Work(
                "T-CETR-POSTADM",
                "Care, Education and Treatment Review after admission",
                event.day + timedelta(days=bounds.cetr_after_admission_days),
                "urgent",
            )
        )
    return works


async def _community_review(event: Event) -> date | None:
    """The day of the last review before the admission, if it still counts.

    A meeting under the local area emergency protocol is none, and has a code of its own.
    """
    days = [
        local_day(since(done))
        for task in await event.person.tasks()
        if task_code(task) == "T-CETR-COMMUNITY" and status_of(task) == "completed"
        if (done := task.get("executionPeriod", {}).get("end") or task.get("lastModified"))
    ]
    earliest = event.day - timedelta(days=event.pathway.community_cetr_days)
    return max((day for day in days if earliest <= day <= event.day), default=None)


async def discharged(event: Event) -> list[str]:
    """Red and its floor, the follow-up, the pathway; what was done, in words."""
    records, person = event.records, event.person
    plan = await _plan.plan_of(person, event.stay)
    if plan is not None:
        await _plan.end_plan(records, plan, event.at)
    if died(event.stay):
        return await _died(event)
    if left_for_hospital(event.stay):
        return [f"The young person goes to another hospital: {await _rating_stays(person)}"]
    if await person.open_stays():
        return [f"Another stay is open: {await _rating_stays(person)}"]
    unclear = [] if is_understood(event.stay) else [_UNCLEAR]
    rating = await _rating.rate_red_after_discharge(event)
    await cancel_tasks(records, person, _HOSPITAL_TASKS, "Discharged")
    works = await _works_of_discharge(event)
    return [
        *unclear,
        rating,
        *await open_tasks(records, person, event.stay, works, person.now),
        *await _move_to(event, "plan-active", _IN_HOSPITAL),
        *await corrected(event),
    ]


_UNCLEAR: Final = (
    "It is not understood where the young person went: dischargeDisposition has no code of "
    f"{canonicals.DISCHARGE_DESTINATION}. It is taken as home, so that somebody follows up"
)


async def _rating_stays(person: Person) -> str:
    active = await person.active_ratings()
    return f"the rating stays {colour_of(active[0])}" if active else "there is no rating"


async def _died(event: Event) -> list[str]:
    """Nobody is reminded of a visit to, or asks for the consent of, somebody who has died."""
    await _rating.end_ratings(event.records, event.person, event.at, "deceased")
    ended = (*_HOSPITAL_TASKS, *_FOLLOW_UP_TASKS, *_REVIEW_TASKS, "obtain-consent")
    await cancel_tasks(event.records, event.person, ended, "The young person has died")
    return ["The young person has died: the rating has ended, nothing is to be followed up"]


async def undone(event: Event) -> list[str]:
    """Take back what a stay has brought that never was; what was done, in words."""
    records, person = event.records, event.person
    said = await _rating.undo_ratings(event)
    tasks = [task for task in await person.tasks() if refers(task.get("focus"), event.stay)]
    if count := await cancel(records, person, tasks, "Added in error"):
        said.append(f"The tasks of the stay are cancelled: {count}")
    plan = await _plan.plan_of(person, event.stay)
    if plan is None:
        return said
    if is_open_plan(plan):
        said.append(await _plan.revoke_plan(records, plan))
    if await person.open_stays():
        return said
    reasons = (_ADMITTED_AGAIN, _RATED_BLUE)
    if count := await reopen(records, person, reasons, plan.get("created")):
        said.append(f"Tasks that the admission cancelled are asked for again: {count}")
    return said + await _move_to(event, await _state_at_home(person), _IN_HOSPITAL)


async def _state_at_home(person: Person) -> str:
    """The pathway state that the plans speak for; the one before is recorded nowhere else."""
    if await person.has_active_plan("step-down-plan"):
        return "step-down"
    plan = await person.keyworking_plan()
    if plan is None:
        return "information-gathering"
    return "planning" if status_of(plan) == "draft" else "plan-active"


async def _works_of_discharge(event: Event) -> Sequence[Work]:
    at, bounds = event.at, event.pathway
    hours, days = bounds.follow_up_hours, bounds.follow_up_days
    works = [
        Work(
            "T-CAREPLAN-SHARE",
            "Send the care plan to everyone it names",
            hours_after(at, bounds.care_plan_share_hours),
        ),
        Work("T-FU-72", f"Follow-up within {hours} hours", hours_after(at, hours), "urgent"),
        Work("T-FU-7D", f"Follow-up within {days} days", hours_after(at, days * 24)),
        Work(
            "T-RED-HOLD",
            "Rate again: red is held until then",
            event.day + timedelta(days=bounds.red_hold_days),
        ),
    ]
    if await _at_risk_of_self_harm(event.person):
        soon = bounds.follow_up_suicide_risk_hours
        works.append(
            Work(
                "T-FU-48",
                f"Follow-up within {soon} hours, as there is a risk of suicide",
                hours_after(at, soon),
                "asap",
            )
        )
    return works


async def _at_risk_of_self_harm(person: Person) -> bool:
    return any(
        has_code(condition.get("code"), *_SELF_HARM)
        and not any(
            code in ("inactive", "remission", "resolved")
            for _, code in codes(condition.get("clinicalStatus"))
        )
        for condition in await person.conditions()
    )


async def _move_to(event: Event, state: str, among: set[str] | frozenset[str]) -> list[str]:
    """Move the involvement on, if it is in one of these states."""
    episode = await event.person.episode()
    if episode is None:
        return ["The young person is not known to the keyworking service"]
    current = (extension(episode, canonicals.PATHWAY_STATE_EXTENSION) or {}).get("valueCode")
    if current not in among:
        return []
    moved = with_extension(episode, {"url": canonicals.PATHWAY_STATE_EXTENSION, "valueCode": state})
    await event.records.save(moved)
    return [f"The pathway moves from {current} to {state}: {reference_to(episode)}"]
