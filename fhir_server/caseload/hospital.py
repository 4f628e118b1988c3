"""A stay in a mental health hospital and the discharge plan that begins with it.

Sources: UK Core Encounter; statutory discharge guidance of January 2024 (planning starts on
admission); the fourteen items are the project's own, see `terminology/SOURCES.md`.
"""

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Final

from fhir.resources.R4B.careplan import CarePlan, CarePlanActivity, CarePlanActivityDetail
from fhir.resources.R4B.codeableconcept import CodeableConcept
from fhir.resources.R4B.coding import Coding
from fhir.resources.R4B.domainresource import DomainResource
from fhir.resources.R4B.encounter import (
    Encounter,
    EncounterHospitalization,
    EncounterLocation,
    EncounterParticipant,
)
from fhir.resources.R4B.extension import Extension
from fhir.resources.R4B.identifier import Identifier
from fhir.resources.R4B.period import Period

from fhir_server.caseload import pathway, service
from fhir_server.caseload.elements import (
    TEST_DATA,
    at,
    coded,
    coded_extension,
    days,
    reference,
    renamed,
    until,
    working_day,
)
from fhir_server.caseload.people import YoungPerson
from fhir_server.caseload.plans import addressed, goals, next_review, voice
from fhir_server.fhir import canonicals
from fhir_server.fhir.discharge import DISCHARGE_ITEMS, DischargeItem

_INFORMAL: Final = "01"
_SECTION_2: Final = "02"
_SECTION_3: Final = "03"
_AFTERCARE: Final = frozenset({_SECTION_3})
"""Of the legal statuses dealt here, those that lead to section 117 aftercare."""
_CRISIS_TEAM: Final = "25"
_PLANNED: Final = "13"
_NO_LOCAL_EDUCATION: Final = "30"


def hospital(person: YoungPerson) -> Iterator[DomainResource]:
    if person.slot.stayed:
        yield _stay(person)
        yield _discharge_plan(person)


def unplanned(person: YoungPerson) -> bool:
    """Through the crisis team, without a review before it, and out of the area."""
    return bool(person.serial % 2)


def _legal_status(person: YoungPerson) -> str:
    return (_INFORMAL, _SECTION_2, _SECTION_3)[person.serial % 3]


def _stay(person: YoungPerson) -> Encounter:
    unit = service.unit(person.serial)
    home = person.slot.home_again
    return Encounter(
        id=f"{person.id}-stay",
        meta=TEST_DATA,
        extension=list(_stay_extensions(person)),
        identifier=[Identifier(system=unit.spell_system, value=f"SPELL-{person.serial:06d}")],
        status="finished" if home else "in-progress",
        **renamed(class_=Coding(system=canonicals.ACT_CODE, code="IMP")),
        type=[coded(canonicals.STAY_TYPE, "out-of-area")] if unplanned(person) else None,
        serviceType=_adolescent_psychiatry(),
        subject=reference(person.patient),
        episodeOfCare=[reference(f"EpisodeOfCare/{person.id}-episode")],
        participant=[
            EncounterParticipant(
                type=[coded(canonicals.PARTICIPATION_TYPE, "ATND")],
                individual=reference(unit.clinician),
            )
        ],
        period=_stay_period(person),
        hospitalization=_hospitalization(person),
        location=[
            EncounterLocation(
                location=reference(unit.ward), status="completed" if home else "active"
            )
        ],
        serviceProvider=reference(unit.trust),
    )


def _adolescent_psychiatry() -> CodeableConcept:
    coding = Coding(
        system=canonicals.SNOMED_CT,
        code="828821000000105",
        display="Adolescent psychiatry service",
    )
    return CodeableConcept(coding=[coding])


def _stay_period(person: YoungPerson) -> Period:
    home = person.timeline.latest
    return Period(
        start=at(person.began(pathway.IN_HOSPITAL), 19, 40),
        end=at(home, 14) if person.slot.home_again else None,
    )


def _stay_extensions(person: YoungPerson) -> Iterator[Extension]:
    yield _legal_status_extension("admission", _legal_status(person))
    if person.slot.home_again:
        yield _legal_status_extension("discharge", _INFORMAL)
        yield coded_extension(
            canonicals.DISCHARGE_METHOD_EXTENSION, canonicals.DISCHARGE_METHOD, "1"
        )


def _legal_status_extension(context: str, classification: str) -> Extension:
    return Extension(
        url=canonicals.LEGAL_STATUS_EXTENSION,
        extension=[
            coded_extension("legalStatusContext", canonicals.LEGAL_STATUS_CONTEXT, context),
            coded_extension(
                "legalStatusClassification",
                canonicals.LEGAL_STATUS_CLASSIFICATION,
                classification,
            ),
        ],
    )


