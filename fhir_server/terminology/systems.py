"""Code systems: their concepts, hierarchy and properties, and filters on them.

Sources: https://hl7.org/fhir/R4/codesystem.html#hierarchy, https://hl7.org/fhir/R4/codesystem.html
#properties, filters https://hl7.org/fhir/R4/valueset-filter-operator.html.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from fhir_server.errors import FhirError, Issue, Kind
from fhir_server.fhir.json import Resource
from fhir_server.terminology.elements import items, number, text

Links = Mapping[str, frozenset[str]]
_SUBSUMPTION: Final = ("", "is-a")
_NO_LINKS: Final[frozenset[str]] = frozenset()


@dataclass(frozen=True, slots=True)
class CodeSystem:
    """A code system, with those of its concepts that are known.

    `concepts` are in the order of their definition, without those that stand under them;
    `properties` are a code's values by the property's code. `parents` and `children` are what
    `subsumes` goes by.
    """

    url: str
    version: str
    content: str
    """complete, fragment and so on: whether a code that is not there is none."""
    meaning: str
    """What its hierarchy means."""
    is_case_sensitive: bool
    concepts: Mapping[str, Mapping[str, Any]]
    properties: Mapping[str, Mapping[str, frozenset[str]]]
    parents: Links
    children: Links
    defined: Mapping[str, str]
    """The type of each property that concepts may have."""
    inactive: frozenset[str]
    abstract: frozenset[str]
    """Codes that group others and are not meant to be used."""
    folded: Mapping[str, str]
    """Codes by what they are whatever the case, of a system to which case means nothing."""

    @property
    def codes(self) -> frozenset[str]:
        """All of them.

        Raises:
            FhirError: UNSUPPORTED, where they are not all known.
        """
        self.require_complete()
        return frozenset(self.concepts)

    @property
    def is_complete(self) -> bool:
        return self.content == "complete"

    def require_complete(self) -> None:
        if not self.is_complete:
            raise _unsupported(
                f"The code system {self.url} is known as '{self.content}', not completely"
            )

    def require_code(self, code: str) -> None:
        if code not in self.concepts:
            raise FhirError(
                Kind.INVALID, Issue(f"'{code}' is not a code of {self.url}", code="code-invalid")
            )

    def spelt(self, code: str) -> str | None:
        """The code as it is defined; None for one that is not known."""
        if code in self.concepts:
            return code
        return self.folded.get(code.casefold()) if self.folded else None

    def display(self, code: str) -> str:
        return text(self.concepts.get(code), "display")

    def subsumes(self, above: str, below: str) -> bool:
        """Whether what is true of every `above` is true of `below`, or they are one.

        Raises:
            FhirError: as `related`.
        """
        return above in self.related(below, below=False)

    def related(self, code: str, *, below: bool) -> frozenset[str]:
        """The code, and all that is below it, or above it.

        Raises:
            FhirError: INVALID for a code that the system has not; UNSUPPORTED, where it does not
                hold all its codes, or its hierarchy does not say what is a kind of what.
        """
        self.require_complete()
        if self.meaning not in _SUBSUMPTION:
            raise _unsupported(
                f"The hierarchy of {self.url} means '{self.meaning}'; only is-a says what is above "
                "and below"
            )
        self.require_code(code)
        links = self.children if below else self.parents
        found, waiting = {code}, [code]
        while waiting:
            fresh = links.get(waiting.pop(), _NO_LINKS) - found
            found |= fresh
            waiting += fresh
        return frozenset(found)

    def filtered(self, name: str, operator: str, value: str) -> frozenset[str]:
        """The codes for which a filter on the property `name` holds.

        Raises:
            FhirError: UNSUPPORTED for a filter that is not known; INVALID for a wrong code.
        """
        self._require_filter(name, operator)
        return _SELECTIONS[operator](self, name, self._meant(name, value))

    def passes(self, code: str, name: str, operator: str, value: str) -> bool:
        """Whether the filter holds for the code, without all that it holds for.

        Raises:
            FhirError: as `filtered`.
        """
        self._require_filter(name, operator)
        self.require_complete()
        return _TESTS[operator](self, code, name, self._meant(name, value))

    def _meant(self, name: str, value: str) -> str:
        """The value of a filter, with codes as they are defined where case means nothing."""
        if name not in _ITSELF or not self.folded:
            return value
        return ",".join(self.spelt(code.strip()) or code for code in value.split(","))

    def _require_filter(self, name: str, operator: str) -> None:
        if operator not in _SELECTIONS:
            allowed = ", ".join(_SELECTIONS)
            raise _unsupported(f"The filter '{operator}' on {self.url} is not one of {allowed}")
        if operator in _HIERARCHICAL:
            if name not in _ITSELF:
                raise _unsupported(f"The filter '{operator}' is about 'concept', not '{name}'")
        elif name not in self.defined and name not in _BUILT_IN:
            raise _unsupported(f"A filter is on '{name}', which {self.url} does not define")

    def having(self, name: str, wanted: frozenset[str]) -> frozenset[str]:
        return frozenset(
            code for code in self.codes if not self.values(code, name).isdisjoint(wanted)
        )

    def with_any(self, name: str) -> frozenset[str]:
        return frozenset(code for code in self.codes if self.has(code, name))

    def has(self, code: str, name: str) -> bool:
        """Whether it says so itself: what it is by default does not count."""
        if name == _ACTIVITY:
            return name in self.properties.get(code, {})
        return bool(self.values(code, name))

    def values(self, code: str, name: str) -> frozenset[str]:
        if name in _ITSELF:
            return frozenset({code})
        if name == "display":
            return frozenset(filter(None, (self.display(code),)))
        if name == _ACTIVITY:
            return frozenset({"true" if code in self.inactive else "false"})
        return self.properties.get(code, {}).get(name, _NO_LINKS)


Selection = Callable[[CodeSystem, str, str], frozenset[str]]


def _split(value: str) -> frozenset[str]:
    return frozenset(part.strip() for part in value.split(","))


_SELECTIONS: Final[Mapping[str, Selection]] = {
    "is-a": lambda system, _, value: system.related(value, below=True),
    "descendent-of": lambda system, _, value: system.related(value, below=True) - {value},
    "is-not-a": lambda system, _, value: system.codes - system.related(value, below=True),
    "generalizes": lambda system, _, value: system.related(value, below=False),
    "=": lambda system, name, value: system.having(name, frozenset({value})),
    "in": lambda system, name, value: system.having(name, _split(value)),
    "not-in": lambda system, name, value: system.codes - system.having(name, _split(value)),
    "exists": lambda system, name, value: (
        system.with_any(name) if value == "true" else system.codes - system.with_any(name)
    ),
}
Test = Callable[[CodeSystem, str, str, str], bool]


def _is_below(system: CodeSystem, code: str, value: str) -> bool:
    system.require_code(value)
    return value in system.related(code, below=False)


_TESTS: Final[Mapping[str, Test]] = {
    "is-a": lambda system, code, _, value: _is_below(system, code, value),
    "descendent-of": lambda system, code, _, value: (
        _is_below(system, code, value) and code != value
    ),
    "is-not-a": lambda system, code, _, value: not _is_below(system, code, value),
    "generalizes": lambda system, code, _, value: code in system.related(value, below=False),
    "=": lambda system, code, name, value: value in system.values(code, name),
    "in": lambda system, code, name, value: not system.values(code, name).isdisjoint(_split(value)),
    "not-in": lambda system, code, name, value: system.values(code, name).isdisjoint(_split(value)),
    "exists": lambda system, code, name, value: system.has(code, name) is (value == "true"),
}
"""As `_SELECTIONS`, for one code."""
_HIERARCHICAL: Final = ("is-a", "descendent-of", "is-not-a", "generalizes")
_ITSELF: Final = ("concept", "code")
"""Names for the code itself in a filter."""
_ACTIVITY: Final = "inactive"
"""False unless it or the status says otherwise: as `_INACTIVE`."""
_BUILT_IN: Final = ("concept", "code", "display", "parent", "child", _ACTIVITY)


def _unsupported(text: str) -> FhirError:
    return FhirError(Kind.UNSUPPORTED, text)


def code_system(resource: Resource, *others: Resource) -> CodeSystem:
    """From a CodeSystem resource, or from several that hold a part of the system each.

    Parts that come to as many concepts as they say that the system has are all of it.
    """
    concepts: dict[str, Mapping[str, Any]] = {}
    properties: dict[str, dict[str, frozenset[str]]] = {}
    up: dict[str, set[str]] = {}
    for part in (resource, *others):
        for concept, parent in _concepts(part):
            code = text(concept, "code")
            concepts.setdefault(code, concept)
            if values := _properties(concept):
                properties[code] = values
            _link(up, code, parent, values)
    content = text(resource, "content")
    if content == "fragment" and number(resource, "count") == len(concepts):
        content = "complete"
    inactive = _where(properties, _INACTIVE)
    insensitive = resource.get("caseSensitive") is False
    return CodeSystem(
        url=text(resource, "url"),
        version=text(resource, "version"),
        content=content,
        meaning=text(resource, "hierarchyMeaning"),
        is_case_sensitive=not insensitive,
        concepts=concepts,
        properties=properties,
        parents=_frozen(up),
        children=_frozen(_turned(up)),
        defined={text(one, "code"): text(one, "type") for one in items(resource, "property")},
        inactive=inactive,
        abstract=_where(properties, _ABSTRACT),
        folded={code.casefold(): code for code in concepts} if insensitive else {},
    )


_INACTIVE: Final = (("inactive", "true"), ("status", "inactive"), ("status", "retired"))
"""https://hl7.org/fhir/R4/codesystem-concept-properties.html; what is deprecated is in use yet."""
_ABSTRACT: Final = (("notSelectable", "true"), ("abstract", "true"))


