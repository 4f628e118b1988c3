"""Places in a resource that a FHIRPath points to, so that they can be changed.

A FHIRPath evaluator gives values; a patch needs to know where they stand. This is the part of
FHIRPath that names places: members, `[n]`, `first()`, `last()`, `where(...)` with comparisons
of members to literals joined by `and`, and `ofType(T)` or `as` on a choice.
Source: http://hl7.org/fhirpath/N1/#path-selection.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Final

from fhir_server.fhir.definitions import ElementDefinition, type_definition
from fhir_server.fhir.json import Resource


class BadPath(ValueError):
    """The path is not FHIRPath, goes beyond what names places, or names no element of R4."""


@dataclass(frozen=True, slots=True)
class Place:
    """A value where it stands: property `name` of `parent`, at `index` if it is in an array.

    The resource itself has no parent.
    """

    value: Any
    type: str
    parent: dict[str, Any] | None = None
    name: str = ""
    index: int | None = None
    element: ElementDefinition | None = None
    owner: str = ""
    """The type that `name` is an element of."""


_TOKEN: Final = re.compile(
    r"\s*(?:(?P<name>`[^`]+`|[A-Za-z_]\w*)|(?P<text>'(?:[^'\\]|\\.)*')"
    r"|(?P<number>\d+(?:\.\d+)?)|(?P<mark>[().=\[\]]))"
)
_MAX_LENGTH: Final = 2000
_BOOLEANS: Final = {"true": True, "false": False}
_ESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t", "f": "\f"}


def locate(path: str, resource: Resource) -> list[Place]:
    """The places that the path points to, in order; [] where nothing is there.

    Raises:
        BadPath: for what is not such a path.
    """
    if len(path) > _MAX_LENGTH:
        raise BadPath(f"The path is longer than {_MAX_LENGTH} characters")
    return _Walker(path, resource).walk()


class _Walker:
    def __init__(self, path: str, resource: Resource) -> None:
        self._path = path
        self._tokens = _tokens(path)
        self._at = 0
        self._root = Place(resource, resource["resourceType"])

    def walk(self) -> list[Place]:
        name = self._next()
        places = [self._root]
        if name not in (self._root.type, "Resource", "DomainResource"):
            places = self._step(places, name)
        places = self._rest(places)
        if self._at != len(self._tokens):
            raise self._bad()
        return places

    def _rest(self, places: list[Place]) -> list[Place]:
        while self._at < len(self._tokens):
            if self._accept("."):
                places = self._step(places, self._next())
            elif self._accept("["):
                index = self._next()
                if not index.isdigit():
                    raise self._bad()
                places = places[int(index) : int(index) + 1]
                self._expect("]")
            else:
                break
        return places

    def _step(self, places: list[Place], name: str) -> list[Place]:
        if self._accept("("):
            return self._function(places, name)
        found = [place for start in places for place in members(start, name.strip("`"))]
        if not found and not any(_knows(start, name.strip("`")) for start in places) and places:
            raise BadPath(f"'{name}' is not an element of {places[0].type}")
        return found

    def _function(self, places: list[Place], name: str) -> list[Place]:
        match name:
            case "first":
                places = places[:1]
            case "last":
                places = places[-1:]
            case "ofType" | "as":
                wanted = self._next()
                places = [place for place in places if place.type == wanted]
            case "where":
                keep = self._condition()
                places = [place for place in places if keep(place)]
            case _:
                raise BadPath(f"'{name}()' does not name a place; {self._path!r}")
        self._expect(")")
        return places

    def _condition(self) -> Callable[[Place], bool]:
        tests = [self._comparison()]
        while self._accept("and"):
            tests.append(self._comparison())
        return lambda place: all(test(place) for test in tests)

    def _comparison(self) -> Callable[[Place], bool]:
        names = [self._next()]
        while self._accept("."):
            names.append(self._next())
        self._expect("=")
        wanted = _literal(self._next())

        def holds(place: Place) -> bool:
            found = [place]
            for name in names:
                found = [inner for outer in found for inner in members(outer, name)]
            return any(inner.value == wanted for inner in found)

        return holds

    def _next(self) -> str:
        if self._at >= len(self._tokens):
            raise self._bad()
        self._at += 1
        return self._tokens[self._at - 1]

    def _accept(self, token: str) -> bool:
        found = self._at < len(self._tokens) and self._tokens[self._at] == token
        self._at += found
        return found

    def _expect(self, token: str) -> None:
        if not self._accept(token):
            raise self._bad()

    def _bad(self) -> BadPath:
        return BadPath(f"'{self._path}' is not a path to an element")


def members(start: Place, name: str) -> list[Place]:
    """The places of a member; a choice is named without its type, as FHIRPath does."""
    if not isinstance(start.value, dict):
        return []
    definition = type_definition(_type_of(start))
    found = []
    for json_name in definition.choices.get(name, (name,)):
        element = definition.elements.get(json_name)
        if element is None or json_name not in start.value:
            continue
        value = start.value[json_name]
        here = Place(value, element.type, start.value, json_name, None, element, definition.name)
        if isinstance(value, list):
            found += [replace(here, value=item, index=i) for i, item in enumerate(value)]
        else:
            found.append(here)
    return found


def _type_of(place: Place) -> str:
    """Of a contained resource or one in a Bundle, what it says itself."""
    if place.type == "Resource" and isinstance(place.value, dict):
        return str(place.value.get("resourceType"))
    return place.type


def _knows(place: Place, name: str) -> bool:
    definition = type_definition(_type_of(place))
    return name in definition.choices or name in definition.elements


def _tokens(path: str) -> list[str]:
    tokens, at, text = [], 0, path.rstrip()
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise BadPath(f"'{path}' is not FHIRPath at character {at + 1}")
        tokens.append(found[0].strip())
        at = found.end()
    return tokens


def _literal(token: str) -> Any:
    if token.startswith("'"):
        return re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[1]), token[1:-1])
    if token in _BOOLEANS:
        return _BOOLEANS[token]
    if token[0].isdigit():
        return Decimal(token) if "." in token else int(token)
    raise BadPath(f"'{token}' is not a literal; 'text', a number, true or false is expected")
