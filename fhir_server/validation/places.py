"""Where a problem is, and the report that it is put on.

A place is a linked tuple (parent, step); a step is an element's name or an index. It is written
as FHIRPath only in an issue: https://hl7.org/fhir/R4/operationoutcome.html
(`OperationOutcome.issue.expression`).
"""

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Optional, Protocol

from fhir_server.errors import Issue
from fhir_server.validation.codes import Codes, RequiredCodes
from fhir_server.validation.resolving import Entries, contained_in

Place = tuple[Optional["Place"], str | int]
Node = Mapping[str, Any]


class Question(NamedTuple):
    """Whether a value is in a value set, which nothing at hand could tell.

    One of the `codings` (system, code) has to be in it; the system is '' for a `code` alone.
    """

    value_set: str
    codings: tuple[tuple[str, str], ...]
    expression: str
    strength: str
    profile: str | None


class Met(NamedTuple):
    """A resource that the check came through: the one that came in, contained, or an entry."""

    resource: Node
    place: Place
    container: Node | None
    bundles: "tuple[Entries, ...]"


class Extensions(Protocol):
    """What is known of extensions, by their urls."""

    def check(
        self, extension: Node, place: Place, report: "Report", holder: str, is_modifier: bool
    ) -> None: ...


class Report(list[Issue]):
    """The problems so far, and what a check has to know of the whole.

    `resource` is the one that is being checked, at `place`; `container` what contains it.
    """

    __slots__ = (
        "bundles",
        "codes",
        "container",
        "extensions",
        "met",
        "place",
        "questions",
        "resource",
    )

    def __init__(self, codes: Codes | None = None, extensions: Extensions | None = None) -> None:
        super().__init__()
        self.codes: Codes = codes or RequiredCodes()
        self.extensions = extensions
        self.questions: list[Question] = []
        self.met: list[Met] = []
        self.resource: Node = {}
        self.place: Place | None = None
        self.container: Node | None = None
        self.bundles: tuple[Entries, ...] = ()
        """Those around the resource, the outermost first."""

    def enter(self, met: Met) -> None:
        """What follows is about that resource."""
        self.resource, self.place = met.resource, met.place
        self.container, self.bundles = met.container, met.bundles

    def here(self) -> Met:
        return Met(self.resource, self.place or (None, ""), self.container, self.bundles)

    def scratch(self) -> "Report":
        """An empty report at the same place, for a check whose outcome alone counts."""
        other = Report(self.codes, self.extensions)
        other.enter(self.here())
        return other

    def resolve(self, reference: object) -> Node | None:
        """Where a reference from the current resource leads; None where that is not here."""
        if not isinstance(reference, str):
            return None
        if reference.startswith("#"):
            return contained_in(self.container or self.resource, reference[1:])
        source = self.container or self.resource
        found = (each.find(reference, source) for each in reversed(self.bundles))
        return next((each for each in found if each is not None), None)

    @property
    def has_errors(self) -> bool:
        return any(issue.severity in ("error", "fatal") for issue in self)


_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_MAX_NAME: Final = 64


def expression(place: Place) -> str:
    """`CarePlan.activity[2].detail.status`"""
    steps: list[str] = []
    rest: Place | None = place
    while rest is not None:
        rest, step = rest
        steps.append(f"[{step}]" if isinstance(step, int) else f".{_name(step)}")
    return "".join(reversed(steps)).removeprefix(".")


def _name(key: str) -> str:
    """What is no FHIRPath identifier stands in backticks."""
    if len(key) <= _MAX_NAME and _IDENTIFIER.fullmatch(key):
        return key
    cut = key if len(key) <= _MAX_NAME else key[:_MAX_NAME] + "…"
    return "`" + "".join(c if c.isprintable() and c not in "`\\" else "?" for c in cut) + "`"


def add(report: Report, place: Place, text: str, code: str) -> None:
    """`code` is an issue type: https://hl7.org/fhir/R4/valueset-issue-type.html"""
    report.append(Issue(text, expression(place), code))
