"""The report that problems are put on, and what a check has to know of the whole."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple, Protocol, cast

from fhir_server.errors import MAX_ISSUES, Issue
from fhir_server.fhirpath.items import Item
from fhir_server.fhirpath.plan import MemberOf, Scope
from fhir_server.terminology.known import SHIPPED
from fhir_server.validation.codes import Called, Codes, codings_of, membership
from fhir_server.validation.places import Place, expression
from fhir_server.validation.resolving import Entries, contained_by_id

Node = Mapping[str, Any]
Json = dict[str, Any]

OF_VALUES: Final = frozenset({"structure", "required", "value", "code-invalid"})
"""Issue types of a value that is wrong by itself."""
OF_OBJECTS: Final = frozenset({"ele-1", "ext-1", "bdl-5"})
"""Rules of R4 that an object has content at all: one that breaks them says nothing."""
CODED: Final = frozenset({"", "code", "system", "coding", "coding.code", "coding.system"})
"""Paths at which whatever can be bound has its codes."""
_INDEX: Final = re.compile(r"\[\d+\]")


class Question(NamedTuple):
    """Whether a value is in a value set, which nothing at hand could tell.

    One of the `codings` (system, code) has to be in it; the system is '' for a `code` alone.
    """

    value_set: str
    codings: tuple[tuple[str, str], ...]
    expression: str
    strength: str
    profile: str | None
    called: tuple[Called, ...] = ()
    """With displays of which nothing at hand could tell that they are wrong."""


Looks = tuple[str, frozenset[str]]


class Note(NamedTuple):
    """What a problem is about, for `echoes.told_once`.

    `looks` are places, each with paths from there (`detail.code`, '' for itself), that the rule
    looks at; `part` is what of the place it is about, where others are told apart from it: a
    slice, a claim.
    """

    looks: "tuple[Looks, ...]" = ()
    part: str = ""


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
        "_contained",
        "_entries",
        "_looked_at",
        "_scope",
        "_scopes",
        "_under",
        "_wrong",
        "bundles",
        "codes",
        "container",
        "extensions",
        "met",
        "notes",
        "place",
        "questions",
        "resource",
        "verdicts",
    )

    def __init__(self, codes: Codes | None = None, extensions: Extensions | None = None) -> None:
        super().__init__()
        self.codes: Codes = codes or SHIPPED
        self.extensions = extensions
        self._entries: dict[int, Entries] = {}
        self._contained: dict[int, dict[str, Node]] = {}
        self.verdicts: dict[tuple[str, int], bool] = {}
        """Whether what is referred to (by the id of the object) fits a profile."""
        self._scopes: dict[int, Scope] = {}
        self._scope: Scope | None = None
        self._wrong: set[tuple[str, str]] = set()
        self._under: set[str] = set()
        self.notes: dict[int, Note] = {}
        """By the index of the problem; most have none."""
        self._looked_at = 0
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
        self._scope = None

    def here(self) -> Met:
        return Met(self.resource, self.place or (None, ""), self.container, self.bundles)

    def scratch(self) -> "Report":
        """An empty report at the same place, for a check whose outcome alone counts."""
        other = Report(self.codes, self.extensions)
        other._contained, other.verdicts = self._contained, self.verdicts
        other.enter(self.here())
        return other

    def resolve(self, reference: object) -> Node | None:
        """Where a reference from the current resource leads; None where that is not here."""
        if not isinstance(reference, str):
            return None
        if reference.startswith("#"):
            # `#` alone leads from a contained resource to its container.
            container = self.container or self.resource
            return self._contained_here().get(reference[1:]) if reference[1:] else container
        source = self.container or self.resource
        found = (each.find(reference, source) for each in reversed(self.bundles))
        return next((each for each in found if each is not None), None)

    @property
    def lacks_ids(self) -> bool:
        """Whether there is a contained resource that nothing can refer to."""
        return "" in self._contained_here()

    def _contained_here(self) -> dict[str, Node]:
        """Made once for a container, however many references lead into it."""
        container = self.container or self.resource
        found = self._contained.get(id(container))
        if found is None:
            found = self._contained[id(container)] = contained_by_id(container)
        return found

    def entries(self, bundle: Node) -> Entries:
        """Made once for a Bundle, however many resources are in it."""
        found = self._entries.get(id(bundle))
        if found is None:
            found = self._entries[id(bundle)] = Entries(bundle)
        return found

    @property
    def scope(self) -> Scope:
        """Of the expressions about the current resource; it remembers what they found."""
        found = self._scope
        if found is None:
            found = self._scope = self._scopes.get(id(self.resource))
        if found is None:
            bundle = self.bundles[-1].bundle if self.bundles else None
            found = self._scope = self._scopes[id(self.resource)] = Scope(
                cast(Json, self.resource),
                cast(Json | None, self.container),
                bundle=cast(Json | None, bundle),
                member_of=_member_of(self.codes),
            )
        return found

    def has_wrong(self, at: Place, paths: Iterable[str]) -> bool:
        """Whether R4 refuses what stands at a path (`detail.code`, '' for all of it) by itself.

        Not whether a profile does: its errors may come to be warnings. The path is one from `at`,
        and stands for every item on its way.
        """
        if not self:
            return False
        self._look()
        where = expression(at)
        return any((where, path) in self._wrong for path in paths)

    def has_wrong_in(self, at: Place) -> bool:
        """Whether R4 refuses anything there or below."""
        self._look()
        return expression(at) in self._under

    def _look(self) -> None:
        # Only the first are told, and a sender can make any number.
        for issue in self[self._looked_at : MAX_ISSUES]:
            if issue.profile is None and issue.expression and is_cause(issue):
                splits = tuple(splits_of(issue.expression))
                self._wrong.update(splits)
                self._under.update(at for at, _ in splits)
        self._looked_at = min(len(self), MAX_ISSUES)

    @property
    def has_errors(self) -> bool:
        return any(issue.severity in ("error", "fatal") for issue in self)


def is_cause(issue: Issue) -> bool:
    """Whether it is an error of a value by itself, for which other rules may wait."""
    is_of_value = issue.code in OF_VALUES or issue.rule in OF_OBJECTS
    return is_of_value and issue.severity == "error"


def splits_of(text: str) -> Iterator[tuple[str, str]]:
    """(`A.b[0]`, `c.d`) of `A.b[0].c[1].d[2]`, and so for each of its steps."""
    steps = text.split(".")
    for count in range(1, len(steps) + 1):
        yield ".".join(steps[:count]), _INDEX.sub("", ".".join(steps[count:]))


def last_name(text: str) -> str:
    """`d` of `A.b[0].c[1].d[2]`"""
    return _INDEX.sub("", text.rpartition(".")[2])


def _member_of(codes: Codes) -> MemberOf:
    """Not of the report itself: in a circle, a large resource would stay in memory for a while."""

    def member_of(item: Item, value_set: str) -> bool | None:
        found = membership(codes, value_set, codings_of(item.value))
        return None if found == "unknown" else found == "yes"

    return member_of


def add(report: Report, place: Place, text: str, code: str) -> None:
    """`code` is an issue type: https://hl7.org/fhir/R4/valueset-issue-type.html"""
    report.append(Issue(text, expression(place), code))
