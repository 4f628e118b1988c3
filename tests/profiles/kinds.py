"""Which of the project's profiles a resource of the service is meant to be of."""

from collections.abc import Mapping
from typing import Any, Final

from fhir_server.fhir import canonicals

_OF_TYPE: Final = {
    "Patient": "kw-patient",
    "RelatedPerson": "kw-related-person",
    "EpisodeOfCare": "kw-episode-of-care",
    "Consent": "kw-consent",
    "Goal": "kw-goal",
    "CareTeam": "kw-care-team",
    "Task": "kw-task",
    "ServiceRequest": "kw-referral",
    "QuestionnaireResponse": "kw-questionnaire-response",
    "Provenance": "kw-provenance",
}
_OF_PLAN: Final = {
    "keyworking-plan": "kw-care-plan",
    "discharge-plan": "kw-discharge-plan",
    "step-down-plan": "kw-step-down-plan",
    "transition-plan": "kw-transition-plan",
}


def profile_of(resource: Mapping[str, Any]) -> str | None:
    match resource["resourceType"]:
        case "CarePlan":
            codes = _codes(resource, canonicals.CARE_PLAN_CATEGORY)
            return next((_OF_PLAN[code] for code in codes), None)
        case "Flag":
            return "kw-rating-flag" if _codes(resource, canonicals.FLAG_CATEGORY) else None
        case "Encounter":
            return "kw-inpatient-encounter" if resource["class"]["code"] == "IMP" else None
        case kind:
            return _OF_TYPE.get(kind)


def _codes(resource: Mapping[str, Any], system: str) -> list[str]:
    return [
        coding["code"]
        for concept in resource.get("category", ())
        for coding in concept.get("coding", ())
        if coding.get("system") == system
    ]
