"""How a profile's checker reports: with the profile's canonical and the rule."""

from collections.abc import Callable
from dataclasses import dataclass

from fhir_server.errors import Issue
from fhir_server.validation.places import Place, expression
from fhir_server.validation.profiles.items import Item
from fhir_server.validation.report import Note, Report

Rule = Callable[[Item, Report], None]
"""Checks one value of an element."""


@dataclass(frozen=True, slots=True)
class Say:
    """`profile` is the canonical, None for R4 itself."""

    profile: str | None

    def __call__(
        self,
        report: Report,
        place: Place,
        text: str,
        code: str,
        rule: str,
        severity: str = "error",
        note: Note | None = None,
    ) -> None:
        """`code` is an issue type: https://hl7.org/fhir/R4/valueset-issue-type.html"""
        if note is not None:
            report.notes[len(report)] = note
        report.append(Issue(text, expression(place), code, severity, rule, self.profile))
