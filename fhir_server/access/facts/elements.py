"""Elements that several resources have, read for the facts."""

from collections.abc import Iterable
from typing import Any, Final

from fhir_server.access.facts.naming import Unreadable, objects
from fhir_server.access.facts.parts import ALWAYS, Span
from fhir_server.fhir.dates import EARLIEST, LATEST, interval
from fhir_server.fhir.json import Resource

_MODIFIERS: Final = frozenset({"implicitRules", "_implicitRules", "modifierExtension"})


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


def is_modified(value: Any) -> bool:
    """Whether something in it may turn round what the rest means: none of that is known here.

    https://hl7.org/fhir/R4/extensibility.html#modifierExtension,
    https://hl7.org/fhir/R4/resource.html#implicitRules
    """
    if isinstance(value, dict):
        return not _MODIFIERS.isdisjoint(value) or _is_any_modified(value.values())
    return isinstance(value, list) and _is_any_modified(value)


def _is_any_modified(values: Iterable[Any]) -> bool:
    return any(is_modified(each) for each in values if type(each) is dict or type(each) is list)
