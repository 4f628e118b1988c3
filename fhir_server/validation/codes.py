"""Is a code in a value set? What a check asks.

Source: https://hl7.org/fhir/R4/terminologies.html#binding
"""

from collections.abc import Container
from typing import Any, Literal, NamedTuple, Protocol

Membership = Literal["yes", "no", "unknown"]


class Codes(Protocol):
    """Answers at once, from memory: `unknown` where that would take more."""

    def is_member(self, value_set: str, system: str, code: str) -> Membership:
        """`value_set` is a canonical, `system` '' for a `code` alone, which names none."""
        ...

    def draws_on(self, value_set: str, system: str) -> bool:
        """Whether the value set has codes of that system, as far as is known."""
        ...

    @property
    def well_called(self) -> Container[tuple[object, object, object]]:
        """System, code and display of which nothing is to be said, as far as that was asked."""
        ...

    def other_names(self, system: str, code: str, display: str) -> tuple[str, ...]:
        """What the code is called, where that is known and is not the display."""
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


class Called(NamedTuple):
    """A code with the display that somebody gives it; `path` leads to its Coding."""

    system: str
    code: str
    display: str
    path: str


def called_in(value: Any) -> tuple[Called, ...]:
    """Of whatever can be bound; those without system, code or display are left out."""
    codings = value.get("coding") if isinstance(value, dict) else None
    if isinstance(codings, list):
        found = [_called(each, f".coding[{index}]") for index, each in enumerate(codings)]
    else:
        found = [_called(value, "")]
    return tuple(each for each in found if each is not None)


def _called(coding: Any, path: str) -> Called | None:
    pair, display = _pair(coding), coding.get("display") if isinstance(coding, dict) else None
    return Called(*pair, display, path) if pair and isinstance(display, str) else None


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
