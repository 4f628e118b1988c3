"""The messages of the story that `make run` and `keyworking demo` tell.

A ward of the synthetic caseload admits a young person who has a plan and goals, and discharges
them again. The messages are in the shape of NHS England's encounter event.
"""

from datetime import datetime, timedelta
from typing import Any, Final

from fhir_server.fhir import canonicals, nhs_number

_SERIAL: Final = 6
_SPELL_SYSTEM: Final = "https://northmoor.example/fhir/Id/spell"
_TRUST: Final = "ZZK03"


def goes_to_hospital() -> str:
    """The id of the Patient who is admitted: in the caseload, active with a plan and goals."""
    return f"kw-synthetic-{_SERIAL:03d}"


def admission(at: datetime) -> dict[str, Any]:
    """An emergency admission at that time, under section 2."""
    encounter = _encounter(at, "in-progress", {"start": at.isoformat()})
    encounter["hospitalization"] = {
        "extension": [
            _coded(canonicals.ADMISSION_METHOD_EXTENSION, canonicals.ADMISSION_METHOD, "25")
        ]
    }
    return _message(at, "A01", "admission", encounter)


def discharge(at: datetime) -> dict[str, Any]:
    """The end of the stay that began at that time: home, one minute later."""
    end = at + timedelta(minutes=1)
    period = {"start": at.isoformat(), "end": end.isoformat()}
    encounter = _encounter(at, "finished", period)
    encounter["extension"].append(
        _coded(canonicals.DISCHARGE_METHOD_EXTENSION, canonicals.DISCHARGE_METHOD, "1")
    )
    encounter["hospitalization"] = {
        "dischargeDisposition": {
            "coding": [{"system": canonicals.DISCHARGE_DESTINATION, "code": "19"}]
        }
    }
    return _message(end, "A03", "discharge", encounter)


def _spell(at: datetime) -> str:
    return f"SPELL-{at:%Y%m%d%H%M%S}"


def _encounter(at: datetime, status: str, period: dict[str, str]) -> dict[str, Any]:
    return {
        "resourceType": "Encounter",
        "extension": [
            {
                "url": canonicals.LEGAL_STATUS_EXTENSION,
                "extension": [
                    _coded("legalStatusContext", canonicals.LEGAL_STATUS_CONTEXT, "admission"),
                    _coded(
                        "legalStatusClassification", canonicals.LEGAL_STATUS_CLASSIFICATION, "02"
                    ),
                ],
            }
        ],
        "identifier": [{"system": _SPELL_SYSTEM, "value": _spell(at)}],
        "status": status,
        "class": {"system": canonicals.ACT_CODE, "code": "IMP"},
        "subject": {"reference": "urn:uuid:5d2f4f0e-3c57-4a63-9e0a-0d0c3f0b6a02"},
        "period": period,
        "serviceProvider": _organisation(_TRUST),
    }


def _message(at: datetime, trigger: str, what: str, encounter: dict[str, Any]) -> dict[str, Any]:
    header = {
        "resourceType": "MessageHeader",
        "eventCoding": {"system": canonicals.NHS_MESSAGE_EVENT, "code": "encounter"},
        "sender": _organisation(_TRUST),
        "source": {"endpoint": "https://northmoor.example/messages"},
        "reason": {"coding": [{"system": canonicals.V2_EVENT, "code": trigger}]},
        "focus": [{"reference": "urn:uuid:5d2f4f0e-3c57-4a63-9e0a-0d0c3f0b6a01"}],
    }
    return {
        "resourceType": "Bundle",
        "identifier": {
            "system": "https://northmoor.example/fhir/Id/message",
            "value": f"{what}-{_spell(at)}",
        },
        "type": "message",
        "timestamp": at.isoformat(),
        "entry": [
            {"fullUrl": "urn:uuid:5d2f4f0e-3c57-4a63-9e0a-0d0c3f0b6a00", "resource": header},
            {"fullUrl": "urn:uuid:5d2f4f0e-3c57-4a63-9e0a-0d0c3f0b6a01", "resource": encounter},
            {"fullUrl": "urn:uuid:5d2f4f0e-3c57-4a63-9e0a-0d0c3f0b6a02", "resource": _patient()},
        ],
    }


def _patient() -> dict[str, Any]:
    number = nhs_number.synthetic(_SERIAL)
    return {
        "resourceType": "Patient",
        "identifier": [{"system": canonicals.NHS_NUMBER, "value": number}],
    }


def _organisation(code: str) -> dict[str, Any]:
    return {"identifier": {"system": canonicals.ODS_ORGANIZATION, "value": code}}


def _coded(url: str, system: str, code: str) -> dict[str, Any]:
    return {
        "url": url,
        "valueCodeableConcept": {"coding": [{"system": system, "code": code}]},
    }
