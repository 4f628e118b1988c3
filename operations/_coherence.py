"""Whether a message agrees with itself: its dates, its status, whom it is about, who sends it."""

from typing import Final

from fhir_server.errors import FhirError, Issue, Kind
from fhir_server.fhir import canonicals
from fhir_server.fhir.dates import interval
from operations._identity import identifiers_of
from operations._message import Message, Part, Trigger
from operations._person import CLOCKS_DIFFER, UNDONE_STAY, local_time, status_of

_SENDERS: Final = ("Organization", "Practitioner", "PractitionerRole")
_ADMITTED: Final = frozenset({"arrived", "triaged", "in-progress", "onleave"})
_STATUSES: Final = {
    Trigger.ADMIT: (_ADMITTED, "an admission"),
    Trigger.DISCHARGE: (frozenset({"finished"}), "a discharge"),
    Trigger.PREADMIT: (frozenset({"planned"}), "a pre-admission"),
    Trigger.CANCEL_ADMIT: (frozenset(UNDONE_STAY), "a cancelled admission"),
    Trigger.CANCEL_TRANSFER: (_ADMITTED, "a cancelled transfer"),
    Trigger.CANCEL_DISCHARGE: (_ADMITTED, "a cancelled discharge"),
    Trigger.LEAVE: (frozenset({"onleave"}), "a leave"),
    Trigger.RETURN: (_ADMITTED - {"onleave"}, "a return from leave"),
}
"""What the trigger says of the stay, and how that is called; any other tells by the status."""
_OUR_TIME: Final = (interval("1900").low, interval("2199").high)
"""Events lie in it; due dates reckoned from others could leave the calendar."""
_ALLOWED: Final = (
    *("AllergyIntolerance", "Condition", "Coverage", "DocumentReference", "Encounter"),
    *("HealthcareService", "Location", "Medication", "MedicationRequest", "MedicationStatement"),
    *("Observation", "Organization", "Patient", "Practitioner", "PractitionerRole", "Procedure"),
    *("QuestionnaireResponse", "RelatedPerson"),
)
"""What admission messages of the NHS and of Da Vinci carry. Never what decides over them, such as
a Consent, or what they bring about, such as a Flag, a CarePlan, a Task or a Provenance."""


def require_coherent(message: Message, now: int) -> None:
    """Raise for a message that contradicts itself, or lacks what its effects need.

    Raises:
        FhirError: INVALID or BUSINESS_RULE, with the place of what is wrong.
    """
    _require_allowed(message)
    _require_sender(message)
    _require_spell(message.encounter)
    if message.patient is not None:
        _require_identified(message.patient)
    _require_period(message)
    _require_past(message, now)
    _require_day(message)
    _require_status(message, status_of(message.encounter.resource))


def _require_allowed(message: Message) -> None:
    """An event tells of a stay: it gives no consent, no rating and no plan."""
    for part in message.parts:
        kind = part.resource["resourceType"]
        if kind not in _ALLOWED:
            raise FhirError.at(
                Kind.BUSINESS_RULE,
                part.expression,
                f"A message about a stay holds no {kind}; beside its MessageHeader, "
                f"{', '.join(_ALLOWED)} are allowed",
            )
        if kind == "Encounter" and part is not message.encounter:
            raise FhirError.at(
                Kind.BUSINESS_RULE,
                part.expression,
                "A message is about one Encounter, its focus; another has a message of its own",
            )
        told = part.resource.get("extension", ())
        if any(one.get("url") == canonicals.PARENTAL_RESPONSIBILITY_EXTENSION for one in told):
            raise FhirError.at(
                Kind.BUSINESS_RULE,
                f"{part.expression}.extension",
                "A message about a stay tells of nobody's parental responsibility",
            )


def _require_sender(message: Message) -> None:
    """Who sends becomes the author of the rating; without this, only that would be refused."""
    for part in message.parts:
        kind = part.resource["resourceType"]
        if message.sender.get("reference") in part.names and kind not in _SENDERS:
            raise FhirError.at(
                Kind.INVALID,
                "Bundle.entry[0].resource.sender",
                f"The sender is a {kind}; {', '.join(_SENDERS)} are allowed",
            )


def _require_spell(encounter: Part) -> None:
    """With its system: two hospitals may count their stays alike."""
    if not identifiers_of(encounter.resource):
        raise FhirError(
            Kind.BUSINESS_RULE,
            Issue(
                "The Encounter has no identifier with system and value; the provider's spell id "
                "is required",
                f"{encounter.expression}.identifier",
                "required",
            ),
        )


def _require_identified(patient: Part) -> None:
    if not identifiers_of(patient.resource):
        raise FhirError(
            Kind.BUSINESS_RULE,
            Issue(
                "The Patient has no identifier with system and value, and cannot be told from "
                "others",
                f"{patient.expression}.identifier",
                "required",
            ),
        )


def _require_period(message: Message) -> None:
    encounter, place = message.encounter.resource, message.encounter.expression
    period = encounter.get("period", {})
    if "start" in period and "end" in period and message.over <= message.start:
        raise FhirError.at(
            Kind.BUSINESS_RULE,
            f"{place}.period.end",
            f"The stay ends at {period['end']}, before it starts at {period['start']}",
        )
    first, last = _OUR_TIME
    if not (first <= message.start <= last and first <= message.end <= last):
        raise FhirError.at(
            Kind.BUSINESS_RULE,
            f"{place}.period",
            "The stay lies in 1900 to 2199, and no other time",
        )


def _require_day(message: Message) -> None:
    """Of what happened: of a stay that is over its end, else its beginning."""
    encounter = message.encounter.resource
    name = "end" if status_of(encounter) == "finished" else "start"
    told = encounter.get("period", {}).get(name)
    if told is not None and len(told) < len("2026-05-01"):
        raise FhirError.at(
            Kind.BUSINESS_RULE,
            f"{message.encounter.expression}.period.{name}",
            f"'{told}' is no day; what is due is reckoned from the day",
        )


def _require_past(message: Message, now: int) -> None:
    """What is to happen yet may not happen: only what has is acted on."""
    encounter, place = message.encounter.resource, message.encounter.expression
    told = status_of(encounter)
    if told == "planned":
        return
    ends = told == "finished"
    for name, at, counts in (("start", message.start, True), ("end", message.end, ends)):
        if counts and at > now + CLOCKS_DIFFER:
            raise FhirError.at(
                Kind.BUSINESS_RULE,
                f"{place}.period.{name}",
                f"The {name} of the stay lies in the future, at "
                f"{encounter.get('period', {}).get(name, local_time(at))}; an event is told once "
                "it has happened",
            )


def _require_status(message: Message, status: str) -> None:
    allowed = _STATUSES.get(message.trigger)
    if allowed is not None and status not in allowed[0]:
        raise FhirError.at(
            Kind.BUSINESS_RULE,
            f"{message.encounter.expression}.status",
            f"The Encounter of {allowed[1]} is {' or '.join(sorted(allowed[0]))}, not '{status}'",
        )
