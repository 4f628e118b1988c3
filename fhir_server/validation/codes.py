"""Is a code in a value set? What a check asks, and the answer from R4's own tables.

Source: https://hl7.org/fhir/R4/terminologies.html#binding
"""

from typing import Literal, Protocol

from fhir_server.fhir.definitions import required_codes

Membership = Literal["yes", "no", "unknown"]


class Codes(Protocol):
    """Answers at once, from memory: `unknown` where that would take more."""

    def is_member(self, value_set: str, system: str, code: str) -> Membership:
        """`value_set` is a canonical, `system` '' for a `code` alone, which names none."""
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
