"""Event messages: what a sender says happened to whom.

Two shapes are read: NHS England's `encounter` event with an HL7 v2 trigger as its reason, and
HL7's Da Vinci notifications. Sources: https://hl7.org/fhir/R4/messaging.html, v2 table 0003
http://terminology.hl7.org/CodeSystem/v2-0003,
http://hl7.org/fhir/us/davinci-alerts.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from fhir_server.errors import FhirError, Issue, Kind
from fhir_server.fhir import canonicals, json
from fhir_server.fhir.dates import interval
from fhir_server.fhir.json import Resource
from fhir_server.fhir.references import localised, parse_local, parse_relative
from fhir_server.operation.records import stable_id
from operations._person import CLOCKS_DIFFER

DAVINCI_EVENT: Final = "http://hl7.org/fhir/us/davinci-alerts/CodeSystem/notification-event"


class Trigger(Enum):
    """What happened, by its HL7 v2 trigger event."""

    ADMIT = "A01"
    TRANSFER = "A02"
    DISCHARGE = "A03"
    VISIT = "A04"
    PREADMIT = "A05"
    UPDATE = "A08"
    CANCEL_ADMIT = "A11"
    CANCEL_TRANSFER = "A12"
    CANCEL_DISCHARGE = "A13"
    LEAVE = "A21"
    RETURN = "A22"


_DAVINCI: Final = {
    "notification-admit": Trigger.ADMIT,
    "notification-transfer": Trigger.TRANSFER,
    "notification-discharge": Trigger.DISCHARGE,
}


@dataclass(frozen=True, slots=True)
class Part:
    """One entry after the header."""

    index: int
    full_url: str
    resource: Resource

    @property
    def expression(self) -> str:
        return f"Bundle.entry[{self.index}].resource"

    @property
    def names(self) -> tuple[str, ...]:
        """What references in the message may call it."""
        resource_id = self.resource.get("id")
        own = f"{self.resource['resourceType']}/{resource_id}" if resource_id else ""
        return tuple(name for name in (self.full_url, own) if name)


@dataclass(frozen=True, slots=True)
class Message:
    """A message that has been read and found coherent in itself."""

    id: str
    """The same for the same message, however often it is sent."""
    digest: str
    """Of the whole content: SHA-256, hexadecimal."""
    name: Resource
    """The identifier under which the sender knows it."""
    trigger: Trigger
    header: Part
    encounter: Part
    patient: Part | None
    """None when the Encounter's subject is a Patient that this server has."""
    parts: Sequence[Part]
    """All entries but the header."""
    timestamp: int
    """When it was sent, in microseconds since the epoch."""

    @property
    def sender(self) -> Resource:
        """A Reference to the organisation that sends, by its endpoint where nothing else leads."""
        header = self.header.resource
        found: Resource = header.get("sender") or header.get("responsible") or {}
        if "reference" in found or found.get("identifier", {}).get("value"):
            return found
        source = header["source"]
        return {
            "identifier": {"system": canonicals.URI_SYSTEM, "value": source["endpoint"]},
            "display": str(found.get("display") or source.get("name", "Unnamed sender")),
        }

    @property
    def start(self) -> int:
        """When the stay began: as the Encounter says, else when the message was sent."""
        return _moment(self.encounter.resource, "start", self.timestamp)

    @property
    def end(self) -> int:
        """When the stay ended; not before its start, where only the day of the end is known."""
        end = _moment(self.encounter.resource, "end", self.timestamp)
        return max(end, self.start) if "start" in self._period else end

    @property
    def over(self) -> int:
        """When the stay had ended at the latest: the end of the day, where that is all we know."""
        text = self._period.get("end")
        return interval(text).high if text else self.timestamp

    def happened(self, known: Resource | None) -> int:
        """When what it tells of did: the end of a stay that is over, else its start.

        What the message leaves out is as it is known here.
        """
        name = "end" if self.encounter.resource.get("status") == "finished" else "start"
        earlier = (known or {}).get("period", {}).get(name)
        if name not in self._period and earlier:
            return interval(earlier).low
        return self.end if name == "end" else self.start

    def said(self, now: int) -> int:
        """When it was sent; one that is dated ahead says it now.

        It would else be the last word for as long, and take back what is yet to be told.
        """
        return self.timestamp if self.timestamp <= now + CLOCKS_DIFFER else now

    @property
    def _period(self) -> Resource:
        found: Resource = self.encounter.resource.get("period", {})
        return found


def read(bundle: Resource, received: int, base: str, sender: str = "") -> Message:
    """The message in a Bundle that R4 allows; one without timestamp was sent when `received`.

    That R4 allows it says that its first entry is a MessageHeader:
    https://hl7.org/fhir/R4/bundle.html#invs, bdl-12.

    What it says of addresses below `base`, this server's own, is read as relative to it. `sender`
    is who sends under a token: what messages are called counts among the sender's own.

    Raises:
        FhirError: INVALID, UNSUPPORTED or BUSINESS_RULE, with the place of what is wrong.
    """
    if bundle.get("type") != "message":
        raise _wrong(
            "Bundle.type", f"The Bundle is a '{bundle.get('type')}'; 'message' is expected"
        )
    digest = hashlib.sha256(json.encode_ordered(bundle)).hexdigest()
    bundle = localised(bundle, base)
    header, *others = parts = list(_parts(bundle, base))
    _require_distinct(parts)
    encounter = _focus(header, others)
    trigger = _trigger(header.resource)
    return Message(
        id=_message_id(bundle, header, sender),
        digest=digest,
        name=_name(bundle, header),
        trigger=trigger,
        header=header,
        encounter=encounter,
        patient=_patient(encounter, others),
        parts=others,
        timestamp=_timestamp(bundle, received),
    )


