"""Messages as a ward would send them, to be changed by each test."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import uuid4

from fhir_server.fhir import canonicals

JSON = dict[str, Any]

SPELL: Final = "https://ward.example/Id/spell"
MESSAGE: Final = "https://ward.example/Id/message"
DAVINCI: Final = "http://hl7.org/fhir/us/davinci-alerts/CodeSystem/notification-event"
WARD: Final = {"identifier": {"system": canonicals.ODS_ORGANIZATION, "value": "ZZK03"}}
HEADER: Final = "urn:uuid:00000000-0000-4000-8000-00000000000a"
STAY: Final = "urn:uuid:00000000-0000-4000-8000-00000000000b"
SUBJECT: Final = "urn:uuid:00000000-0000-4000-8000-00000000000c"

EMERGENCY: Final = "25"
PLANNED: Final = "11"


@dataclass(frozen=True, slots=True)
class Spell:
    """One stay of one young person; each method is a message about it, with a new identifier."""

    nhs_number: str
    start: datetime
    value: str = field(default_factory=lambda: uuid4().hex)
    birth_date: str | None = None
    legal_status: str | None = "02"
    method: str = EMERGENCY

    def admit(self, **changes: Any) -> JSON:
        """A01. `changes` are elements of the Encounter; None leaves one out."""
        return self._message("A01", "in-progress", {}, changes)

    def update(self, **changes: Any) -> JSON:
        """A08."""
        return self._message("A08", "in-progress", {}, changes)

    def transfer(self, **changes: Any) -> JSON:
        """A02: to another ward."""
        return self._message("A02", "in-progress", {}, changes)

    def preadmit(self, **changes: Any) -> JSON:
        """A05: it is planned."""
        return self.event("A05", "planned", **changes)

    def event(self, trigger: str, status: str, **changes: Any) -> JSON:
        """Any trigger."""
        return self._message(trigger, status, {}, changes)

    def discharge(
        self, end: datetime, *, to: str = "19", method: str = "1", **changes: Any
    ) -> JSON:
        """A03. `to` is a discharge destination, `method` a discharge method."""
        disposition = {"coding": [{"system": canonicals.DISCHARGE_DESTINATION, "code": to}]}
        discharged = {
            "hospitalization": {**self._hospitalization(), "dischargeDisposition": disposition},
            "period": {"start": self.start.isoformat(), "end": end.isoformat()},
            "extension": [
                *self._legal_status(),
                coded(canonicals.DISCHARGE_METHOD_EXTENSION, canonicals.DISCHARGE_METHOD, method),
            ],
        }
        return self._message("A03", "finished", discharged, changes)

    def encounter(self, **changes: Any) -> JSON:
        """The stay as the ward knows it."""
        made = {
            "resourceType": "Encounter",
            "extension": self._legal_status(),
            "identifier": [{"system": SPELL, "value": self.value}],
            "status": "in-progress",
            "class": {"system": canonicals.ACT_CODE, "code": "IMP"},
            "subject": {"reference": SUBJECT},
            "period": {"start": self.start.isoformat()},
            "hospitalization": self._hospitalization(),
            "serviceProvider": WARD,
            **changes,
        }
        return {name: value for name, value in made.items() if value not in (None, [], {})}

    def patient(self) -> JSON:
        made: JSON = {
            "resourceType": "Patient",
            "identifier": [{"system": canonicals.NHS_NUMBER, "value": self.nhs_number}],
        }
        return made | ({"birthDate": self.birth_date} if self.birth_date else {})

    def _message(
        self, trigger: str, status: str, elements: Mapping[str, Any], changes: Mapping[str, Any]
    ) -> JSON:
        encounter = self.encounter(**{"status": status, **elements, **changes})
        return message(trigger, encounter, [(SUBJECT, self.patient())])

    def _hospitalization(self) -> JSON:
        extension = coded(
            canonicals.ADMISSION_METHOD_EXTENSION, canonicals.ADMISSION_METHOD, self.method
        )
        return {"extension": [extension]}

    def _legal_status(self) -> list[JSON]:
        return [detained(self.legal_status)] if self.legal_status else []


def message(trigger: str, encounter: JSON, others: Iterable[tuple[str, JSON]]) -> JSON:
    """In the shape of NHS England's encounter event; `others` are entries: fullUrl, resource."""
    header = {
        "resourceType": "MessageHeader",
        "eventCoding": {"system": canonicals.NHS_MESSAGE_EVENT, "code": "encounter"},
        "sender": WARD,
        "source": {"endpoint": "https://ward.example/messages"},
        "reason": {"coding": [{"system": canonicals.V2_EVENT, "code": trigger}]},
        "focus": [{"reference": STAY}],
    }
    entries = [(HEADER, header), (STAY, encounter), *others]
    return {
        "resourceType": "Bundle",
        "identifier": {"system": MESSAGE, "value": str(uuid4())},
        "type": "message",
        "timestamp": "2026-06-01T09:00:00Z",
        "entry": [{"fullUrl": url, "resource": resource} for url, resource in entries],
    }


def notification(event: str, sent: JSON) -> JSON:
    """The same event in the shape of a Da Vinci notification."""
    header = {name: value for name, value in part(sent, 0).items() if name != "reason"}
    header["eventCoding"] = {"system": DAVINCI, "code": event}
    return with_part(sent, 0, header)


def part(sent: JSON, index: int) -> JSON:
    """The resource in an entry: 0 the header, 1 the stay, 2 the young person."""
    found: JSON = sent["entry"][index]["resource"]
    return found


def with_part(sent: JSON, index: int, resource: JSON) -> JSON:
    """A copy in which the entry holds another resource."""
    entries = [*sent["entry"]]
    entries[index] = {**entries[index], "resource": resource}
    return {**sent, "entry": entries}


def changed(sent: JSON, index: int, **elements: Any) -> JSON:
    """A copy in which the resource has these elements; None takes one away."""
    made = {**part(sent, index), **elements}
    kept = {name: value for name, value in made.items() if value is not None}
    return with_part(sent, index, kept)


def with_entry(sent: JSON, resource: JSON, full_url: str | None = None) -> JSON:
    """A copy with one more entry."""
    entry = {"fullUrl": full_url or f"urn:uuid:{uuid4()}", "resource": resource}
    return {**sent, "entry": [*sent["entry"], entry]}


def renamed(sent: JSON) -> JSON:
    """The same content under a new message identifier."""
    return {**sent, "identifier": {"system": MESSAGE, "value": str(uuid4())}}


def coded(url: str, system: str, code: str) -> JSON:
    return {"url": url, "valueCodeableConcept": {"coding": [{"system": system, "code": code}]}}


def detained(status: str) -> JSON:
    """A legal status, by its code in UK Core."""
    system = canonicals.LEGAL_STATUS_CLASSIFICATION
    return {
        "url": canonicals.LEGAL_STATUS_EXTENSION,
        "extension": [
            coded("legalStatusContext", canonicals.LEGAL_STATUS_CONTEXT, "admission"),
            coded("legalStatusClassification", system, status),
        ],
    }