def _where(
    properties: Mapping[str, Mapping[str, frozenset[str]]], pairs: Iterable[tuple[str, str]]
) -> frozenset[str]:
    return frozenset(
        code
        for code, values in properties.items()
        if any(value in values.get(name, ()) for name, value in pairs)
    )


def _link(
    up: dict[str, set[str]], code: str, parent: str, values: Mapping[str, frozenset[str]]
) -> None:
    above = values.get("parent", _NO_LINKS) | values.get("subsumedBy", _NO_LINKS)
    if parent or above:
        up.setdefault(code, set()).update(above, (parent,) if parent else ())
    for child in values.get("child", ()):
        up.setdefault(child, set()).add(code)


def _concepts(resource: Resource) -> Iterator[tuple[Any, str]]:
    """Each concept with the code that it stands under, '' at the top, in their order."""
    waiting = [(concept, "") for concept in reversed(items(resource, "concept"))]
    while waiting:
        concept, parent = waiting.pop()
        code = text(concept, "code")
        if code:
            yield concept, parent
            waiting += [(inner, code) for inner in reversed(items(concept, "concept"))]


def _properties(concept: Any) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for one in items(concept, "property"):
        for name, value in one.items():
            if name.startswith("value"):
                found.setdefault(text(one, "code"), set()).add(_told(value))
    return {name: frozenset(values) for name, values in found.items()}


def _told(value: Any) -> str:
    """A property's value as a filter writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return text(value, "code") if isinstance(value, dict) else str(value)


def _turned(links: Mapping[str, set[str]]) -> dict[str, set[str]]:
    turned: dict[str, set[str]] = {}
    for code, others in links.items():
        for other in others:
            turned.setdefault(other, set()).add(code)
    return turned


def _frozen(links: Mapping[str, set[str]]) -> Links:
    return {code: frozenset(others) for code, others in links.items()}
