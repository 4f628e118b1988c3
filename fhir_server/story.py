"""The messages of the story that `make run` and `keyworking demo` tell.

A ward of the synthetic caseload admits a young person who has a plan and goals, and discharges
them again. The messages are in the shape of NHS England's encounter event.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

from fhir_server.fhir import canonicals, nhs_number

DEFAULT_SERVER: Final = "http://127.0.0.1:8080/fhir"
"""Where `make run` serves, and where `keyworking demo` looks unless it is told otherwise."""

_SERIAL: Final = 6
SPELL_SYSTEM: Final = "https://northmoor.example/fhir/Id/spell"
TRUST: Final = "ZZK03"
_HEADER: Final = "urn:uuid:5d2f4f0e-3c57-4a63-9e0a-0d0c3f0b6a00"
_ENCOUNTER: Final = "urn:uuid:5d2f4f0e-3c57-4a63-9e0a-0d0c3f0b6a01"
_PATIENT: Final = "urn:uuid:5d2f4f0e-3c57-4a63-9e0a-0d0c3f0b6a02"


def goes_to_hospital() -> str:
    """The id of the Patient who is admitted: in the caseload, active with a plan and goals."""
    return f"kw-synthetic-{_SERIAL:03d}"


@dataclass(frozen=True, slots=True)
class Stay:
    """One stay in hospital, as the ward's own system knows it."""

    nhs_number: str
    spell: str
    """The provider's id of the stay; messages about it have ids made from this one."""
    start: datetime
    """With a zone."""

    def admission(self) -> dict[str, Any]:
        """An emergency admission under section 2."""
        encounter = self._encounter("in-progress", {"start": self.start.isoformat()})
        encounter["hospitalization"] = {
            "extension": [
                _coded(canonicals.ADMISSION_METHOD_EXTENSION, canonicals.ADMISSION_METHOD, "25")
            ]
        }
        return self._message(self.start, "A01", "admission", encounter)

    def discharge(self, end: datetime) -> dict[str, Any]:
        """The end of the stay: home."""
        period = {"start": self.start.isoformat(), "end": end.isoformat()}
        encounter = self._encounter("finished", period)
        encounter["extension"].append(
            _coded(canonicals.DISCHARGE_METHOD_EXTENSION, canonicals.DISCHARGE_METHOD, "1")
        )
        encounter["hospitalization"] = {
            "dischargeDisposition": {
                "coding": [{"system": canonicals.DISCHARGE_DESTINATION, "code": "19"}]
            }
        }
        return self._message(end, "A03", "discharge", encounter)

    def _encounter(self, status: str, period: dict[str, str]) -> dict[str, Any]:
        return {
            "resourceType": "Encounter",
            "extension": [_detained_for_assessment()],
            "identifier": [{"system": SPELL_SYSTEM, "value": self.spell}],
            "status": status,
            "class": {"system": canonicals.ACT_CODE, "code": "IMP"},
            "subject": {"reference": _PATIENT},
            "period": period,
            "serviceProvider": _organisation(TRUST),
        }

    def _message(
        self, at: datetime, trigger: str, what: str, encounter: dict[str, Any]
    ) -> dict[str, Any]:
        return {
            "resourceType": "Bundle",
            "identifier": {
                "system": "https://northmoor.example/fhir/Id/message",
                "value": f"{what}-{self.spell}",
            },
            "type": "message",
            "timestamp": at.isoformat(),
            "entry": [
                {"fullUrl": _HEADER, "resource": _header(trigger)},
                {"fullUrl": _ENCOUNTER, "resource": encounter},
                {"fullUrl": _PATIENT, "resource": _patient(self.nhs_number)},
            ],
        }


def is_of_the_story(spell: str) -> bool:
    """Whether the stay is one that `make run`'s lines or the demo began."""
    return re.fullmatch(r"SPELL-\d{14}(-\w+)?", spell) is not None


def stay(number: str, at: datetime) -> Stay:
    """A stay like no other, of the young person with that NHS number, from that time on."""
    return Stay(number, f"SPELL-{at.astimezone(UTC):%Y%m%d%H%M%S}-{uuid4().hex[:8]}", at)


def admission(at: datetime) -> dict[str, Any]:
    """The admission, at that time, of whom the story is about."""
    return stay(nhs_number.synthetic(_SERIAL), at).admission()


def _detained_for_assessment() -> dict[str, Any]:
    """Section 2 of the Mental Health Act."""
    classification = canonicals.LEGAL_STATUS_CLASSIFICATION
    return {
        "url": canonicals.LEGAL_STATUS_EXTENSION,
        "extension": [
            _coded("legalStatusContext", canonicals.LEGAL_STATUS_CONTEXT, "admission"),
            _coded("legalStatusClassification", classification, "02"),
        ],
    }


def _header(trigger: str) -> dict[str, Any]:
    return {
        "resourceType": "MessageHeader",
        "eventCoding": {"system": canonicals.NHS_MESSAGE_EVENT, "code": "encounter"},
        "sender": _organisation(TRUST),
        "source": {"endpoint": "https://northmoor.example/messages"},
        "reason": {"coding": [{"system": canonicals.V2_EVENT, "code": trigger}]},
        "focus": [{"reference": _ENCOUNTER}],
    }


def _patient(number: str) -> dict[str, Any]:
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
