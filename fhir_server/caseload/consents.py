"""Consents: the register and keyworking, each with its own legal basis.

Sources: UK Core Consent; DAPB3051 (a parent's access ends at 16, is reviewed at 13); Gillick
competence under 16; Mental Capacity Act 2005 from 16. R4: https://hl7.org/fhir/R4/consent.html.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

from fhir.resources.R4B.attachment import Attachment
from fhir.resources.R4B.coding import Coding
from fhir.resources.R4B.consent import (
    Consent,
    ConsentProvision,
    ConsentProvisionActor,
    ConsentVerification,
)
from fhir.resources.R4B.extension import Extension
from fhir.resources.R4B.period import Period

from fhir_server.caseload import pathway, service
from fhir_server.caseload.elements import (
    TEST_DATA,
    at,
    coded,
    coded_extension,
    days,
    reference,
    working_day,
)
from fhir_server.caseload.people import YoungPerson
from fhir_server.fhir import canonicals

_RECHECK = timedelta(days=365)


@dataclass(frozen=True, slots=True)
class _Basis:
    """Who decides, by which right, after which assessment."""

    code: str
    performer: str
    competence: str
    ends_at_age: int | None = None


def _basis(person: YoungPerson) -> _Basis:
    """By age at the time of consent, which is the age today (see `people`)."""
    if person.age >= 16:
        if person.serial % 9 == 4:
            return _Basis("best-interest", service.social_worker(person.serial), "lacks-capacity")
        return _Basis("consent", person.patient, "capacity-presumed")
    if person.age < 13:
        return _Basis("parental-responsibility", person.carer_reference, "not-competent", 13)
    if person.serial % 4 == 0 and person.carer.evidence:
        return _Basis("parental-responsibility", person.carer_reference, "not-competent", 16)
    return _Basis("consent", person.patient, "gillick-competent")


def consents(person: YoungPerson) -> Iterator[Consent]:
    yield _register(person)
    if person.slot.state != pathway.REFERRED:
        yield _keyworking(person)
    if person.slot.stayed:
        yield _review(person)


def _register(person: YoungPerson) -> Consent:
    """Given some weeks before the referral: nobody is on the register without it."""
    given = working_day(register_day(person))
    status = "active" if person.slot.on_register else "inactive"
    bodies = [service.ICB, service.HOST, service.COUNCIL, service.CAMHS]
    return _consent(person, "register", status, given, bodies)


def register_day(person: YoungPerson) -> date:
    """The day on which the young person came onto the register."""
    return working_day(person.timeline.referred - timedelta(days=20 + 3 * (person.serial % 5)))


def _review(person: YoungPerson) -> Consent:
    """To a Care, Education and Treatment Review, which a stay in hospital brings."""
    given = person.began(pathway.IN_HOSPITAL) + timedelta(days=2)
    return _consent(person, "cetr", "active", given, [service.ICB, service.COUNCIL])


_KEYWORKING_STATUS = {
    pathway.CONSENT_PENDING: "proposed",
    pathway.CANCELLED: "rejected",
    pathway.CLOSED: "inactive",
}


def _keyworking(person: YoungPerson) -> Consent:
    status = _KEYWORKING_STATUS.get(person.slot.state, "active")
    return _consent(person, "keyworking", status, answered(person), _team_bodies(person))


def answered(person: YoungPerson) -> date:
    """The day of the answer, or of the question where there is no answer yet."""
    for state in (pathway.AWAITING_ALLOCATION, pathway.CANCELLED):
        if person.reached(state):
            return person.began(state)
    return person.began(pathway.CONSENT_PENDING)


def _team_bodies(person: YoungPerson) -> list[str]:
    community = service.CAMHS if person.age < 18 else service.ADULT_TEAM
    bodies = [service.HOST, community, service.COUNCIL, service.SURGERY]
    if not person.keeps_school_out:
        bodies.append(service.school(person.age))
    if person.slot.stayed:
        bodies.append(service.unit(person.serial).trust)
    return bodies


def _consent(
    person: YoungPerson, category: str, status: str, given: date, bodies: list[str]
) -> Consent:
    basis = _basis(person)
    agreed = status in ("active", "inactive")
    return Consent(
        id=f"{person.id}-consent-{category}",
        meta=TEST_DATA,
        extension=[*_status_reason(person, status), *_competence(person, basis, given, status)],
        status=status,
        scope=coded(canonicals.CONSENT_SCOPE, "patient-privacy"),
        category=[
            coded(canonicals.ACT_CODE, "INFA"),
            coded(canonicals.CONSENT_CATEGORY, category),
        ],
        patient=reference(person.patient),
        dateTime=at(given, 16),
        performer=[reference(basis.performer)],
        organization=[reference(service.ICB if category == "register" else service.HOST)],
        sourceAttachment=_decision(basis, given),
        policyRule=coded(canonicals.NHS_PROXY_LEGAL_BASIS, basis.code),
        verification=[_verification(person, basis, given)] if agreed else None,
        provision=_provision(person, days(given, _end(person, basis, given, status)), bodies),
    )


def _decision(basis: _Basis, given: date) -> Attachment | None:
    """Where a best-interest decision is written down (Mental Capacity Act 2005, section 4)."""
    if basis.code != "best-interest":
        return None
    return Attachment(title=f"Best-interest meeting of {given.isoformat()}: minutes")


def _status_reason(person: YoungPerson, status: str) -> Iterator[Extension]:
    """Why a consent is not active, as NHS England's proxy service codes it; OTHER needs words."""
    moved = person.slot.close_reason == "moved-away"
    reasons = {
        "rejected": ("APPLICATION_REJECTED_NO_CONSENT", None),
        "inactive": ("OTHER", "The family has moved away")
        if moved
        else ("ROLE_DEACTIVATED_END_DATE_REACHED", None),
        "proposed": ("OTHER", "Asked, and not answered yet"),
    }
    if status in reasons:
        code, text = reasons[status]
        yield coded_extension(
            canonicals.CONSENT_STATUS_REASON_EXTENSION,
            canonicals.CONSENT_STATUS_REASON,
            code,
            text,
        )


