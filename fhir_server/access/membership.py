"""Whose record a resource is in: what each of R4's types is to the decision table.

A resource is in the record of the patients whom it is *about* (`subject`, `patient`, `beneficiary`,
`for`), never of those whom it only mentions: who wrote, performed, received or is the focus of
something is no reason to see it, nor is a parameter that was added at run time. So this is
narrower than the Patient compartment
(https://hl7.org/fhir/R4/compartmentdefinition-patient.html), and knows more types (Task).
"""

import re
from collections.abc import Mapping, Sequence
from enum import Enum
from functools import cache, lru_cache
from typing import Any, Final, TypedDict

import msgspec

from fhir_server.access.decision import Area
from fhir_server.fhir import json
from fhir_server.fhir.compartments import memberships
from fhir_server.fhir.definitions import resource_types, type_definition
from fhir_server.search.ast import Differs, IdIn, Node, Not, ReferenceTo, conjunction
from fhir_server.search.extract import (
    Extractors,
    extracted,
    extractors,
    indexed_parameters,
    routes_of,
)
from fhir_server.search.rewrite import Targets
from fhir_server.search.values import ReferenceValue
from fhir_server.storage.interface import StoredVersion

PATIENT: Final = "Patient"
_ABOUT: Final = ("patient", "subject")
"""The parameters that say whose it is; the first that a type has and that may name a Patient."""
_NOBODY: Final = "nobody"
_PLAIN: Final = re.compile(rf"{PATIENT}/([A-Za-z0-9.-]{{1,64}})", re.ASCII)


class Standing(Enum):
    """What a type is to the decision table."""

    RECORD = "record"
    """Of patients: decided by whom it is about."""
    SHARED = "shared"
    """About nobody in care: read by every caller with the scope, kept by administrators."""
    AUDIT = "audit"
    """Read by auditors alone."""
    OWN = "own"
    """Of the caller who made it, whose mark the server puts on it, and of nobody else."""
    CLOSED = "closed"
    """Whose it is cannot be told by itself; through the API nobody sees it but test systems."""


_RECORD: Final = frozenset(
    {
        *("Account", "AdverseEvent", "AllergyIntolerance", "Appointment", "AppointmentResponse"),
        *("Basic", "BodyStructure", "CarePlan", "CareTeam", "ChargeItem", "Claim"),
        *("ClaimResponse", "ClinicalImpression", "Communication", "CommunicationRequest"),
        *("Composition", "Condition", "Consent", "Contract", "Coverage"),
        *("CoverageEligibilityRequest", "CoverageEligibilityResponse", "DetectedIssue"),
        *("Device", "DeviceRequest", "DeviceUseStatement", "DiagnosticReport"),
        *("DocumentManifest", "DocumentReference", "Encounter", "EnrollmentRequest"),
        *("EpisodeOfCare", "ExplanationOfBenefit", "FamilyMemberHistory", "Flag", "Goal"),
        *("GuidanceResponse", "ImagingStudy", "Immunization", "ImmunizationEvaluation"),
        *("ImmunizationRecommendation", "Invoice", "List", "MeasureReport", "Media"),
        *("MedicationAdministration", "MedicationDispense", "MedicationRequest"),
        *("MedicationStatement", "MolecularSequence", "NutritionOrder", "Observation"),
        *(PATIENT, "Procedure", "Provenance", "QuestionnaireResponse", "RelatedPerson"),
        *("RequestGroup", "ResearchSubject", "RiskAssessment", "ServiceRequest", "Specimen"),
        *("SupplyDelivery", "Task", "VisionPrescription"),
    }
)
_SHARED: Final = frozenset(
    {
        *("Organization", "OrganizationAffiliation", "Practitioner", "PractitionerRole"),
        *("Location", "HealthcareService", "Endpoint", "InsurancePlan"),
        *("ActivityDefinition", "CapabilityStatement", "CatalogEntry", "ChargeItemDefinition"),
        *("CodeSystem", "CompartmentDefinition", "ConceptMap", "DeviceDefinition"),
        *("EffectEvidenceSynthesis", "EventDefinition", "Evidence", "EvidenceVariable"),
        *("ExampleScenario", "GraphDefinition", "ImplementationGuide", "Library", "Measure"),
        *("Medication", "MedicationKnowledge", "MedicinalProduct"),
        *("MedicinalProductAuthorization", "MedicinalProductContraindication"),
        *("MedicinalProductIndication", "MedicinalProductIngredient"),
        *("MedicinalProductInteraction", "MedicinalProductManufactured"),
        *("MedicinalProductPackaged", "MedicinalProductPharmaceutical"),
        *("MedicinalProductUndesirableEffect", "MessageDefinition", "NamingSystem"),
        *("ObservationDefinition", "OperationDefinition", "PlanDefinition", "Questionnaire"),
        *("ResearchDefinition", "ResearchElementDefinition", "ResearchStudy"),
        *("RiskEvidenceSynthesis", "SearchParameter", "SpecimenDefinition"),
        *("StructureDefinition", "StructureMap", "Substance", "SubstanceNucleicAcid"),
        *("SubstancePolymer", "SubstanceProtein", "SubstanceReferenceInformation"),
        *("SubstanceSourceMaterial", "SubstanceSpecification", "TerminologyCapabilities"),
        *("TestReport", "TestScript", "ValueSet"),
    }
)
_AUDIT: Final = frozenset({"AuditEvent"})
_OWN: Final = frozenset({"Subscription"})
CLOSED: Final = frozenset(
    {
        *("Binary", "BiologicallyDerivedProduct", "Bundle", "DeviceMetric"),
        *("EnrollmentResponse", "Group", "Linkage", "MessageHeader", "OperationOutcome"),
        *("Parameters", "PaymentNotice", "PaymentReconciliation", "Person", "Schedule"),
        *("Slot", "SupplyRequest", "VerificationResult"),
    }
)
"""Listed only so that a test sees that each type of R4 was thought of."""
_AREAS: Final = {
    PATIENT: Area.PERSON,
    "RelatedPerson": Area.PERSON,
    "Flag": Area.FLAG,
    "Consent": Area.RISK,
    "QuestionnaireResponse": Area.RISK,
    "RiskAssessment": Area.RISK,
}


