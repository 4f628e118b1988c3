"""Elements that several resources have, read for the facts."""

from typing import Any

from fhir_server.access.facts.naming import Unreadable, objects
from fhir_server.access.facts.parts import ALWAYS, Span
from fhir_server.fhir.dates import EARLIEST, LATEST, interval
from fhir_server.fhir.json import Resource


def span(period: Any) -> Span:
    """The time that a Period covers; its end is as long as its precision says.

    Raises:
        Unreadable: for what is none.
    """
    if period is None:
        return ALWAYS
    if not isinstance(period, dict):
        raise Unreadable("A period is an object")
    if not {"start", "end"} & period.keys() or {"_start", "_end"} & period.keys():
        raise Unreadable("A period without start and end, or with one that cannot be told")
    start, end = period.get("start"), period.get("end")
    try:
        low = EARLIEST if start is None else interval(start).low
        high = LATEST if end is None else interval(end).high
    except (TypeError, ValueError):
        raise Unreadable("A period has dates") from None
    return Span(low, high)


def codes(concept: Any, system: str) -> list[str]:
    """The codes of that system in a CodeableConcept."""
    if not isinstance(concept, dict):
        return []
    return [
        coding["code"]
        for coding in objects(concept.get("coding"))
        if coding.get("system") == system and isinstance(coding.get("code"), str)
    ]


def is_inactive(resource: Resource) -> bool:
    """Whether `active` is anything but true or not said."""
    return resource.get("active", True) is not True
