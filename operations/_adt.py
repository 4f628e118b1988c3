"""HL7 v2 ADT as the event message that `$process-message` takes.

Which field becomes what: docs/api/hl7v2.md.
"""

import re
from typing import Any, Final
from urllib.parse import quote

from fhir_server.fhir import canonicals
from fhir_server.fhir.json import Resource
from operations._aftercare import LEGAL_STATUSES, unclear_status
from operations._er7 import REQUIRED, Er7, Header, Refused, time_of

_STATUSES: Final = {
    "A01": "in-progress",
    "A02": "in-progress",
    "A03": "finished",
    "A05": "planned",
    "A08": "in-progress",
    "A11": "cancelled",
    "A12": "in-progress",
    "A13": "in-progress",
    "A21": "onleave",
    "A22": "in-progress",
}
_CLASSES: Final = {"I": "IMP", "E": "EMER", "O": "AMB", "P": "PRENC", "R": "IMP", "B": "IMP"}
"""Of table 0004; any other counts as in hospital, as who sends an ADT of a ward means that."""
_GENDERS: Final = {"M": "male", "F": "female", "O": "other", "A": "other", "U": "unknown"}
_NHS: Final = ("NHS", "NHSNBR", "NHSNMBR", "2.16.840.1.113883.2.1.4.1")
_METHODS: Final = frozenset(
    {*("11", "12", "13", "21", "22", "23", "24", "25", "28"), *("2A", "2B", "2C", "2D")}
    | {*("31", "32", "81", "82", "83", "98", "99")}
)
_LEFT: Final = frozenset({"1", "2", "3", "4", "5", "6", "7", "8", "9"})
_HEADER: Final = "urn:uuid:00000000-0000-4000-8000-00000000000a"
_STAY: Final = "urn:uuid:00000000-0000-4000-8000-00000000000b"
_SUBJECT: Final = "urn:uuid:00000000-0000-4000-8000-00000000000c"
_EXTENSION: Final = "Bundle.entry[1].resource.extension"
_PLACE: Final = re.compile(r"([A-Z][A-Z0-9]{2})-(\d+)(?:\.(\d+))?")
PLACES: Final = {
    "Bundle.identifier": "MSH-10",
    "Bundle.entry[0].resource.sender": "MSH-4",
    "Bundle.entry[0]": "MSH-9",
    "Bundle.entry[1].resource.identifier": "PV1-19",
    "Bundle.entry[1].resource.subject": "PID-3",
    "Bundle.entry[1].resource.status": "MSH-9",
    "Bundle.entry[1].resource.period.end": "PV1-45",
    "Bundle.entry[1].resource.period": "PV1-44",
    "Bundle.entry[1].resource.serviceProvider": "MSH-4",
    "Bundle.entry[1].resource.location": "PV1-3",
    "Bundle.entry[1].resource.hospitalization.dischargeDisposition": "PV1-37",
    "Bundle.entry[1].resource.hospitalization": "PV1-4",
    "Bundle.entry[1].resource.reasonCode": "PV2-3",
    "Bundle.entry[1]": "PV1",
    "Bundle.entry[2].resource.identifier": "PID-3",
    "Bundle.entry[2].resource.name": "PID-5",
    "Bundle.entry[2].resource.birthDate": "PID-7",
    "Bundle.entry[2]": "PID",
}
"""Where in the ADT stands what the event message has there; the longest beginning counts."""


def place_of(expression: str | None, legal_status: str = "") -> str:
    """'' where it is told nowhere; `legal_status` is where that of the stay is read."""
    if legal_status and (expression or "").startswith(_EXTENSION):
        return legal_status
    found = [name for name in PLACES if (expression or "").startswith(name)]
    return PLACES[max(found, key=len)] if found else ""


def event_message(adt: Er7, header: Header, sender: str | None, legal_status: str = "") -> Resource:
    """A Bundle of type message. `sender` is the ODS code, where MSH-4 is none.

    `legal_status` is where these senders have that under the Mental Health Act, such as `ZMH-2` or
    `ZMH-2.1`; '' where they do not tell it.

    Raises:
        Refused: it is no ADT that is known, or lacks what every one has.
    """
    return _Mapping(adt, header, sender, legal_status).bundle()


def unclear_legal_status(message: Resource) -> str | None:
    """One in an event message that is no code of the NHS Data Dictionary; see `unclear_status`."""
    stays = (one["resource"] for one in message["entry"] if one["fullUrl"] == _STAY)
    return next(filter(None, map(unclear_status, stays)), None)


def other_event(adt: Er7) -> str:
    """The event in EVN-1, where it is not that of MSH-9, which counts; else ''.

    EVN-1 is there for older receivers alone: https://usnistgov.github.io/v2plusDemo/segment-definition/EVN.html.
    """
    told = adt.text("EVN", 1)
    return "" if told == adt.text("MSH", 9, 2) else told