def standing(resource_type: str) -> Standing:
    """What a type is; of one that is not listed, it is closed."""
    if resource_type in _RECORD:
        return Standing.RECORD
    if resource_type in _SHARED:
        return Standing.SHARED
    if resource_type in _OWN:
        return Standing.OWN
    return Standing.AUDIT if resource_type in _AUDIT else Standing.CLOSED


def area(resource_type: str) -> Area:
    """The column of the table in which a type of the record stands."""
    return _AREAS.get(resource_type, Area.PLAN)


@cache
def record_types() -> tuple[str, ...]:
    return tuple(name for name in resource_types() if name in _RECORD)


@cache
def parameter(resource_type: str) -> str:
    """The search parameter that says whom resources of the type are about.

    Raises:
        LookupError: for a type that has none.
    """
    known = indexed_parameters(resource_type)
    for code in _ABOUT:
        found = known.get(code)
        if found is not None and PATIENT in (found.targets or (PATIENT,)):
            return code
    raise LookupError(f"{resource_type} has no parameter that says whom it is about")


@cache
def nobodys(resource_type: str) -> Mapping[str, Any]:
    """A resource in the record of a patient who is not there: to be decided about, never shown."""
    found: dict[str, Any] = {"resourceType": resource_type, "id": _NOBODY}
    if resource_type in _RECORD and resource_type != PATIENT and len(_path(resource_type)) == 2:
        name, whose = _path(resource_type)[1], {"reference": f"{PATIENT}/{_NOBODY}"}
        found[name] = [whose] if _may_repeat(resource_type) else whose
    return found


@cache
def nobodys_version(resource_type: str) -> StoredVersion:
    """The same as it would be stored, of about the size and shape that records have."""
    coding = {"system": "http://snomed.info/sct", "code": "000000000", "display": "nothing at all"}
    text = {"status": "generated", "div": "nothing at all " * 60}
    padding = {"text": text, "code": [{"coding": [coding]}] * 12}
    body = json.encode({**padding, **nobodys(resource_type)})
    return StoredVersion(resource_type, "nobody", 1, 0, "PUT", body)


def patient_of(resource: Mapping[str, Any]) -> str:
    """The id of the one patient in whose record it is; '' where `patients_of` has to look."""
    name = resource["resourceType"]
    return _plainly(name, resource) if name != PATIENT and name in _RECORD else ""


def patients_of(resource: Mapping[str, Any]) -> frozenset[str]:
    """Ids of the patients in whose record it is; none where it is about anything else too."""
    name = resource["resourceType"]
    if name == PATIENT:
        own = resource.get("id")
        return frozenset({own}) if isinstance(own, str) else frozenset()
    if standing(name) is not Standing.RECORD:
        return frozenset()
    one = _plainly(name, resource)
    if one:
        return frozenset({one})
    code = parameter(name)
    targets = [
        value.target
        for index, value in extracted(resource, _reading(name))
        if index == code and isinstance(value, ReferenceValue)
    ]
    ids = [target.removeprefix(f"{PATIENT}/") for target in targets]
    if any(f"{PATIENT}/{one}" != target for one, target in zip(ids, targets, strict=True)):
        return frozenset()
    return frozenset(ids)


def looked_at(resource_type: str, body: bytes) -> Mapping[str, Any]:
    """Of a resource as it is stored, all that says whose it is, and how much of it is seen.

    The rest is not decoded, unless its one patient is not told as nearly all are.
    """
    if standing(resource_type) is not Standing.RECORD:
        return json.decode_own(body)  # type: ignore[no-any-return]
    found: Mapping[str, Any] = _decoder(resource_type).decode(body)
    if resource_type == PATIENT or _plainly(resource_type, found):
        return found
    return json.decode_own(body)  # type: ignore[no-any-return]


