"""Messages of a stay in hospital, in the shape of NHS England's encounter event."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from fhir_server.fhir import canonicals
from loadtests.people import Person

_HEADER: Final = "urn:uuid:0a4a9a64-7b8c-4b0e-9d52-6f2f35a6c300"
_ENCOUNTER: Final = "urn:uuid:0a4a9a64-7b8c-4b0e-9d52-6f2f35a6c301"
_PATIENT: Final = "urn:uuid:0a4a9a64-7b8c-4b0e-9d52-6f2f35a6c302"


@dataclass(frozen=True, slots=True)
class Spell:
    """One stay of somebody at a trust."""

    person: Person
    number: str
    trust: str
    start: datetime

    def admission(self) -> dict[str, Any]:
        return self._message("A01", self.start, {"status": "in-progress"}, None)

    def transfer(self, at: datetime) -> dict[str, Any]:
        """To another bed of the same unit."""
        return self._message("A02", at, {"status": "in-progress"}, None)

    def discharge(self, at: datetime) -> dict[str, Any]:
        home = {"coding": [{"system": canonicals.DISCHARGE_DESTINATION, "code": "19"}]}
        left = {"status": "finished", "hospitalization": {"dischargeDisposition": home}}
        return self._message("A03", at, left, at)

    def _message(
        self, trigger: str, at: datetime, told: dict[str, Any], end: datetime | None
    ) -> dict[str, Any]:
        period = {"start": self.start.isoformat()} | ({"end": end.isoformat()} if end else {})
        encounter = {
            "resourceType": "Encounter",
            "identifier": [{"system": self.person.spell_system, "value": self.number}],
            "class": {"system": canonicals.ACT_CODE, "code": "IMP"},
            "subject": {"reference": _PATIENT},
            "period": period,
            "serviceProvider": _organisation(self.trust),
            **told,
        }
        identifier = {"system": f"{self.person.spell_system}-message"}
        return {
            "resourceType": "Bundle",
            "identifier": identifier | {"value": f"{self.number}-{trigger}"},
            "type": "message",
            "timestamp": at.isoformat(),
            "entry": [
                {"fullUrl": _HEADER, "resource": self._header(trigger)},
                {"fullUrl": _ENCOUNTER, "resource": encounter},
                {"fullUrl": _PATIENT, "resource": _patient(self.person.nhs_number)},
            ],
        }

    def _header(self, trigger: str) -> dict[str, Any]:
        return {
            "resourceType": "MessageHeader",
            "eventCoding": {"system": canonicals.NHS_MESSAGE_EVENT, "code": "encounter"},
            "sender": _organisation(self.trust),
            "source": {"endpoint": f"{self.person.spell_system}/messages"},
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
