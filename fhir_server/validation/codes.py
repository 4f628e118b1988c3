"""Is a code in a value set? What a check asks, and the answer from R4's own tables.

Source: https://hl7.org/fhir/R4/terminologies.html#binding
"""

from collections.abc import Mapping
from typing import Any, Literal, Protocol

from fhir_server.fhir.definitions import required_codes

Membership = Literal["yes", "no", "unknown"]


class Codes(Protocol):
    """Answers at once, from memory: `unknown` where that would take more."""

    def is_member(self, value_set: str, system: str, code: str) -> Membership:
        """`value_set` is a canonical, `system` '' for a `code` alone, which names none."""
        ...

    def draws_on(self, value_set: str, system: str) -> bool:
        """Whether the value set has codes of that system, as far as is known."""
        ...


class RequiredCodes:
    """The value sets that R4 binds as required."""

    def is_member(self, value_set: str, system: str, code: str) -> Membership:
        systems = required_codes(value_set)
        if systems is None:
            return "unknown"
        if system:
            return "yes" if code in systems.get(system, ()) else "no"
        return "yes" if any(code in codes for codes in systems.values()) else "no"

    def draws_on(self, value_set: str, system: str) -> bool:
        return system in (required_codes(value_set) or ())


def codings_of(value: Any) -> tuple[tuple[str, str], ...]:
    """(system, code) of whatever can be bound; those without either are left out."""
    match value:
        case str():
            return (("", value),)
        case {"coding": [*codings]}:
            return tuple(pair for each in codings for pair in _pair(each))
        case Mapping():
            return tuple(_pair(value))
    return ()


def _pair(coding: Any) -> list[tuple[str, str]]:
    match coding:
        case {"code": str(code), "system": str(system)}:
            return [(system, code)]
    return []


def membership(codes: Codes, value_set: str, codings: tuple[tuple[str, str], ...]) -> Membership:
    """Yes where one is in it, no where none is."""
    found = {codes.is_member(value_set, system, code) for system, code in codings}
    return "yes" if "yes" in found else "unknown" if "unknown" in found else "no"