def _hospitalization(person: YoungPerson) -> EncounterHospitalization:
    home = person.slot.home_again
    return EncounterHospitalization(
        extension=[
            coded_extension(
                canonicals.ADMISSION_METHOD_EXTENSION,
                canonicals.ADMISSION_METHOD,
                _CRISIS_TEAM if unplanned(person) else _PLANNED,
            )
        ],
        admitSource=coded(canonicals.SOURCE_OF_ADMISSION, "19"),
        dischargeDisposition=coded(canonicals.DISCHARGE_DESTINATION, "19") if home else None,
    )


def planned_discharge(person: YoungPerson) -> date | None:
    """Set while planning for discharge; before that nobody promises a date."""
    if person.slot.home_again:
        return person.timeline.latest
    if person.slot.state == pathway.DISCHARGE_PLANNING:
        return working_day(person.as_of + timedelta(days=12))
    return None


def _discharge_plan(person: YoungPerson) -> CarePlan:
    admitted = person.began(pathway.IN_HOSPITAL)
    return CarePlan(
        id=f"{person.id}-plan-discharge",
        meta=TEST_DATA,
        extension=[voice(person, admitted + timedelta(days=2)), *_plan_extensions(person)],
        partOf=[reference(f"CarePlan/{person.id}-plan")],
        status=_discharge_plan_status(person),
        intent="plan",
        category=[coded(canonicals.CARE_PLAN_CATEGORY, "discharge-plan")],
        title=f"{person.given}'s plan for going home",
        subject=reference(person.patient),
        encounter=reference(f"Encounter/{person.id}-stay"),
        period=days(admitted, person.timeline.latest if person.slot.home_again else None),
        author=reference(service.unit(person.serial).clinician),
        careTeam=[reference(f"CareTeam/{person.id}-team")],
        addresses=addressed(person),
        goal=goals(person),
        activity=[_activity(person, item) for item in DISCHARGE_ITEMS],
    )


def _discharge_plan_status(person: YoungPerson) -> str:
    if person.slot.home_again:
        return "completed"
    return "active" if person.slot.state == pathway.DISCHARGE_PLANNING else "draft"


def _plan_extensions(person: YoungPerson) -> Iterator[Extension]:
    planned = planned_discharge(person)
    if planned:
        yield Extension(url=canonicals.PLANNED_DISCHARGE_EXTENSION, valueDate=planned)
        yield Extension(url=canonicals.CLINICALLY_READY_EXTENSION, valueDate=_ready(person))
        yield Extension(
            url=canonicals.SECTION_117_EXTENSION,
            valueBoolean=_legal_status(person) in _AFTERCARE,
        )
    if person.slot.state == pathway.DISCHARGE_PLANNING:
        # Ready to leave and still there: a reason is due within a working day.
        yield coded_extension(
            canonicals.DELAY_REASON_EXTENSION, canonicals.DELAY_REASON, _NO_LOCAL_EDUCATION
        )
    if person.slot.in_hospital:
        yield next_review(person.as_of + timedelta(days=7))


def _ready(person: YoungPerson) -> date:
    return working_day(person.began(pathway.DISCHARGE_PLANNING) + timedelta(days=10))


def _activity(person: YoungPerson, item: DischargeItem) -> CarePlanActivity:
    due = _due(person, item)
    return CarePlanActivity(
        detail=CarePlanActivityDetail(
            kind="Task",
            code=coded(canonicals.DISCHARGE_ITEM, item.code, item.text),
            status=_item_status(person, item, due),
            scheduledPeriod=until(due) if due else None,
            scheduledString=None if due else item.when,
            performer=[reference(_owner(person, item))],
        )
    )


def _due(person: YoungPerson, item: DischargeItem) -> date | None:
    if item.days >= 0:
        return person.began(pathway.IN_HOSPITAL) + timedelta(days=item.days)
    planned = planned_discharge(person)
    return planned + timedelta(days=item.days) if planned else None


def _item_status(person: YoungPerson, item: DischargeItem, due: date | None) -> str:
    """What is due is done, but for education, which is what holds the discharge up."""
    if person.slot.home_again:
        return "completed"
    if due is None or due > person.as_of:
        return "not-started"
    return "in-progress" if item.code in _held_up(person) else "completed"


def _held_up(person: YoungPerson) -> tuple[str, ...]:
    planning = person.slot.state == pathway.DISCHARGE_PLANNING
    return ("dp-education",) if planning else ("dp-cetr", "dp-planned-date")


def _owner(person: YoungPerson, item: DischargeItem) -> str:
    owners = {
        "dp-voice": service.keyworker(person.serial),
        "dp-carers": service.keyworker(person.serial),
        "dp-cetr": service.ICB,
        "dp-home": service.social_worker(person.serial),
        "dp-community-team": service.camhs_clinician(person.serial),
        "dp-education": service.COUNCIL,
        "dp-funding": service.ICB,
        "dp-meds-physical": service.GP,
    }
    return owners.get(item.code, service.unit(person.serial).clinician)
