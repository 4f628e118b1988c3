"""Tasks: what people have to do by when, and what timers remind them of.

A due date is restriction.period.end. Default times are those of the timer code system. R4:
https://hl7.org/fhir/R4/task.html.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from fhir.resources.R4B.period import Period
from fhir.resources.R4B.task import Task, TaskRestriction

from fhir_server.caseload import pathway, service
from fhir_server.caseload.consents import answered
from fhir_server.caseload.elements import (
    TEST_DATA,
    after_working_days,
    at,
    coded,
    days,
    reference,
    renamed,
    until,
    working_day,
)
from fhir_server.caseload.hospital import unplanned
from fhir_server.caseload.involvement import ended
from fhir_server.caseload.people import YoungPerson
from fhir_server.caseload.ratings import RED_HOLD, current, flag_reference
from fhir_server.caseload.visits import planning_visit_day
from fhir_server.fhir import canonicals

_REVIEW_EVERY: Final = {
    canonicals.RED: timedelta(days=14),
    canonicals.AMBER: timedelta(days=28),
    canonicals.GREEN: timedelta(days=90),
}


@dataclass(frozen=True, slots=True)
class _Work:
    code: str
    text: str
    opened: date
    due: date
    owner: str
    focus: str
    done: bool = False
    status: str | None = None

    @property
    def system(self) -> str:
        return canonicals.TIMER if self.code.startswith("T-") else canonicals.TASK

    @property
    def slug(self) -> str:
        return self.code.lower()


def tasks(person: YoungPerson) -> Iterator[Task]:
    for work in (*_beginning(person), *_visits(person), *_stay(person), *_home_again(person)):
        yield _task(person, work)
    if not ended(person):
        for work in _timers(person):
            yield _task(person, work)


def _task(person: YoungPerson, work: _Work) -> Task:
    status = work.status or ("completed" if work.done else "requested")
    return Task(
        id=f"{person.id}-task-{work.slug}",
        meta=TEST_DATA,
        status=status,
        intent="order",
        code=coded(work.system, work.code),
        description=work.text,
        focus=reference(work.focus),
        **renamed(for_=reference(person.patient)),
        authoredOn=at(work.opened, 9),
        executionPeriod=_done_period(person, work) if status == "completed" else None,
        owner=reference(work.owner),
        restriction=TaskRestriction(period=until(work.due)),
    )


def _done_period(person: YoungPerson, work: _Work) -> Period:
    """On the day that the records show, otherwise in time."""
    return days(work.opened, _event(person, work.code) or min(work.due, person.as_of))


def _event(person: YoungPerson, code: str) -> date | None:
    """The day on which the records show that the work was done."""
    if code == "obtain-consent":
        return answered(person)
    if code == "first-visit":
        return person.timeline.began(pathway.PLANNING)
    return planning_visit_day(person) if code == "planning-visit" else None


def _beginning(person: YoungPerson) -> Iterator[_Work]:
    referred = person.timeline.referred
    state = person.slot.state
    yield _Work(
        "T-CONTACT",
        "First contact with the family after the referral",
        referred,
        after_working_days(referred, 5),
        service.STRATEGIC_KEYWORKER,
        f"ServiceRequest/{person.id}-referral",
        done=state != pathway.REFERRED,
    )
    if person.reached(pathway.CONSENT_PENDING):
        yield _obtain_consent(person)


def _obtain_consent(person: YoungPerson) -> _Work:
    asked = person.began(pathway.CONSENT_PENDING)
    return _Work(
        "obtain-consent",
        f"Explain keyworking to {person.given} and ask whether they want it",
        asked,
        after_working_days(asked, 10),
        service.STRATEGIC_KEYWORKER,
        f"Consent/{person.id}-consent-keyworking",
        done=person.slot.state != pathway.CONSENT_PENDING,
    )


def _visits(person: YoungPerson) -> Iterator[_Work]:
    """The family is contacted before the team, and both before the first visit."""
    if not person.reached(pathway.INFORMATION_GATHERING):
        return
    matched = person.began(pathway.INFORMATION_GATHERING)
    settled = person.slot.state != pathway.INFORMATION_GATHERING
    known = settled or person.serial % 4 != 2
    carer = person.carer_reference
    team = f"CareTeam/{person.id}-team"
    family_due, team_due = after_working_days(matched, 2), after_working_days(matched, 5)
    for code, text, due, focus, done in (
        ("contact-family", f"Ring {person.carer.given}", family_due, carer, True),
        ("contact-mdt", "Introduce the keyworker to the team", team_due, team, known),
        ("first-visit", f"A chat: {person.story.place}", matched + timedelta(21), carer, settled),
    ):
        yield _keyworkers(person, code, text, (matched, due), focus, done)
    if person.reached(pathway.PLANNING):
        yield _planning_visit(person)


def _planning_visit(person: YoungPerson) -> _Work:
    start = person.began(pathway.PLANNING)
    done = person.slot.state != pathway.PLANNING
    text = f"Start the plan and its goals with {person.given}"
    span = (start, start + timedelta(days=21))
    return _keyworkers(person, "planning-visit", text, span, f"CarePlan/{person.id}-plan", done)


def _keyworkers(
    person: YoungPerson, code: str, text: str, span: tuple[date, date], focus: str, done: bool
) -> _Work:
    opened, due = span
    return _Work(
        code, text, opened, working_day(due), service.keyworker(person.serial), focus, done
    )


def _stay(person: YoungPerson) -> Iterator[_Work]:
    if not person.slot.stayed:
        return
    admitted = person.began(pathway.IN_HOSPITAL)
    stay, plan = f"Encounter/{person.id}-stay", f"CarePlan/{person.id}-plan-discharge"
    clinician = service.unit(person.serial).clinician
    contact = (admitted, after_working_days(admitted, 1))
    yield _keyworkers(
        person, "contact-hospital", "Ring the ward and arrange a visit", contact, stay, True
    )
    yield _Work(
        "T-DPLAN-START", "Open the discharge plan", admitted, admitted, clinician, plan, True
    )
    visit = admitted + timedelta(days=42)
    yield _Work(
        "T-OVERSIGHT-VISIT",
        "Visit on the ward",
        admitted,
        visit,
        service.ICB,
        stay,
        status=_oversight_status(person, visit),
    )
    if unplanned(person):
        yield from _without_review(person, admitted, stay)


def _oversight_status(person: YoungPerson, visit: date) -> str:
    """Nobody visits somebody who went home before the visit was due."""
    home = person.slot.home_again
    if visit <= (person.timeline.latest if home else person.as_of):
        return "completed"
    return "cancelled" if home else "requested"


def _without_review(person: YoungPerson, admitted: date, stay: str) -> Iterator[_Work]:
    done = person.slot.state != pathway.IN_HOSPITAL
    yield _Work(
        "T-CETR-POSTADM",
        "Hold a Care, Education and Treatment Review",
        admitted,
        admitted + timedelta(days=14),
        service.ICB,
        stay,
        done,
    )
    yield _Work(
        "root-cause-analysis",
        "Find out why there was no review before the admission",
        admitted,
        admitted + timedelta(days=28),
        service.ICB,
        stay,
        done,
    )


def _home_again(person: YoungPerson) -> Iterator[_Work]:
    if not person.slot.home_again:
        return
    home = person.timeline.latest
    stay, plan = f"Encounter/{person.id}-stay", f"CarePlan/{person.id}-plan-discharge"
    clinician = service.unit(person.serial).clinician
    camhs = service.camhs_clinician(person.serial)
    flag = flag_reference(person, current(person))
    strategic = service.STRATEGIC_KEYWORKER
    for code, text, after, owner, focus in (
        ("T-CAREPLAN-SHARE", "Send the plan to everyone it names", 1, clinician, plan),
        ("T-FU-72", "See or ring within three days", 3, camhs, stay),
        ("T-FU-7D", "See within a week", 7, camhs, stay),
        ("T-RED-HOLD", "Review the red rating after two weeks", RED_HOLD.days, strategic, flag),
    ):
        due = home + timedelta(days=after)
        yield _Work(code, text, home, due, owner, focus, done=due < person.as_of)


def _timers(person: YoungPerson) -> Iterator[_Work]:
    """What will come round again."""
    rating = current(person)
    if rating.colour in _REVIEW_EVERY:
        yield _review(person, _REVIEW_EVERY[rating.colour])
    if person.reached(pathway.AWAITING_ALLOCATION):
        yield _consent_check(person)
    if rating.colour == canonicals.RED and not person.slot.stayed:
        yield _community_review(person)
    if person.age in (14, 17):
        yield _transition(person)


def _review(person: YoungPerson, every: timedelta) -> _Work:
    """The next review; in every seventh record it is overdue, as happens in real life."""
    rating = current(person)
    passed = (person.as_of - rating.start) // every
    if person.serial % 7 == 6 and passed:
        passed -= 1
    last = rating.start + passed * every
    return _Work(
        f"T-REVIEW-{rating.colour.upper()}",
        f"Look at the {rating.colour} rating again",
        last,
        last + every,
        service.STRATEGIC_KEYWORKER,
        flag_reference(person, rating),
    )


def _consent_check(person: YoungPerson) -> _Work:
    given = person.began(pathway.AWAITING_ALLOCATION)
    return _Work(
        "T-CONSENT-RECHECK",
        "Ask whether the consent still stands",
        given,
        given + timedelta(days=365),
        service.keyworker(person.serial),
        f"Consent/{person.id}-consent-keyworking",
    )


def _community_review(person: YoungPerson) -> _Work:
    rating = current(person)
    due = rating.start + timedelta(days=14)
    return _Work(
        "T-CETR-COMMUNITY",
        "Hold a Care, Education and Treatment Review before things get harder",
        rating.start,
        due,
        service.ICB,
        flag_reference(person, rating),
        done=due <= person.as_of,
    )


def _transition(person: YoungPerson) -> _Work:
    opened = person.timeline.latest
    return _Work(
        "T-TRANSITION",
        "Talk about becoming an adult and about adults' services",
        opened,
        person.birthday(person.age + 1),
        service.social_worker(person.serial),
        f"EpisodeOfCare/{person.id}-episode",
    )