@cache
def _decoder(resource_type: str) -> msgspec.json.Decoder[Any]:
    """Of the elements that a decision looks at; it passes over all others."""
    names = {"resourceType", "id", "meta", "status", "category", "code", _element(resource_type)}
    typed: Any = TypedDict  # which is for names that are known beforehand
    return msgspec.json.Decoder(typed("LookedAt", dict.fromkeys(names - {""}, Any), total=False))


def patient_as_stored(resource_type: str, body: bytes) -> str:
    """As `patient_of`, of a resource as it is stored, and of a Patient as well."""
    if resource_type not in _RECORD:
        return ""
    try:
        if resource_type == PATIENT:
            return _itself.decode(body).id
        decoder = _whose(resource_type)
        return "" if decoder is None else _plain_id(decoder.decode(body).whose.reference)
    except msgspec.ValidationError:  # it names somebody in another way, or is not of that sort
        return ""


class _Itself(msgspec.Struct):
    id: str = ""


class _Reference(msgspec.Struct):
    reference: str = ""


_itself: Final = msgspec.json.Decoder(_Itself)


@cache
def _whose(resource_type: str) -> msgspec.json.Decoder[Any] | None:
    """Of the one element that says whose a resource is, as a reference; None where others may."""
    element = _element(resource_type)
    if not element:
        return None
    whose = msgspec.field(name=element, default_factory=_Reference)
    return msgspec.json.Decoder(msgspec.defstruct("Whose", [("whose", _Reference, whose)]))


def _plainly(resource_type: str, resource: Mapping[str, Any]) -> str:
    """The one patient of a reference as nearly all are; '' for any other, which is looked into."""
    whose = resource.get(_element(resource_type))
    told = whose.get("reference") if isinstance(whose, dict) else None
    return _plain_id(told) if isinstance(told, str) else ""


@lru_cache(maxsize=20_000)
def _plain_id(reference: str) -> str:
    plain = _PLAIN.fullmatch(reference)
    return plain[1] if plain else ""


def element_of(resource_type: str) -> str:
    """As `_element`, of any type: '' also for those that are in nobody's record."""
    return _element(resource_type) if resource_type in _RECORD else ""


@cache
def _element(resource_type: str) -> str:
    """The element that alone says whom resources of the type are about; '' where others may."""
    if resource_type == PATIENT:
        return ""
    routes = routes_of(indexed_parameters(resource_type)[parameter(resource_type)], resource_type)
    path = _path(resource_type)
    is_alone = len(routes) == 1 and len(path) == 2 and len(routes[0].steps) == 1
    return path[1] if is_alone and not _may_repeat(resource_type) else ""


@cache
def _reading(resource_type: str) -> Extractors:
    one = indexed_parameters(resource_type)[parameter(resource_type)]
    return extractors([one], resource_type)


def asked_for(resource_type: str, targets: Targets) -> frozenset[str] | None:
    """Ids of the only patients whom what is asked for may be about; None where that is not said.

    Of what may be about several, it has to be known of all who they are.
    """
    if resource_type == PATIENT:
        return targets.get("_id")
    if _may_repeat(resource_type):
        return None
    if not targets:
        return None
    codes = [*_ABOUT, "{Patient}"] if _is_whole_compartment(resource_type) else _ABOUT
    found = [targets[one] for one in codes if one in targets]
    if not found:
        return None
    return frozenset(
        one.removeprefix(f"{PATIENT}/")
        for one in frozenset.intersection(*found)
        if one.startswith(f"{PATIENT}/")
    )


@cache
def _is_whole_compartment(resource_type: str) -> bool:
    """Whether what is in a patient's compartment is about that patient."""
    return dict(memberships(resource_type)).get(PATIENT) == frozenset({parameter(resource_type)})


@lru_cache(maxsize=256)
def references_to(ids: frozenset[str]) -> tuple[str, ...]:
    """The patients as references name them."""
    return tuple(f"{PATIENT}/{one}" for one in sorted(ids))


def about_any(resource_type: str, references: Sequence[str]) -> Node:
    """About one of the patients at least."""
    if resource_type == PATIENT:
        return IdIn(tuple(one.removeprefix(f"{PATIENT}/") for one in references))
    return ReferenceTo(parameter(resource_type), tuple(references))


def about_only(resource_type: str, references: Sequence[str]) -> Node:
    """About one of the patients at least, and about nobody else."""
    some = about_any(resource_type, references)
    if resource_type == PATIENT or not _may_repeat(resource_type):
        return some
    own = ReferenceTo(parameter(resource_type), tuple(references))
    return conjunction(some, Not(Differs(own.code, own)))


@cache
def _may_repeat(resource_type: str) -> bool:
    """Whether one resource may be about several; where that is not plain, it may."""
    path, known = _path(resource_type), type_definition(resource_type).elements
    return len(path) != 2 or path[1] not in known or known[path[1]].repeats


def _path(resource_type: str) -> list[str]:
    expression = indexed_parameters(resource_type)[parameter(resource_type)].expression
    return expression.partition(".where(")[0].split(".")
