"""Names that clients are written against: canonical URLs, code systems, extensions.

One module, so that an operation, a profile test and the synthetic caseload cannot spell the
same thing in two ways. Ours stand under `KW`; the codes themselves are in `terminology/*.json`.

Sources: https://hl7.org/fhir/R4/references.html#canonical, UK Core
https://simplifier.net/guide/uk-core-implementation-guide, HL7 terminology
https://terminology.hl7.org.
"""

from collections.abc import Mapping
from typing import Final

KW: Final = "https://keyworking.example/fhir"


def code_system(name: str) -> str:
    """The address of one of our code systems."""
    return f"{KW}/CodeSystem/{name}"


def structure_definition(name: str) -> str:
    """The address of one of our profiles or extensions."""
    return f"{KW}/StructureDefinition/{name}"


# Code systems of the project
DSR_RATING: Final = code_system("dsr-rating")
FLAG_CATEGORY: Final = code_system("flag-category")
PATHWAY_STATE: Final = code_system("pathway-state")
EPISODE_TYPE: Final = code_system("episode-type")
CONSENT_CATEGORY: Final = code_system("consent-category")
CONSENT_BASIS: Final = code_system("consent-basis")
CARE_PLAN_CATEGORY: Final = code_system("care-plan-category")
DISCHARGE_ITEM: Final = code_system("discharge-item")
TIMER: Final = code_system("timer")
RATING_RULE: Final = code_system("rating-rule")
CARE_TEAM_ROLE: Final = code_system("care-team-role")
RATING_END_REASON: Final = code_system("rating-end-reason")
EPISODE_CLOSE_REASON: Final = code_system("episode-close-reason")
TASK: Final = code_system("task")
BUSINESS_STATUS: Final = code_system("business-status")
COMPETENCE_OUTCOME: Final = code_system("competence-outcome")
DELAY_REASON: Final = code_system("delay-reason")
ADMISSION_PLANNING: Final = code_system("admission-planning")
DISCHARGE_MEANING: Final = code_system("discharge-meaning")
PARENTAL_RESPONSIBILITY_EVIDENCE: Final = code_system("parental-responsibility-evidence")
STAY_TYPE: Final = code_system("stay-type")
OVERSIGHT_MEASURE: Final = code_system("oversight-measure")
OVERSIGHT_STRATIFIER: Final = code_system("oversight-stratifier")

# Codes that rules and queries name
DSR_ADMISSION_RISK: Final = "dsr-admission-risk"
RED: Final = "red"
AMBER: Final = "amber"
GREEN: Final = "green"
BLUE: Final = "blue"

# Extensions of the project
PATHWAY_STATE_EXTENSION: Final = structure_definition("pathway-state")
STATUS_REASON_EXTENSION: Final = structure_definition("status-reason")
CLOSE_REASON_EXTENSION: Final = structure_definition("close-reason")
MINIMUM_UNTIL_EXTENSION: Final = structure_definition("minimum-until")
RATING_END_REASON_EXTENSION: Final = structure_definition("rating-end-reason")
ADMISSION_AVOIDED_EXTENSION: Final = structure_definition("admission-avoided")
YOUNG_PERSONS_VOICE_EXTENSION: Final = structure_definition("young-persons-voice")
NEXT_REVIEW_EXTENSION: Final = structure_definition("next-review")
PLANNED_DISCHARGE_EXTENSION: Final = structure_definition("planned-discharge")
CLINICALLY_READY_EXTENSION: Final = structure_definition("clinically-ready")
DELAY_REASON_EXTENSION: Final = structure_definition("delay-reason")
SECTION_117_EXTENSION: Final = structure_definition("section-117")
SECTION_117_DERIVED_EXTENSION: Final = structure_definition("section-117-derived")
COMPETENCE_EXTENSION: Final = structure_definition("competence")
PARENTAL_RESPONSIBILITY_EXTENSION: Final = structure_definition("parental-responsibility")

REGISTER_ENTRY_EXTENSION: Final = structure_definition("register-entry")
"""What the register says of somebody, in the answer of `$register` alone."""

DSR_RISK_QUESTIONNAIRE: Final = f"{KW}/Questionnaire/dsr-risk"
RISK_QUESTIONS: Final[Mapping[str, str]] = {
    "unstable-mental-health": "Is there a mental health condition that is unstable or untreated?",
    "challenging-behaviour": "Is there significant behaviour that challenges?",
    "unstable-environment": "Is home unstable, or do staff teams keep changing?",
    "crisis-last-month": "Was there a crisis at A&E in the last month?",
    "serious-harm": "Is there a serious risk of harm to self or others?",
    "unplanned-admission-12m": "Was there an unplanned admission in the last year?",
    "crisis-team-12m": "Was a crisis team involved in the last year?",
    "options-exhausted": "Have all community options been tried?",
    "admission-48h": "Is an admission likely within 48 hours?",
    "admission-2w": "Is an admission likely within two weeks?",
    "placement-breakdown": "Might the home, placement or support break down?",
    "services-struggling": "Are services struggling, where a review by the team may help?",
    "factors": "What else should we know?",
}
"""linkId and text of `DSR_RISK_QUESTIONNAIRE`: all boolean, the last one free text."""

