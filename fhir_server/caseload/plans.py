"""Goals, the personalised plan and the step-down plan.

A goal is SMART: the wish (specific), target.measure and detail (measurable), goal-acceptance
(achievable), addresses (relevant), startDate and target.dueDate (time-bound). R4:
https://hl7.org/fhir/R4/goal.html, https://hl7.org/fhir/R4/careplan.html.
"""

from collections.abc import Iterator
from datetime import date, timedelta

from fhir.resources.R4B.careplan import CarePlan, CarePlanActivity, CarePlanActivityDetail
from fhir.resources.R4B.domainresource import DomainResource
from fhir.resources.R4B.extension import Extension
from fhir.resources.R4B.goal import Goal, GoalTarget
from fhir.resources.R4B.reference import Reference

from fhir_server.caseload import pathway, service
from fhir_server.caseload.elements import (
    TEST_DATA,
    coded,
    days,
    note,
    reference,
    words,
    working_day,
)
from fhir_server.caseload.people import YoungPerson
from fhir_server.caseload.ratings import answers_reference
from fhir_server.caseload.texts import GoalText
from fhir_server.fhir import canonicals


def plans(person: YoungPerson) -> Iterator[DomainResource]:
    if not person.reached(pathway.PLANNING):
        return
    yield _goal(person, 1, person.story.goal, _first_goal_day(person), person.patient)
    yield _goal(person, 2, person.family_goal, _second_goal_day(person), person.carer_reference)
    yield _keyworking_plan(person)
    if person.reached(pathway.STEP_DOWN):
        yield _step_down_plan(person)


def _closed(person: YoungPerson) -> bool:
    return person.slot.state == pathway.CLOSED


def _first_goal_day(person: YoungPerson) -> date:
    return person.began(pathway.PLANNING)


def _second_goal_day(person: YoungPerson) -> date:
    """Agreed at a later visit, so that an open plan always has a goal that is not yet due."""
    if _closed(person):
        return _first_goal_day(person)
    return max(_first_goal_day(person), working_day(person.as_of - timedelta(days=21)))


def _goal(person: YoungPerson, number: int, text: GoalText, start: date, expressed_by: str) -> Goal:
    due = start + timedelta(weeks=text.weeks)
    lifecycle, achievement = _progress(person, due)
    return Goal(
        id=f"{person.id}-goal-{number}",
        meta=TEST_DATA,
        extension=[_acceptance(person, lifecycle)],
        lifecycleStatus=lifecycle,
        achievementStatus=coded(canonicals.GOAL_ACHIEVEMENT, achievement) if achievement else None,
        category=[words(text.area)],
        description=words(text.wish),
        subject=reference(person.patient),
        startDate=start,
        target=[GoalTarget(measure=words(text.measure), detailString=text.detail, dueDate=due)],
        statusDate=start,
        expressedBy=reference(expressed_by),
        addresses=[reference(f"Condition/{person.id}-condition-1")],
        note=[note(text.said, start, person.patient)],
    )


def _progress(person: YoungPerson, due: date) -> tuple[str, str | None]:
    """Lifecycle and achievement: a goal is proposed while the plan is being written."""
    if not person.reached(pathway.PLAN_ACTIVE):
        return "proposed", None
    if _closed(person) or due <= person.as_of:
        return "completed", "sustaining" if person.serial % 3 == 0 else "achieved"
    return "active", "improving" if person.serial % 2 else "in-progress"


def _acceptance(person: YoungPerson, lifecycle: str) -> Extension:
    status = "pending" if lifecycle == "proposed" else "agree"
    return Extension(
        url=canonicals.GOAL_ACCEPTANCE_EXTENSION,
        extension=[
            Extension(url="individual", valueReference=reference(person.patient)),
            Extension(url="status", valueCode=status),
        ],
    )


def voice(person: YoungPerson, on: date) -> Extension:
    """What the young person says, first in every plan."""
    return Extension(
        url=canonicals.YOUNG_PERSONS_VOICE_EXTENSION,
        valueAnnotation=note(person.story.voice, on, person.patient),
    )


