"""Bindings that a profile adds: https://hl7.org/fhir/R4/terminologies.html#strength.

Required: one of the codings has to be in the value set. Extensible: one outside it is a warning
where it is of a code system that the value set draws on; of any other system it is information, as
only people can say whether a code of the value set would have done. What cannot be told at once is
an open question of the report.
"""

from collections.abc import Container, Iterable
from typing import Final

from fhir_server.validation.codes import called_in, codings_of, membership
from fhir_server.validation.places import expression
from fhir_server.validation.primitives import shown
from fhir_server.validation.profiles.items import Item
from fhir_server.validation.profiles.say import Say
from fhir_server.validation.report import CODED, Question, Report

Codings = tuple[tuple[str, str], ...]
"""(system, code); the system is '' of a `code` alone."""
_SHOWN: Final = 10


class BoundRule:
    """Checks one value of a `code`, a Coding, a CodeableConcept, a Quantity or a string."""

    def __init__(self, value_set: str, strength: str, say: Say, types: Iterable[str] = ()) -> None:
        self._types = frozenset(types)
        """A value of any other type is another rule's to refuse; () for whatever type."""
        self._value_set = value_set.partition("|")[0]
        self._strength = strength
        self._say = say

    def __call__(self, item: Item, report: Report) -> None:
        """What cannot be read is in no value set: that is mended first."""
        if self._types and item.type and item.type not in self._types:
            return
        codings = codings_of(item.value)
        if not codings and (item.value is None or self._strength != "required"):
            return
        found = membership(report.codes, self._value_set, codings)
        if found == "yes" or report.has_wrong(item.place, CODED):
            return
        if found == "unknown":
            self._ask(item, codings, report)
        else:
            self._refuse(item, codings, report)

    def _ask(self, item: Item, codings: Codings, report: Report) -> None:
        at, profile = expression(item.place), self._say.profile
        called = [
            one
            for one in called_in(item.value)
            if not report.codes.other_names(one.system, one.code, one.display)
        ]
        report.questions.append(
            Question(self._value_set, codings, at, self._strength, profile, tuple(called))
        )

    def _refuse(self, item: Item, codings: Codings, report: Report) -> None:
        text = wanted(self._strength, self._value_set, codings)
        asked = {system for system, _ in codings}
        drawn_on = {one for one in asked if report.codes.draws_on(self._value_set, one)}
        severity = severity_of(self._strength, codings, drawn_on)
        self._say(report, item.place, text, "code-invalid", "binding", severity)


def wanted(strength: str, value_set: str, codings: Codings) -> str:
    """What is to be said of codes that are not in the value set."""
    wants = "needs a code of" if strength == "required" else "should have a code of"
    return f"{wants} {value_set}, not {listed(codings)}"


def severity_of(strength: str, codings: Codings, systems: Container[str]) -> str:
    """How grave that is; `systems` are those on which the value set draws."""
    if strength == "required":
        return "error"
    return "warning" if any(system in systems for system, _ in codings) else "information"


def listed(codings: Codings) -> str:
    """The first of them, for people."""
    more = f" and {len(codings) - _SHOWN} more" if len(codings) > _SHOWN else ""
    return ", ".join(map(_shown, codings[:_SHOWN])) + more or "one without code and system"


def _shown(coding: tuple[str, str]) -> str:
    system, code = coding
    return f"{shown(code)} ({system[:100]})" if system else shown(code)