def unversioned(reference: str) -> str:
    """What a reference leads to, whichever version of it."""
    return reference.partition("/_history/")[0]


def _parts(bundle: Resource, base: str) -> Iterator[Part]:
    for index, entry in enumerate(bundle.get("entry", ())):
        if "resource" not in entry:
            raise _wrong(f"Bundle.entry[{index}]", "Each entry of a message holds a resource")
        url = entry.get("fullUrl", "")
        yield Part(index, str(parse_local(url, base) or url), entry["resource"])


def _require_distinct(parts: Sequence[Part]) -> None:
    """https://hl7.org/fhir/R4/bundle.html, bdl-7: a reference must not mean two entries."""
    seen: set[str] = set()
    for part in parts:
        if part.full_url in seen:
            raise _wrong(
                f"Bundle.entry[{part.index}].fullUrl",
                f"Another entry has the fullUrl '{part.full_url}' already",
            )
        seen |= {part.full_url} - {""}


def _trigger(header: Resource) -> Trigger:
    event = header.get("eventCoding")
    place = "Bundle.entry[0].resource.event"
    if event is None:
        raise _wrong(place, f"Only coded events are known: {_known_events()}")
    system, code = event.get("system"), event.get("code")
    if system == DAVINCI_EVENT and code in _DAVINCI:
        return _DAVINCI[code]
    if (system, code) != (canonicals.NHS_MESSAGE_EVENT, "encounter"):
        raise FhirError(
            Kind.UNSUPPORTED,
            Issue(f"The event {system}|{code} is not known; {_known_events()} are", place),
        )
    return _reason(header)


def _reason(header: Resource) -> Trigger:
    place = "Bundle.entry[0].resource.reason"
    allowed = ", ".join(f"{trigger.value} ({trigger.name.lower()})" for trigger in Trigger)
    codings = header.get("reason", {}).get("coding", ())
    codes = [
        coding["code"]
        for coding in codings
        if coding.get("system") == canonicals.V2_EVENT and coding.get("code")
    ]
    if not codes:
        raise _wrong(
            place, f"An encounter event says why it is sent, as {canonicals.V2_EVENT}: {allowed}"
        )
    if codes[0] not in {trigger.value for trigger in Trigger}:
        raise FhirError(
            Kind.UNSUPPORTED,
            Issue(f"The trigger {codes[0]} is not supported; {allowed} are", place),
        )
    return Trigger(codes[0])


def _known_events() -> str:
    names = ", ".join(f"{DAVINCI_EVENT}|{code}" for code in _DAVINCI)
    return f"{canonicals.NHS_MESSAGE_EVENT}|encounter, {names}"


def _focus(header: Part, others: Sequence[Part]) -> Part:
    """NHS England's event has the Encounter and the Patient in focus, in no fixed order."""
    place = "Bundle.entry[0].resource.focus"
    references = [
        unversioned(focus.get("reference", "")) for focus in header.resource.get("focus", ())
    ]
    named = [part for name in references for part in others if name in part.names]
    for part in named:
        if part.resource["resourceType"] == "Encounter":
            return part
    if named:
        found = named[0].resource["resourceType"]
        raise _wrong(place, f"The focus is a {found}; an Encounter is expected")
    raise _wrong(place, "The focus names no entry of the message; it is the Encounter's fullUrl")


def _patient(encounter: Part, others: Sequence[Part]) -> Part | None:
    place = f"{encounter.expression}.subject"
    patients = [part for part in others if part.resource["resourceType"] == "Patient"]
    if len(patients) > 1:
        raise _wrong("Bundle.entry", "A message is about one Patient; it holds several")
    subject = encounter.resource.get("subject", {}).get("reference")
    if subject is None:
        raise FhirError(
            Kind.INVALID,
            Issue(
                "The Encounter has no subject; whom the event is about is required",
                place,
                "required",
            ),
        )
    for part in patients:
        if unversioned(subject) in part.names:
            return part
    local = parse_relative(subject)
    if local is not None and local.type == "Patient" and not patients:
        return None
    raise FhirError(
        Kind.INVALID,
        Issue(f"The subject '{subject}' is no Patient of this message", place, "required"),
    )


def _message_id(bundle: Resource, header: Part, sender: str) -> str:
    name = _name(bundle, header)
    endpoint = header.resource["source"].get("endpoint")
    if not endpoint:
        raise FhirError(
            Kind.INVALID,
            Issue(
                "The source has no endpoint; it tells one sender's messages from another's",
                f"{header.expression}.source.endpoint",
                "required",
            ),
        )
    known_as = (endpoint, name.get("system", ""), name["value"])
    return stable_id("message", *known_as, *((sender,) if sender else ()))


def _name(bundle: Resource, header: Part) -> Resource:
    """The identifier of the message: of the Bundle, else its id, else that of its header."""
    given = bundle.get("identifier", {})
    if given.get("value"):
        return {name: given[name] for name in ("system", "value") if name in given}
    value = bundle.get("id") or header.resource.get("id") or header.full_url
    if not value:
        raise FhirError(
            Kind.INVALID,
            Issue(
                "The message has no identifier; without one, its copies cannot be told from others",
                "Bundle.identifier",
                "required",
            ),
        )
    return {"system": canonicals.URI_SYSTEM, "value": value}


def _timestamp(bundle: Resource, received: int) -> int:
    return interval(bundle["timestamp"]).low if "timestamp" in bundle else received


def _moment(encounter: Resource, end: str, otherwise: int) -> int:
    text = encounter.get("period", {}).get(end)
    return interval(text).low if text else otherwise


def _wrong(expression: str, text: str) -> FhirError:
    return FhirError.at(Kind.INVALID, expression, text)