def next_review(day: date) -> Extension:
    return Extension(url=canonicals.NEXT_REVIEW_EXTENSION, valueDate=working_day(day))


def goals(person: YoungPerson) -> list[Reference]:
    return [reference(f"Goal/{person.id}-goal-{number}") for number in (1, 2)]


def addressed(person: YoungPerson) -> list[Reference]:
    return [
        reference(f"Condition/{person.id}-condition-{number}")
        for number, _ in enumerate(person.story.needs, 1)
    ]


def _keyworking_plan(person: YoungPerson) -> CarePlan:
    start = person.began(pathway.PLANNING)
    in_effect = person.timeline.began(pathway.PLAN_ACTIVE) or start
    return CarePlan(
        id=f"{person.id}-plan",
        meta=TEST_DATA,
        extension=[voice(person, start), *_open_review(person)],
        status=_plan_status(person),
        intent="plan",
        category=[coded(canonicals.CARE_PLAN_CATEGORY, "keyworking-plan")],
        title=f"{person.given}'s plan",
        subject=reference(person.patient),
        period=days(in_effect, person.timeline.latest if _closed(person) else None),
        author=reference(service.keyworker(person.serial)),
        careTeam=[reference(f"CareTeam/{person.id}-team")],
        addresses=addressed(person),
        supportingInfo=[reference(answers_reference(person))],
        goal=goals(person),
        activity=list(_activities(person)),
    )


def _open_review(person: YoungPerson) -> Iterator[Extension]:
    if not _closed(person):
        yield next_review(person.as_of + timedelta(days=14 + person.serial % 14))


def _plan_status(person: YoungPerson) -> str:
    if _closed(person):
        return "completed"
    return "active" if person.reached(pathway.PLAN_ACTIVE) else "draft"


def _activities(person: YoungPerson) -> Iterator[CarePlanActivity]:
    started = person.reached(pathway.PLAN_ACTIVE)
    status = "completed" if _closed(person) else "in-progress" if started else "not-started"
    yield _activity(
        f"Close the gap: {person.story.gap}", status, service.social_worker(person.serial)
    )
    yield _activity(
        f"Everyone works this way: {person.story.helps}", status, service.keyworker(person.serial)
    )


def _activity(text: str, status: str, performer: str) -> CarePlanActivity:
    return CarePlanActivity(
        detail=CarePlanActivityDetail(
            kind="Task", status=status, description=text, performer=[reference(performer)]
        )
    )


def _step_down_plan(person: YoungPerson) -> CarePlan:
    start = person.began(pathway.STEP_DOWN)
    closed = _closed(person)
    return CarePlan(
        id=f"{person.id}-plan-step-down",
        meta=TEST_DATA,
        extension=[voice(person, start), *_open_review(person)],
        partOf=[reference(f"CarePlan/{person.id}-plan")],
        status="completed" if closed else "active",
        intent="plan",
        category=[coded(canonicals.CARE_PLAN_CATEGORY, "step-down-plan")],
        title=f"{person.given}'s plan for afterwards",
        subject=reference(person.patient),
        period=days(start, person.timeline.latest if closed else None),
        author=reference(service.keyworker(person.serial)),
        careTeam=[reference(f"CareTeam/{person.id}-team")],
        addresses=addressed(person),
        goal=goals(person),
        activity=list(_step_down_activities(person)),
    )


def _step_down_activities(person: YoungPerson) -> Iterator[CarePlanActivity]:
    status = "completed" if _closed(person) else "in-progress"
    keyworker = service.keyworker(person.serial)
    for text, performer in (
        ("Visits move from every week to once a month", keyworker),
        ("Early signs and whom to ring, on one page that the family has tried out", keyworker),
        ("The ongoing team meets the family without the keyworker", service.GP),
    ):
        yield _activity(text, status, performer)
