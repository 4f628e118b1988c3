"""What an admission and a discharge bring about, besides the stay itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from fhir_server.fhir import canonicals
from fhir_server.fhir.json import Resource
from fhir_server.operation.records import Records, reference_to
from operations import _plan, _rating
from operations._person import (
    Person,
    codes,
    died,
    extension,
    has_code,
    left_for_hospital,
    local_day,
    since,
    status_of,
    with_extension,
)
from operations._tasks import (
    Work,
    cancel_tasks,
    hours_after,
    months_after,
    open_tasks,
    task_code,
    working_days_after,
)

_ELECTIVE: Final = frozenset({"11", "12", "13"})
"""Admission methods that were planned; what is not known to be planned counts as not."""
_INVOLVED: Final = frozenset(
    {"information-gathering", "planning", "plan-active", "discharge-planning", "step-down"}
)
"""Pathway states that an admission turns into in-hospital; consent goes before keyworking."""
_SELF_HARM: Final = (canonicals.SNOMED_CT, "401206008")
_COMMUNITY_REVIEW_COUNTS: Final = timedelta(days=90)
_HOSPITAL_TASKS: Final = (
    "contact-hospital",
    "T-OVERSIGHT-VISIT",
    "T-CETR-POSTADM",
    "T-CETR-REPEAT",
)
"""What has no point any more once the young person has left."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to one young person in one stay."""

    records: Records
    person: Person
    stay: Resource
    at: int
    """When it happened, in microseconds since the epoch."""
    author: Resource
    """A Reference to who reports it."""

    @property
    def day(self) -> date:
        return local_day(self.at)


async def admitted(event: Event) -> list[str]:
    """Blue, the plan, the first tasks, the pathway; what was done, in words."""
    records, person = event.records, event.person
    rating = await _rating.rate_blue(records, person, event.stay, event.at, event.author)
    known = await _plan.plan_of(person, event.stay)
    plan = known or await _plan.open_plan(records, person, event.stay, event.at)
    works = await _works_of_admission(event)
    said = [
        rating,
        f"The discharge plan is {status_of(plan)}: {reference_to(plan)}",
        *await open_tasks(records, person, event.stay, works, person.now),
    ]
    if known is not None:
        # Told again: by now the pathway may have gone on from in-hospital.
        return said + await corrected(event)
    return said + await _move_to(event, "in-hospital", _INVOLVED)


async def corrected(event: Event) -> list[str]:
    """What more is known of a stay; what was done, in words."""
    plan = await _plan.plan_of(event.person, event.stay)
    if plan is None or not await _plan.note_aftercare(event.records, plan, event.stay):
        return []
    return [f"There is a right to aftercare under section 117: {reference_to(plan)}"]


async def _works_of_admission(event: Event) -> list[Work]:
    person, day = event.person, event.day
    adult = (person.age_at(event.at) or 0) >= 18
    works = [
        Work(
            "contact-hospital",
            "Contact the hospital and the young person there",
            working_days_after(day, 1),
            "urgent",
        ),
        Work(
            "T-OVERSIGHT-VISIT",
            "Commissioner's oversight visit",
            day + timedelta(days=56 if adult else 42),
        ),
    ]
    if not await person.consented("register"):
        works.append(
            Work(
                "obtain-consent",
                "Ask for consent to be on the register",
                working_days_after(day, 5),
            )
        )
    return [*works, *await _reviews(event, adult)]


async def _reviews(event: Event, adult: bool) -> list[Work]:
    """The Care, Education and Treatment Reviews that an admission calls for."""
    reviewed = await _community_review(event)
    repeat = Work(
        "T-CETR-REPEAT",
        "Care, Education and Treatment Review in hospital",
        months_after(reviewed or event.day, 6 if adult else 3),
    )
    if reviewed:
        return [repeat]
    works = [
        repeat,
        Work(
            "root-cause-analysis",
            "Find out why there was no community review before the admission",
            event.day + timedelta(days=28),
        ),
    ]
    if not _planned(event.stay):
        works.append(
            Work(
                "T-CETR-POSTADM",
                "Care, Education and Treatment Review after admission",
                event.day + timedelta(days=14),
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
    earliest = event.day - _COMMUNITY_REVIEW_COUNTS
    return max((day for day in days if earliest <= day <= event.day), default=None)


def _planned(stay: Resource) -> bool:
    method = extension(stay.get("hospitalization", {}), canonicals.ADMISSION_METHOD_EXTENSION)
    concept = (method or {}).get("valueCodeableConcept")
    return any(code in _ELECTIVE for _, code in codes(concept))


async def discharged(event: Event) -> list[str]:
    """Red and its floor, the follow-up, the pathway; what was done, in words."""
    records, person = event.records, event.person
    if died(event.stay):
        return await _died(event)
    if left_for_hospital(event.stay):
        return ["The young person goes to another hospital: the rating stays blue"]
    if await person.open_stays():
        return ["Another stay is open: the rating stays blue"]
    rating = await _rating.rate_red_after_discharge(
        records, person, event.stay, event.at, event.author
    )
    await cancel_tasks(records, person, _HOSPITAL_TASKS, "Discharged")
    works = await _works_of_discharge(event)
    return [
        rating,
        *await open_tasks(records, person, event.stay, works, person.now),
        *await _move_to(event, "plan-active", {"in-hospital", "discharge-planning"}),
        *await corrected(event),
    ]


async def _died(event: Event) -> list[str]:
    """Nobody is reminded of a visit to, or asks for the consent of, somebody who has died."""
    await _rating.end_ratings(event.records, event.person, event.at, "deceased")
    ended = (*_HOSPITAL_TASKS, "obtain-consent")
    await cancel_tasks(event.records, event.person, ended, "The young person has died")
    return ["The young person has died: the rating has ended, nothing is to be followed up"]


async def _works_of_discharge(event: Event) -> Sequence[Work]:
    at = event.at
    works = [
        Work("T-CAREPLAN-SHARE", "Send the care plan to everyone it names", hours_after(at, 24)),
        Work("T-FU-72", "Follow-up within 72 hours", hours_after(at, 72), "urgent"),
        Work("T-FU-7D", "Follow-up within 7 days", hours_after(at, 7 * 24)),
        Work(
            "T-RED-HOLD",
            "Rate again: red is held until then",
            event.day + _rating.RED_HOLD,
        ),
    ]
    if await _at_risk_of_self_harm(event.person):
        works.append(
            Work(
                "T-FU-48",
                "Follow-up within 48 hours, as there is a risk of suicide",
                hours_after(at, 48),
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