def _competence(
    person: YoungPerson, basis: _Basis, given: date, status: str
) -> Iterator[Extension]:
    if status == "proposed" and basis.code != "best-interest":
        return  # nobody is assessed before they are asked, unless others are to decide
    yield Extension(
        url=canonicals.COMPETENCE_EXTENSION,
        extension=[
            Extension(url="outcome", valueCode=basis.competence),
            Extension(
                url="assessedBy", valueReference=reference(service.social_worker(person.serial))
            ),
            Extension(url="date", valueDate=given),
        ],
    )


def _verification(person: YoungPerson, basis: _Basis, given: date) -> ConsentVerification:
    """Asked with the one who decided, or with the carer where professionals decided."""
    decided = basis.performer
    asked = person.carer_reference if decided.startswith("PractitionerRole") else decided
    return ConsentVerification(
        verified=True, verifiedWith=reference(asked), verificationDate=at(given, 16)
    )


def _provision(person: YoungPerson, period: Period, bodies: list[str]) -> ConsentProvision:
    denied = [service.school(person.age)] if person.keeps_school_out else []
    return ConsentProvision(
        type="permit",
        period=period,
        actor=[_recipient(body) for body in bodies],
        purpose=[Coding(system=canonicals.ACT_REASON, code="TREAT")],
        provision=[ConsentProvision(type="deny", actor=[_recipient(body) for body in denied])]
        if denied
        else None,
    )


def _end(person: YoungPerson, basis: _Basis, given: date, status: str) -> date:
    """The yearly check, or the birthday at which a parent's decision is reviewed, if sooner."""
    if status == "inactive":
        return person.timeline.latest
    recheck = given + _RECHECK
    if basis.ends_at_age is None:
        return recheck
    return min(recheck, person.birthday(basis.ends_at_age) - timedelta(days=1))


def _recipient(body: str) -> ConsentProvisionActor:
    return ConsentProvisionActor(
        role=coded(canonicals.PARTICIPATION_TYPE, "IRCP"), reference=reference(body)
    )
