"""The referral, the episode that carries the pathway state, and the team around the young person.

R4: https://hl7.org/fhir/R4/episodeofcare.html. The flag behind a referral stands in
`supportingInfo`, as R4 allows no Flag in `reasonReference`.
"""

from collections.abc import Iterator
from itertools import groupby

from fhir.resources.R4B.careteam import CareTeam, CareTeamParticipant
from fhir.resources.R4B.domainresource import DomainResource
from fhir.resources.R4B.episodeofcare import (
    EpisodeOfCare,
    EpisodeOfCareDiagnosis,
    EpisodeOfCareStatusHistory,
)
from fhir.resources.R4B.extension import Extension
from fhir.resources.R4B.period import Period
from fhir.resources.R4B.servicerequest import ServiceRequest

from fhir_server.caseload import pathway, service
from fhir_server.caseload.elements import (
    TEST_DATA,
    at,
    coded,
    coded_extension,
    days,
    reference,
    words,
)
from fhir_server.caseload.people import YoungPerson
from fhir_server.caseload.ratings import at_referral
from fhir_server.fhir import canonicals


def involvement(person: YoungPerson) -> Iterator[DomainResource]:
    yield _referral(person)
    if allocated(person):
        yield _team(person)
    yield _episode(person)


def allocated(person: YoungPerson) -> bool:
    return person.reached(pathway.INFORMATION_GATHERING)


def ended(person: YoungPerson) -> bool:
    return person.slot.state in (pathway.CLOSED, pathway.CANCELLED)


def _referral(person: YoungPerson) -> ServiceRequest:
    return ServiceRequest(
        id=f"{person.id}-referral",
        meta=TEST_DATA,
        status=_referral_status(person),
        intent="order",
        code=words("Keyworking"),
        subject=reference(person.patient),
        authoredOn=at(person.timeline.referred, 10, 30),
        requester=reference(service.ICB),
        performerType=coded(canonicals.CARE_TEAM_ROLE, "keyworker"),
        performer=[reference(service.HOST)],
        reasonReference=[reference(f"Condition/{person.id}-condition-1")],
        supportingInfo=[reference(at_referral(person))],
    )


def _referral_status(person: YoungPerson) -> str:
    if person.slot.state == pathway.CANCELLED:
        return "revoked"
    return "completed" if allocated(person) else "active"


def _episode(person: YoungPerson) -> EpisodeOfCare:
    manager = reference(service.keyworker(person.serial)) if allocated(person) else None
    return EpisodeOfCare(
        id=f"{person.id}-episode",
        meta=TEST_DATA,
        extension=list(_episode_extensions(person)),
        status=pathway.EPISODE_STATUS[person.slot.state],
        statusHistory=list(_status_history(person)),
        type=[coded(canonicals.EPISODE_TYPE, "keyworking")],
        diagnosis=[
            EpisodeOfCareDiagnosis(condition=reference(f"Condition/{person.id}-condition-{number}"))
            for number, _ in enumerate(person.story.needs, 1)
        ],
        patient=reference(person.patient),
        managingOrganization=reference(service.HOST),
        period=_episode_period(person),
        referralRequest=[reference(f"ServiceRequest/{person.id}-referral")],
        careManager=manager,
        team=[reference(f"CareTeam/{person.id}-team")] if allocated(person) else None,
    )


def _episode_extensions(person: YoungPerson) -> Iterator[Extension]:
    yield Extension(url=canonicals.PATHWAY_STATE_EXTENSION, valueCode=person.slot.state)
    if person.slot.close_reason:
        yield coded_extension(
            canonicals.CLOSE_REASON_EXTENSION,
            canonicals.EPISODE_CLOSE_REASON,
            person.slot.close_reason,
        )


def _episode_period(person: YoungPerson) -> Period:
    end = person.timeline.latest if ended(person) else None
    return days(person.timeline.referred, end)


def _status_history(person: YoungPerson) -> Iterator[EpisodeOfCareStatusHistory]:
    """Several states share one status; the status of today has no end."""
    runs = [
        (status, next(steps)[1])
        for status, steps in groupby(
            person.timeline.steps, key=lambda step: pathway.EPISODE_STATUS[step[0]]
        )
    ]
    ends = [*(start for _, start in runs[1:]), None]
    for (status, start), end in zip(runs, ends, strict=True):
        yield EpisodeOfCareStatusHistory(status=status, period=days(start, end))


def _team(person: YoungPerson) -> CareTeam:
    return CareTeam(
        id=f"{person.id}-team",
        meta=TEST_DATA,
        status="inactive" if ended(person) else "active",
        name=f"The team around {person.given}",
        subject=reference(person.patient),
        period=_team_period(person),
        participant=list(_participants(person)),
        managingOrganization=[reference(service.HOST)],
    )


def _team_period(person: YoungPerson) -> Period:
    end = person.timeline.latest if ended(person) else None
    return days(person.began(pathway.INFORMATION_GATHERING), end)


def _participants(person: YoungPerson) -> Iterator[CareTeamParticipant]:
    period = _team_period(person)
    for role, member in _members(person):
        yield _participant(role, member, period)
    if person.slot.stayed:
        home = person.timeline.latest if person.slot.home_again else None
        stay = days(person.began(pathway.IN_HOSPITAL), home)
        yield _participant("inpatient-rc", service.unit(person.serial).clinician, stay)


def _participant(role: str, member: str, period: Period) -> CareTeamParticipant:
    return CareTeamParticipant(
        role=[coded(canonicals.CARE_TEAM_ROLE, role)], member=reference(member), period=period
    )


def _members(person: YoungPerson) -> Iterator[tuple[str, str]]:
    """Who is in depends on age, on what the family wants, and on how worried people are."""
    serial = person.serial
    yield "keyworker", service.keyworker(serial)
    yield "parent-carer", person.carer_reference
    if person.age < 18:
        yield "camhs", service.camhs_clinician(serial)
    else:
        yield "lead-professional", service.ADULT_TEAM_LEAD
    yield "social-worker", service.social_worker(serial)
    if not person.keeps_school_out:
        yield "education", service.school_contact(person.age)
    yield "gp", service.GP
    if serial % 3 == 0:
        yield "family-support-worker", service.FAMILY_SUPPORT
    if serial % 4 == 3:
        yield "advocate", service.ADVOCATE
    if person.slot.rating == canonicals.RED:
        yield "strategic-keyworker", service.STRATEGIC_KEYWORKER
