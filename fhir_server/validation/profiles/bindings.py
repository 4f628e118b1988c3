"""Bindings that a profile adds: https://hl7.org/fhir/R4/terminologies.html#strength.

Required: one of the codings has to be in the value set. Extensible: one outside it is a warning
where it is of a code system that the value set draws on; of any other system it is information, as
only people can say whether a code of the value set would have done. What cannot be told at once is
an open question of the report.
"""

from collections.abc import Iterable

from fhir_server.validation.codes import codings_of, membership
from fhir_server.validation.places import expression
from fhir_server.validation.primitives import shown
from fhir_server.validation.profiles.items import Item
from fhir_server.validation.profiles.say import Say
from fhir_server.validation.report import Question, Report


class BoundRule:
    """Checks one value of a `code`, a Coding, a CodeableConcept, a Quantity or a string."""

    def __init__(self, value_set: str, strength: str, say: Say, types: Iterable[str] = ()) -> None:
        self._types = frozenset(types)
        """A value of any other type is another rule's to refuse; () for whatever type."""
        self._value_set = value_set.partition("|")[0]
        self._strength = strength
        self._say = say

    def __call__(self, item: Item, report: Report) -> None:
        if self._types and item.type and item.type not in self._types:
            return
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
        listed = ", ".join(map(_shown, codings))
        wants = "needs a code of" if self._strength == "required" else "should have a code of"
        text = f"{wants} {self._value_set}, not {listed or 'one without code and system'}"
        severity = self._severity(codings, report)
        self._say(report, item.place, text, "code-invalid", "binding", severity)

    def _severity(self, codings: tuple[tuple[str, str], ...], report: Report) -> str:
        if self._strength == "required":
            return "error"
        systems = {system for system, _ in codings}
        known = any(report.codes.draws_on(self._value_set, system) for system in systems)
        return "warning" if known else "information"


def _shown(coding: tuple[str, str]) -> str:
    system, code = coding
    return f"{shown(code)} ({system[:100]})" if system else shown(code)
