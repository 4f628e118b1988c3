"""What a code is called, and whether that is what somebody calls it.

Case and white space do not count, as in HL7's validator: a display is for people.
Source: https://hl7.org/fhir/R4/datatypes.html#Coding (`display` follows the rules of the system).
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from fhir_server.terminology.elements import items, text
from fhir_server.terminology.held import Held

_LISTED: Final = 10


def names_of(system: Held | None, code: str) -> list[str]:
    """The display of the code system first, then its designations; [] where it has none."""
    return called(system.system.concepts.get(code) if system else None)


def called(concept: Mapping[str, Any] | None) -> list[str]:
    """As `names_of`, of a concept as a code system has it or a value set lists it."""
    designations = [text(one, "value") for one in items(concept, "designation")]
    return list(dict.fromkeys(filter(None, [text(concept, "display"), *designations])))


def is_called(display: str, names: Iterable[str]) -> bool:
    return _plain(display) in map(_plain, names)


def misnamed(display: str, code: str, names: Iterable[str]) -> str:
    """What is to be said of a display that is none of the names."""
    allowed = ", ".join(f"'{name}'" for name in [*names][:_LISTED])
    return f"The display '{display}' is not one of '{code}': {allowed}"


def _plain(display: str) -> str:
    return " ".join(display.casefold().split())