class _Mapping:
    def __init__(self, adt: Er7, header: Header, sender: str | None, legal_status: str) -> None:
        self._adt = adt
        self._legal_status_place = legal_status
        self._header = header
        self._facility = adt.text("MSH", 4)
        self._sender = sender or self._facility
        self._event = self._known_event()

    def bundle(self) -> Resource:
        entries = [(_HEADER, self._message_header()), (_STAY, self._encounter())]
        entries.append((_SUBJECT, self._patient()))
        return {
            "resourceType": "Bundle",
            "identifier": {
                "system": f"{canonicals.KW}/NamingSystem/hl7v2-message-control-id",
                "value": self._required("MSH", 10, "the message's own number"),
            },
            "type": "message",
            "timestamp": self._sent(),
            "entry": [{"fullUrl": url, "resource": resource} for url, resource in entries],
        }

    def _known_event(self) -> str:
        kind, event = self._adt.text("MSH", 9), self._adt.text("MSH", 9, 2)
        if kind != "ADT":
            text = f"The message is '{kind[:20]}'; ADT is taken"
            raise Refused("MSH-9", "200", text, rejected=True)
        if event not in _STATUSES:
            text = f"The event is '{event[:20]}'; {', '.join(_STATUSES)} are taken"
            raise Refused("MSH-9", "201", text, rejected=True)
        for segment in ("PID", "PV1"):
            if not self._adt.has(segment):
                raise Refused(segment, "100", f"An ADT has a segment {segment}")
        return event

    def _required(self, segment: str, number: int, what: str) -> str:
        found = self._adt.text(segment, number)
        if not found:
            raise Refused(f"{segment}-{number}", REQUIRED, f"{segment}-{number} is {what}")
        return found

    def _time(self, segment: str, number: int) -> str:
        return time_of(self._adt.text(segment, number), f"{segment}-{number}")

    def _sent(self) -> str:
        for segment, number in (("MSH", 7), ("EVN", 2)):
            told = self._time(segment, number)
            if "T" in told:
                return told
        raise Refused("MSH-7", REQUIRED, "MSH-7 is when the message was sent, to the minute")

    def _happened(self) -> str:
        """EVN-6, when the event took place; '' where it is not told."""
        return self._time("EVN", 6)

    def _message_header(self) -> Resource:
        self._required("MSH", 4, "the sending facility")
        application = quote(self._adt.text("MSH", 3), safe="")
        return {
            "resourceType": "MessageHeader",
            "eventCoding": {"system": canonicals.NHS_MESSAGE_EVENT, "code": "encounter"},
            "sender": self._organisation(),
            "source": {"endpoint": f"mllp://{quote(self._facility, safe='')}/{application}"},
            "reason": {"coding": [{"system": canonicals.V2_EVENT, "code": self._event}]},
            "focus": [{"reference": _STAY}],
        }

    def _organisation(self) -> Resource:
        return {"identifier": {"system": canonicals.ODS_ORGANIZATION, "value": self._sender}}

    def _system(self, authority: str, kind: str) -> str:
        owner = quote(authority or self._facility, safe="")
        return f"{canonicals.KW}/NamingSystem/hl7v2/{owner}/{quote(kind, safe='')}"

    # The stay -------------------------------------------------------------------------------

    def _encounter(self) -> Resource:
        visit = self._required("PV1", 19, "the number of the stay")
        status = self._status()
        made: Resource = {
            "resourceType": "Encounter",
            "extension": [*self._discharge_method(status), *self._legal_statuses(status)],
            "identifier": [
                {"system": self._system(self._adt.text("PV1", 19, 4), "VN"), "value": visit}
            ],
            "status": status,
            "statusHistory": self._status_history(status),
            "class": {
                "system": canonicals.ACT_CODE,
                "code": _CLASSES.get(self._adt.text("PV1", 2), "IMP"),
            },
            "subject": {"reference": _SUBJECT},
            "period": self._period(status),
            "reasonCode": _text(self._adt.text("PV2", 3, 2) or self._adt.text("PV2", 3)),
            "hospitalization": self._hospitalization(status),
            "location": self._location(),
            "serviceProvider": self._organisation(),
        }
        return _filled(made)

    def _discharge_method(self, status: str) -> list[Resource]:
        method = self._coded(36, _LEFT, canonicals.DISCHARGE_METHOD)
        if status != "finished" or method is None:
            return []
        return [_extension(canonicals.DISCHARGE_METHOD_EXTENSION, method)]

    def _legal_statuses(self, status: str) -> list[Resource]:
        """Each that is told, at the end of the stay or before it."""
        if not self._legal_status_place:
            return []
        segment, field, component = _PLACE.fullmatch(self._legal_status_place).groups()  # type: ignore[union-attr]
        told = self._adt.every(segment, int(field), int(component or 1))
        context = "discharge" if status == "finished" else "admission"
        return [_legal_status(" ".join(one.split()), context) for one in dict.fromkeys(told)]

    def _status(self) -> str:
        """That of the trigger; an update tells of a stay that is over, or is yet to be."""
        if self._event == "A08":
            if self._adt.text("PV1", 45):
                return "finished"
            return "planned" if self._adt.text("PV1", 2) == "P" else "in-progress"
        return _STATUSES[self._event]

    def _status_history(self, status: str) -> list[Resource]:
        at = self._happened()
        if self._event not in ("A21", "A22") or not at:
            return []
        return [{"status": status, "period": {"start": at}}]

    def _period(self, status: str) -> Resource:
        start = self._time("PV1", 44)
        if self._event == "A01":
            start = start or self._happened() or self._time("EVN", 2) or self._sent()
        end = ""
        if status == "finished":
            end = self._time("PV1", 45) or self._happened() or self._time("EVN", 2) or self._sent()
        return _filled({"start": start, "end": end})

    def _hospitalization(self, status: str) -> Resource:
        method = self._coded(4, _METHODS, canonicals.ADMISSION_METHOD)
        source = self._adt.text("PV1", 14)
        made: Resource = {
            "extension": [_extension(canonicals.ADMISSION_METHOD_EXTENSION, method)]
            if method
            else [],
            "admitSource": _coding(canonicals.SOURCE_OF_ADMISSION, source) if source else {},
        }
        went = self._adt.text("PV1", 37)
        if status == "finished" and went:
            made["dischargeDisposition"] = _coding(canonicals.DISCHARGE_DESTINATION, went)
        return _filled(made)

    def _coded(self, number: int, known: frozenset[str], system: str) -> Resource | None:
        """A code of the NHS; another table's means nothing here."""
        code = self._adt.text("PV1", number)
        return _coding(system, code) if code in known else None

    def _location(self) -> list[Resource]:
        parts = [part for part in self._adt.parts("PV1", 3)[:3] if part]
        if not parts:
            return []
        at = self._happened() if self._event == "A02" else ""
        period = {"period": {"start": at}} if at else {}
        return [{"location": {"display": ", ".join(parts)}, **period}]

    # Whom it is about -----------------------------------------------------------------------

    def _patient(self) -> Resource:
        born = self._time("PID", 7)[:10]
        surgery = self._adt.parts("PD1", 3)
        practice = (surgery[9] if len(surgery) > 9 else "") or (
            surgery[2] if len(surgery) > 2 else ""
        )
        general = {"identifier": {"system": canonicals.ODS_ORGANIZATION, "value": practice}}
        return _filled(
            {
                "resourceType": "Patient",
                "identifier": self._identifiers(),
                "name": [self._name()],
                "gender": _GENDERS.get(self._adt.text("PID", 8), ""),
                "birthDate": born,
                "generalPractitioner": [general] if practice else [],
            }
        )

    def _identifiers(self) -> list[Resource]:
        found = [self._identifier(one) for one in self._adt.repetitions("PID", 3) if one[0]]
        if not found:
            raise Refused("PID-3", REQUIRED, "PID-3 has the NHS number, with type NH")
        return found

    def _identifier(self, parts: list[str]) -> Resource:
        value, _, _, authority, kind, *_ = [*parts, *[""] * 5]
        if kind in ("NH", "NHS") or authority in _NHS:
            number = "".join(letter for letter in value if letter not in " -")
            return {"system": canonicals.NHS_NUMBER, "value": number}
        return {"system": self._system(authority, kind or "PI"), "value": value}

    def _name(self) -> Resource:
        family, given, second, suffix, prefix, *_ = [*self._adt.parts("PID", 5), *[""] * 5]
        return _filled(
            {
                "family": family,
                "given": [one for one in (given, second) if one],
                "prefix": [prefix] if prefix else [],
                "suffix": [suffix] if suffix else [],
            }
        )


def _coding(system: str, code: str) -> Resource:
    return {"coding": [{"system": system, "code": code}]}


def _extension(url: str, concept: Any) -> Resource:
    return {"url": url, "valueCodeableConcept": concept}


def _legal_status(code: str, context: str) -> Resource:
    """What is no code of the NHS Data Dictionary is said to be of no system."""
    known = code in LEGAL_STATUSES
    classified = {"coding": [{"code": code}]}
    if known:
        classified = _coding(canonicals.LEGAL_STATUS_CLASSIFICATION, code)
    return {
        "url": canonicals.LEGAL_STATUS_EXTENSION,
        "extension": [
            _extension("legalStatusContext", _coding(canonicals.LEGAL_STATUS_CONTEXT, context)),
            _extension("legalStatusClassification", classified),
        ],
    }


def _text(text: str) -> list[Resource]:
    return [{"text": text}] if text else []


def _filled(resource: Resource) -> Resource:
    """FHIR has no empty elements."""
    empty: tuple[Any, ...] = ("", [], {}, [{}], None)
    return {name: value for name, value in resource.items() if value not in empty}
