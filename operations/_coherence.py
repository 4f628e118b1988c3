"""Whether a message agrees with itself: its dates, its status, whom it is about, who sends it."""

from collections.abc import Iterator
from typing import Final

from fhir_server.errors import FhirError, Issue, Kind
from fhir_server.fhir.dates import interval
from fhir_server.fhir.json import Resource
from fhir_server.fhir.references import parse_relative
from operations._message import Message, Part, Trigger

_SENDERS: Final = ("Organization", "Practitioner", "PractitionerRole")
_ADMITTED: Final = frozenset({"arrived", "triaged", "in-progress", "onleave"})
_OUR_TIME: Final = (interval("1900").low, interval("2199").high)
"""Events lie in it; due dates reckoned from others could leave the calendar."""


def require_coherent(message: Message) -> None:
    """Raise for a message that contradicts itself, or lacks what its effects need.

    Raises:
        FhirError: INVALID or BUSINESS_RULE, with the place of what is wrong.
    """
    _require_sender(message)
    _require_spell(message.encounter)
    _require_one_patient(message)
    _require_period(message)
    _require_status(message, message.encounter.resource.get("status", ""))


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
    identifiers = encounter.resource.get("identifier", ())
    if not any(identifier.get("value") for identifier in identifiers):
        raise FhirError(
            Kind.BUSINESS_RULE,
            Issue(
                "The Encounter has no identifier; the provider's spell id is required",
                f"{encounter.expression}.identifier",
                "required",
            ),
        )


def about(resource: Resource) -> Iterator[str]:
    """References to whom the resource is about."""
    for element in ("subject", "patient", "beneficiary"):
        value = resource.get(element)
        if isinstance(value, dict) and isinstance(value.get("reference"), str):
            yield value["reference"]


def _require_one_patient(message: Message) -> None:
    """Nothing in the message is about somebody else: it would end up in the wrong record."""
    whom = set(about(message.encounter.resource))
    whom |= set(message.patient.names) if message.patient else set()
    known = {name for part in message.parts for name in part.names}
    for part in message.parts:
        for reference in about(part.resource):
            if reference not in whom | known and _may_be_patient(reference):
                raise FhirError.at(
                    Kind.INVALID,
                    part.expression,
                    f"A message is about one Patient; this is about '{reference}'",
                )


def _may_be_patient(reference: str) -> bool:
    local = parse_relative(reference)
    if local is not None:
        return local.type == "Patient"
    return reference.startswith("urn:") or "/Patient/" in reference


def _require_period(message: Message) -> None:
    encounter, place = message.encounter.resource, message.encounter.expression
    period = encounter.get("period", {})
    if "start" in period and "end" in period and message.over <= message.start:
        raise FhirError.at(
            Kind.BUSINESS_RULE,
            f"{place}.period",
            f"The stay ends at {period['end']}, before it starts at {period['start']}",
        )
    first, last = _OUR_TIME
    if not (first <= message.start <= last and first <= message.end <= last):
        raise FhirError.at(
            Kind.BUSINESS_RULE,
            f"{place}.period",
            "The stay lies in 1900 to 2199, and no other time",
        )


def _require_status(message: Message, status: str) -> None:
    allowed = {
        Trigger.ADMIT: (_ADMITTED, "an admission"),
        Trigger.DISCHARGE: (frozenset({"finished"}), "a discharge"),
    }
    statuses, what = allowed.get(message.trigger, (frozenset({status}), ""))
    if status not in statuses:
        raise FhirError.at(
            Kind.BUSINESS_RULE,
            f"{message.encounter.expression}.status",
            f"The Encounter of {what} is {' or '.join(sorted(statuses))}, not '{status}'",
        )
