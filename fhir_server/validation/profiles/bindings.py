"""Bindings that a profile adds: https://hl7.org/fhir/R4/terminologies.html#strength.

Required: one of the codings has to be in the value set. Extensible: a coding outside it is a
warning. What cannot be told at once is an open question of the report.
"""

from collections.abc import Mapping
from typing import Any, Final

from fhir_server.validation.codes import Codes, Membership
from fhir_server.validation.places import Question, Report, expression
from fhir_server.validation.primitives import shown
from fhir_server.validation.profiles.items import Item
from fhir_server.validation.profiles.say import Say

_SEVERITY: Final = {"required": "error", "extensible": "warning"}


class BoundRule:
    """Checks one value of a `code`, a Coding, a CodeableConcept, a Quantity or a string."""

    def __init__(self, value_set: str, strength: str, say: Say) -> None:
        self._value_set = value_set.partition("|")[0]
        self._strength = strength
        self._say = say

    def __call__(self, item: Item, report: Report) -> None:
        codings = codings_of(item.value)
        if not codings and (item.value is None or self._strength != "required"):
            return
        found = membership(report.codes, self._value_set, codings)
        if found == "unknown":
            at = expression(item.place)
            question = Question(self._value_set, codings, at, self._strength, self._say.profile)
            report.questions.append(question)
        elif found == "no":
            self._refuse(item, codings, report)

    def _refuse(self, item: Item, codings: tuple[tuple[str, str], ...], report: Report) -> None:
        listed = ", ".join(
            f"'{code}'" + (f" ({system})" if system else "") for system, code in codings
        )
        wants = "needs a code of" if self._strength == "required" else "should have a code of"
        text = f"{wants} {self._value_set}, not {listed or 'one without code and system'}"
        severity = _SEVERITY[self._strength]
        self._say(report, item.place, text, "code-invalid", "binding", severity)


def _shown(coding: tuple[str, str]) -> str:
    system, code = coding
    return f"{shown(code)} ({system[:100]})" if system else shown(code)


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