# HL7 International
ACT_CODE: Final = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
ACT_REASON: Final = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
ROLE_CODE: Final = "http://terminology.hl7.org/CodeSystem/v3-RoleCode"
NULL_FLAVOR: Final = "http://terminology.hl7.org/CodeSystem/v3-NullFlavor"
PARTICIPATION_TYPE: Final = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
DATA_OPERATION: Final = "http://terminology.hl7.org/CodeSystem/v3-DataOperation"
CONSENT_SCOPE: Final = "http://terminology.hl7.org/CodeSystem/consentscope"
CONDITION_CLINICAL: Final = "http://terminology.hl7.org/CodeSystem/condition-clinical"
CONDITION_VERIFICATION: Final = "http://terminology.hl7.org/CodeSystem/condition-ver-status"
CONDITION_CATEGORY: Final = "http://terminology.hl7.org/CodeSystem/condition-category"
GOAL_ACHIEVEMENT: Final = "http://terminology.hl7.org/CodeSystem/goal-achievement"
GOAL_CATEGORY: Final = "http://terminology.hl7.org/CodeSystem/goal-category"
HL7_FLAG_CATEGORY: Final = "http://terminology.hl7.org/CodeSystem/flag-category"
ORGANIZATION_TYPE: Final = "http://terminology.hl7.org/CodeSystem/organization-type"
LOCATION_PHYSICAL_TYPE: Final = "http://terminology.hl7.org/CodeSystem/location-physical-type"
PROVENANCE_PARTICIPANT: Final = "http://terminology.hl7.org/CodeSystem/provenance-participant-type"
V2_EVENT: Final = "http://terminology.hl7.org/CodeSystem/v2-0003"
GOAL_ACCEPTANCE_EXTENSION: Final = "http://hl7.org/fhir/StructureDefinition/goal-acceptance"
FLAG_DETAIL_EXTENSION: Final = "http://hl7.org/fhir/StructureDefinition/flag-detail"
SNOMED_CT: Final = "http://snomed.info/sct"
BCP_47: Final = "urn:ietf:bcp:47"
UUID_SYSTEM: Final = "https://tools.ietf.org/html/rfc4122"
URI_SYSTEM: Final = "urn:ietf:rfc:3986"

BACKPORT: Final = "http://hl7.org/fhir/uv/subscriptions-backport"
"""Topics of R5 for R4: https://hl7.org/fhir/uv/subscriptions-backport/."""

# NHS England
NHS_NUMBER: Final = "https://fhir.nhs.uk/Id/nhs-number"
ODS_ORGANIZATION: Final = "https://fhir.nhs.uk/Id/ods-organization-code"
ODS_SITE: Final = "https://fhir.nhs.uk/Id/ods-site-code"
NHS_MESSAGE_EVENT: Final = "https://fhir.nhs.uk/CodeSystem/message-event"
NHS_PROXY_LEGAL_BASIS: Final = "https://fhir.nhs.uk/England/CodeSystem/England-NHSProxyLegalBasis"
CONSENT_STATUS_REASON: Final = "https://fhir.nhs.uk/England/CodeSystem/England-ConsentStatusReason"
CONSENT_STATUS_REASON_EXTENSION: Final = (
    "https://fhir.nhs.uk/England/StructureDefinition/Extension-England-Consent-Status-Reason"
)
FLAG_NOTES_EXTENSION: Final = "https://fhir.nhs.uk/England/StructureDefinition/Extension-FlagNotes"
PATIENT_FLAG_CATEGORY: Final = "https://fhir.nhs.uk/England/CodeSystem/England-FlagCategoryPatient"

# UK Core
_UK: Final = "https://fhir.hl7.org.uk"
LEGAL_STATUS_EXTENSION: Final = f"{_UK}/StructureDefinition/Extension-UKCore-LegalStatus"
ADMISSION_METHOD_EXTENSION: Final = f"{_UK}/StructureDefinition/Extension-UKCore-AdmissionMethod"
DISCHARGE_METHOD_EXTENSION: Final = f"{_UK}/StructureDefinition/Extension-UKCore-DischargeMethod"
NHS_NUMBER_STATUS_EXTENSION: Final = (
    f"{_UK}/StructureDefinition/Extension-UKCore-NHSNumberVerificationStatus"
)
LEGAL_STATUS_CONTEXT: Final = f"{_UK}/CodeSystem/UKCore-LegalStatusContext"
LEGAL_STATUS_CLASSIFICATION: Final = f"{_UK}/CodeSystem/UKCore-LegalStatusClassificationEngland"
ADMISSION_METHOD: Final = f"{_UK}/CodeSystem/UKCore-AdmissionMethodEngland"
DISCHARGE_METHOD: Final = f"{_UK}/CodeSystem/UKCore-DischargeMethodEngland"
SOURCE_OF_ADMISSION: Final = f"{_UK}/CodeSystem/UKCore-SourceOfAdmissionEngland"
DISCHARGE_DESTINATION: Final = f"{_UK}/CodeSystem/UKCore-DischargeDestinationEngland"
NHS_NUMBER_STATUS: Final = f"{_UK}/CodeSystem/UKCore-NHSNumberVerificationStatusEngland"
ADDITIONAL_PERSON_RELATIONSHIP: Final = f"{_UK}/CodeSystem/UKCore-AdditionalPersonRelationshipRole"
