"""Code systems that are known completely: their hierarchy and properties, and filters on them.

Sources: https://hl7.org/fhir/R4/codesystem.html#hierarchy, https://hl7.org/fhir/R4/codesystem.html
#properties, filters https://hl7.org/fhir/R4/valueset-filter-operator.html.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from fhir_server.errors import FhirError, Issue, Kind
from fhir_server.fhir.json import Resource
from fhir_server.terminology.elements import items, text

Links = Mapping[str, frozenset[str]]
_SUBSUMPTION: Final = ("", "is-a")


@dataclass(frozen=True, slots=True)
class CodeSystem:
    """A code system with all its codes.

    `parents` and `children` are what `subsumes` goes by; `properties` are a code's values by
    the property's code.
    """

    url: str
    properties: Mapping[str, Mapping[str, frozenset[str]]]
    parents: Links
    children: Links
    defined: frozenset[str]
    """The properties that concepts may have."""

    @property
    def codes(self) -> frozenset[str]:
        return frozenset(self.properties)

    def related(self, code: str, *, below: bool) -> frozenset[str]:
        """The code, and all that is below it, or above it.

        Raises:
            FhirError: INVALID for a code that the system has not.
        """
        if code not in self.properties:
            raise FhirError(
                Kind.INVALID, Issue(f"'{code}' is not a code of {self.url}", code="code-invalid")
            )
        links = self.children if below else self.parents
        found, waiting = {code}, [code]
        while waiting:
            fresh = links.get(waiting.pop(), frozenset()) - found
            found |= fresh
            waiting += fresh
        return frozenset(found)

    def filtered(self, name: str, operator: str, value: str) -> frozenset[str]:
        """The codes for which a filter on the property `name` holds.

        Raises:
            FhirError: UNSUPPORTED for a filter that is not known; INVALID for a wrong code.
        """
        select = _SELECTIONS.get(operator)
        if select is None:
            allowed = ", ".join(_SELECTIONS)
            raise _unsupported(f"The filter '{operator}' on {self.url} is not one of {allowed}")
        if operator in _HIERARCHICAL:
            if name not in _ITSELF:
                raise _unsupported(f"The filter '{operator}' is about 'concept', not '{name}'")
            return select(self, name, value)
        if name not in self.defined:
            raise _unsupported(f"A filter is on '{name}', which {self.url} does not define")
        return select(self, name, value)

    def having(self, name: str, wanted: frozenset[str]) -> frozenset[str]:
        return frozenset(
            code
            for code, values in self.properties.items()
            if not values.get(name, frozenset()).isdisjoint(wanted)
        )

    def with_any(self, name: str) -> frozenset[str]:
        return frozenset(code for code, values in self.properties.items() if values.get(name))


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
_HIERARCHICAL: Final = ("is-a", "descendent-of", "is-not-a", "generalizes")
_ITSELF: Final = ("concept", "code")
"""Names for the code itself in a filter."""


def _unsupported(text: str) -> FhirError:
    return FhirError(Kind.UNSUPPORTED, text)


def code_system(resource: Resource) -> CodeSystem:
    """From a CodeSystem resource.

    Raises:
        FhirError: UNSUPPORTED, where it does not hold all its codes, or its hierarchy does not
            say what is a kind of what.
    """
    url = text(resource, "url")
    content, meaning = text(resource, "content"), text(resource, "hierarchyMeaning")
    if content != "complete":
        raise FhirError(
            Kind.UNSUPPORTED, f"The code system {url} is known as '{content}', not completely"
        )
    if meaning not in _SUBSUMPTION:
        raise FhirError(
            Kind.UNSUPPORTED,
            f"The hierarchy of {url} means '{meaning}'; only is-a says what is above and below",
        )
    properties: dict[str, dict[str, frozenset[str]]] = {}
    up: dict[str, set[str]] = {}
    for concept, parent in _concepts(resource):
        code = text(concept, "code")
        properties[code] = values = _properties(concept)
        above = values.get("parent", frozenset()) | values.get("subsumedBy", frozenset())
        up.setdefault(code, set()).update(above, (parent,) if parent else ())
        for child in values.get("child", ()):
            up.setdefault(child, set()).add(code)
    defined = {text(one, "code") for one in items(resource, "property")}
    return CodeSystem(
        url, properties, _frozen(up), _frozen(_turned(up)), frozenset({*defined, *_BUILT_IN})
    )


def _concepts(resource: Resource) -> Iterator[tuple[Any, str]]:
    """Each concept with the code that it stands under, '' at the top."""
    waiting = [(concept, "") for concept in items(resource, "concept")]
    while waiting:
        concept, parent = waiting.pop()
        code = text(concept, "code")
        if code:
            yield concept, parent
            waiting += [(inner, code) for inner in items(concept, "concept")]


_BUILT_IN: Final = ("concept", "code", "display", "parent", "child")


def _properties(concept: Any) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for one in items(concept, "property"):
        for name, value in one.items():
            if name.startswith("value"):
                found.setdefault(text(one, "code"), set()).add(_told(value))
    own, display = {text(concept, "code")}, text(concept, "display")
    found |= {"concept": own, "code": own, **({"display": {display}} if display else {})}
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
