"""Synthetic people and papers for tests of access: small resources, each as one call."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from fhir_server.access.caller import Caller, Grant
from fhir_server.fhir import canonicals
from fhir_server.fhir.dates import interval
from fhir_server.fhir.json import Resource

NOW: Final = interval("2026-11-22T12:00:00Z").low
TWELVE, FOURTEEN, FIFTEEN, SEVENTEEN, NINETEEN = (
    *("2014-05-04", "2012-05-04", "2011-05-04", "2009-05-04", "2007-05-04"),
)
"""Birth dates: how old somebody is at `NOW`."""
TODAY: Final = datetime.now(UTC).date()
"""For tests that go by the server's own clock."""
YOUNG: Final = f"{TODAY.year - 17}-01-01"
"""Birth date of somebody who is 17 by that clock."""
_NEXT_YEAR: Final = f"{TODAY.year + 1}-03-01"
TREAT: Final = "TREAT"
SENDS: Final = (Grant("system", "Encounter", frozenset("cru")),)


def at(text: str) -> int:
    """The first microsecond of a FHIR date."""
    return interval(text).low


def ref(text: str) -> dict[str, Any]:
    return {"reference": text}


def ods(code: str) -> dict[str, Any]:
    """A logical reference to an organisation."""
    return {"identifier": {"system": canonicals.ODS_ORGANIZATION, "value": code}}


def coded(system: str, code: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code}]}


def child(patient_id: str = "1", born: str | None = FIFTEEN, **rest: Any) -> Resource:
    told = {"birthDate": born} if born else {}
    return {"resourceType": "Patient", "id": patient_id, **told, **rest}


def numbered(number: str) -> list[dict[str, Any]]:
    """The identifiers of somebody with that NHS number."""
    return [{"system": canonicals.NHS_NUMBER, "value": number}]


def organisation(org_id: str, code: str, **rest: Any) -> Resource:
    identifier = [{"system": canonicals.ODS_ORGANIZATION, "value": code}]
    return {"resourceType": "Organization", "id": org_id, "identifier": identifier, **rest}


def role(role_id: str, practitioner: str, org: str | None = None, **rest: Any) -> Resource:
    told = {"organization": ref(org)} if org else {}
    return {
        "resourceType": "PractitionerRole",
        "id": role_id,
        "practitioner": ref(practitioner),
        **told,
        **rest,
    }


def episode(manager: str | None, patient: str = "Patient/1", **rest: Any) -> Resource:
    told = {"careManager": ref(manager)} if manager else {}
    return {
        "resourceType": "EpisodeOfCare",
        "id": "e",
        "status": "active",
        "type": [coded(canonicals.EPISODE_TYPE, "keyworking")],
        "patient": ref(patient),
        **told,
        **rest,
    }


def member(who: dict[str, Any] | str, code: str = "camhs", **rest: Any) -> dict[str, Any]:
    named = ref(who) if isinstance(who, str) else who
    return {"member": named, "role": [coded(canonicals.CARE_TEAM_ROLE, code)], **rest}


def team(*members: dict[str, Any], patient: str = "Patient/1", **rest: Any) -> Resource:
    return {
        "resourceType": "CareTeam",
        "id": "t",
        "status": "active",
        "subject": ref(patient),
        "participant": [*members],
        **rest,
    }


def stay(provider: dict[str, Any], patient: str = "Patient/1", **rest: Any) -> Resource:
    return {
        "resourceType": "Encounter",
        "id": "s",
        "status": "in-progress",
        "class": {"system": canonicals.ACT_CODE, "code": "IMP"},
        "subject": ref(patient),
        "serviceProvider": provider,
        "period": {"start": "2026-11-01T10:00:00Z"},
        **rest,
    }


def carer(related_id: str = "mum", *, holds: bool = True, **rest: Any) -> Resource:
    shown = [
        {"url": "held", "valueBoolean": holds},
        {
            "url": "evidence",
            "valueCodeableConcept": coded(canonicals.PARENTAL_RESPONSIBILITY_EVIDENCE, "BRTH"),
        },
    ]
    return {
        "resourceType": "RelatedPerson",
        "id": related_id,
        "patient": ref("Patient/1"),
        "extension": [{"url": canonicals.PARENTAL_RESPONSIBILITY_EXTENSION, "extension": shown}],
        **rest,
    }


def competence(outcome: str, day: str) -> dict[str, Any]:
    return {
        "url": canonicals.COMPETENCE_EXTENSION,
        "extension": [
            {"url": "outcome", "valueCode": outcome},
            {"url": "assessedBy", "valueReference": ref("Practitioner/assessor")},
            {"url": "date", "valueDate": day},
        ],
    }


def actor(who: dict[str, Any] | str) -> dict[str, Any]:
    named = ref(who) if isinstance(who, str) else who
    return {"role": coded(canonicals.PARTICIPATION_TYPE, "IRCP"), "reference": named}


def rule(kind: str = "permit", *actors: dict[str, Any] | str, **rest: Any) -> dict[str, Any]:
    told = {"actor": [actor(one) for one in actors]} if actors else {}
    return {"type": kind, **told, **rest}


def consent(
    category: str = "keyworking",
    basis: str = "gillick-consent",
    performer: str = "Patient/1",
    outcome: tuple[str, str] | None = ("gillick-competent", "2026-03-02"),
    **rest: Any,
) -> Resource:
    system = canonicals.NHS_PROXY_LEGAL_BASIS
    if basis == "gillick-consent":
        system = canonicals.CONSENT_BASIS
    found = {"extension": [competence(*outcome)]} if outcome else {}
    return {
        "resourceType": "Consent",
        "id": "c",
        "status": "active",
        "scope": coded(canonicals.CONSENT_SCOPE, "patient-privacy"),
        "category": [
            coded(canonicals.ACT_CODE, "INFA"),
            coded(canonicals.CONSENT_CATEGORY, category),
        ],
        "patient": ref("Patient/1"),
        "dateTime": "2026-03-02",
        "performer": [ref(performer)],
        "policyRule": coded(system, basis),
        "sourceAttachment": {"title": "Minutes"},
        "provision": rule(period={"start": "2026-03-02", "end": _NEXT_YEAR}),
        **found,
        **rest,
    }


def agreed(category: str = "keyworking", **rest: Any) -> Resource:
    """The patient's own consent, of two days before today."""
    given = (TODAY - timedelta(days=2)).isoformat()
    return consent(category, "consent", outcome=None, **{"dateTime": given, **rest})


def parental(category: str = "keyworking", **rest: Any) -> Resource:
    """A parent's consent for a child found not competent at the time."""
    found = {"outcome": ("not-competent", "2026-03-02"), **rest}
    return consent(category, "parental-responsibility", "RelatedPerson/mum", **found)


def somebody(user: str = "", organisation: str = "", **rest: Any) -> Caller:
    return Caller(f"{user}@{organisation}", user=user, organisation=organisation, **rest)
