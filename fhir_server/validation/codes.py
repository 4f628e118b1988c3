"""Is a code in a value set? What a check asks.

Source: https://hl7.org/fhir/R4/terminologies.html#binding
"""

from typing import Any, Literal, Protocol

Membership = Literal["yes", "no", "unknown"]


class Codes(Protocol):
    """Answers at once, from memory: `unknown` where that would take more."""

    def is_member(self, value_set: str, system: str, code: str) -> Membership:
        """`value_set` is a canonical, `system` '' for a `code` alone, which names none."""
        ...

    def draws_on(self, value_set: str, system: str) -> bool:
        """Whether the value set has codes of that system, as far as is known."""
        ...


def codings_of(value: Any) -> tuple[tuple[str, str], ...]:
    """(system, code) of whatever can be bound; those without either are left out."""
    if isinstance(value, str):
        return (("", value),)
    if not isinstance(value, dict):
        return ()
    codings = value.get("coding")
    of = codings if isinstance(codings, list) else (value,)
    return tuple(pair for pair in map(_pair, of) if pair is not None)


def _pair(coding: Any) -> tuple[str, str] | None:
    if not isinstance(coding, dict):
        return None
    system, code = coding.get("system"), coding.get("code")
    return (system, code) if isinstance(system, str) and isinstance(code, str) else None


def membership(codes: Codes, value_set: str, codings: tuple[tuple[str, str], ...]) -> Membership:
    """Yes where one is in it, no where none is."""
    if len(codings) == 1:
        return codes.is_member(value_set, *codings[0])
    found = {codes.is_member(value_set, system, code) for system, code in codings}
    return "yes" if "yes" in found else "unknown" if "unknown" in found else "no"
