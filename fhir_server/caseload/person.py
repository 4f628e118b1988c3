"""The young person, the carer and the diagnoses.

Sources: UK Core Patient and RelatedPerson. A diagnosis is text: no SNOMED CT code for it was
verified, and an unverified one is worse than none.
"""

from collections.abc import Iterator

from fhir.resources.R4B.address import Address
from fhir.resources.R4B.codeableconcept import CodeableConcept
from fhir.resources.R4B.coding import Coding
from fhir.resources.R4B.condition import Condition
from fhir.resources.R4B.contactpoint import ContactPoint
from fhir.resources.R4B.domainresource import DomainResource
from fhir.resources.R4B.extension import Extension
from fhir.resources.R4B.identifier import Identifier
from fhir.resources.R4B.patient import Patient, PatientCommunication
from fhir.resources.R4B.relatedperson import RelatedPerson

from fhir_server.caseload import service
from fhir_server.caseload.consents import register_day
from fhir_server.caseload.elements import (
    TEST_DATA,
    at,
    coded,
    coded_extension,
    reference,
    synthetic_name,
    words,
)
from fhir_server.caseload.people import YoungPerson
from fhir_server.fhir import canonicals, nhs_number


def person_resources(person: YoungPerson) -> Iterator[DomainResource]:
    yield _patient(person)
    yield _carer(person)
    yield from _conditions(person)


def _patient(person: YoungPerson) -> Patient:
    return Patient(
        id=person.id,
        meta=TEST_DATA,
        identifier=[_nhs_number(person)],
        active=True,
        name=[synthetic_name(person.given, person.family)],
        gender=person.gender,
        birthDate=person.birth_date,
        address=[_address(person)],
        communication=[PatientCommunication(language=_english(), preferred=True)],
        generalPractitioner=[reference(service.SURGERY)],
        managingOrganization=reference(service.HOST),
    )


def _nhs_number(person: YoungPerson) -> Identifier:
    return Identifier(
        extension=[
            coded_extension(
                canonicals.NHS_NUMBER_STATUS_EXTENSION, canonicals.NHS_NUMBER_STATUS, "01"
            )
        ],
        system=canonicals.NHS_NUMBER,
        value=nhs_number.synthetic(person.serial),
    )


def _english() -> CodeableConcept:
    return CodeableConcept(coding=[Coding(system=canonicals.BCP_47, code="en", display="English")])


def _address(person: YoungPerson) -> Address:
    """ZZ99 3VZ is the NHS's pseudo postcode for an address in England that is not specified."""
    return Address(
        use="home", line=[person.address], city="Hollin Vale (synthetic)", postalCode="ZZ99 3VZ"
    )


def _carer(person: YoungPerson) -> RelatedPerson:
    carer = person.carer
    return RelatedPerson(
        id=f"{person.id}-carer",
        meta=TEST_DATA,
        extension=[_parental_responsibility(person)],
        active=True,
        patient=reference(person.patient),
        relationship=[coded(canonicals.ROLE_CODE, carer.code, carer.relation.capitalize())],
        name=[synthetic_name(carer.given, person.family)],
        telecom=[_telephone(person)],
        gender=carer.gender,
        address=[_address(person)],
    )


def _telephone(person: YoungPerson) -> ContactPoint:
    """01632 960000 to 960999 are kept by Ofcom for drama and never belong to anyone."""
    return ContactPoint(system="phone", value=f"01632 960{person.serial % 1000:03d}", use="home")


def _parental_responsibility(person: YoungPerson) -> Extension:
    """It ends at eighteen; with a foster carer the local authority holds it."""
    evidence = person.carer.evidence
    held = evidence is not None and person.age < 18
    parts = [Extension(url="held", valueBoolean=held)]
    if held:
        parts.append(
            coded_extension("evidence", canonicals.PARENTAL_RESPONSIBILITY_EVIDENCE, f"{evidence}")
        )
    return Extension(url=canonicals.PARENTAL_RESPONSIBILITY_EXTENSION, extension=parts)


def _conditions(person: YoungPerson) -> Iterator[Condition]:
    for number, need in enumerate(person.story.needs, 1):
        yield Condition(
            id=f"{person.id}-condition-{number}",
            meta=TEST_DATA,
            clinicalStatus=coded(canonicals.CONDITION_CLINICAL, "active"),
            verificationStatus=coded(canonicals.CONDITION_VERIFICATION, "confirmed"),
            category=[coded(canonicals.CONDITION_CATEGORY, "problem-list-item")],
            code=words(need),
            subject=reference(person.patient),
            recordedDate=at(register_day(person), 9),
        )
