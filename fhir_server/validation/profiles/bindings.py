"""Bindings that a profile adds: https://hl7.org/fhir/R4/terminologies.html#strength.

Required: one of the codings has to be in the value set. Extensible: a coding outside it is a
warning. What cannot be told at once is an open question of the report.
"""

from typing import Final

from fhir_server.validation.codes import codings_of, membership
from fhir_server.validation.places import expression
from fhir_server.validation.primitives import shown
from fhir_server.validation.profiles.items import Item
from fhir_server.validation.profiles.say import Say
from fhir_server.validation.report import Question, Report

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
