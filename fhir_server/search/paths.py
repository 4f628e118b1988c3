"""The FHIRPath of R4's search parameters, compiled to routes through JSON.

The definitions use a small part of FHIRPath: paths, `|`, `as`, `where(field = 'text')`,
`where(resolve() is Type)`, `[n]`, and one `exists() and != false`; parameters of others also
`extension('url')`. A route is the chain of property names that such an expression comes to for
one resource type, with the FHIR type of what stands at its end; a choice such as `value[x]` makes
one route for each of its types. Branches that begin with another resource type have none.

Sources: https://hl7.org/fhir/R4/searchparameter-registry.html,
https://hl7.org/fhir/R4/fhirpath.html.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from fhir_server.fhir.definitions import ElementDefinition, is_resource_type, type_definition

Filter = Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class Step:
    """Go into the property `name`, keeping the items that `keep` accepts."""

    name: str
    keep: Filter | None = None
    index: int | None = None


@dataclass(frozen=True, slots=True)
class Route:
    steps: tuple[Step, ...]
    type: str
    """FHIR type of the values at the end."""
    element: ElementDefinition | None = None
    present: bool = False
    """The value is whether anything but `false` stands there, not the thing itself."""

    def values(self, resource: Any) -> list[Any]:
        """What stands at the end of the route, arrays flattened."""
        return along(self.steps, [resource])


def along(steps: tuple[Step, ...], found: list[Any]) -> list[Any]:
    """What stands at the end of the steps; in one function, as much is found by it."""
    for step in steps:
        name, keep, index = step.name, step.keep, step.index
        reached: list[Any] = []
        for node in found:
            inner = node.get(name) if isinstance(node, dict) else None
            if inner is None:
                continue
            items = inner if isinstance(inner, list) else [inner]
            reached += items if index is None else items[index : index + 1]
        if None in reached:
            reached = [item for item in reached if item is not None]
        found = reached if keep is None else [item for item in reached if keep(item)]
        if not found:
            break
    return found


class UnknownPath(ValueError):
    """The expression uses what this compiler does not know."""


_MAX_ROUTES: Final = 500
"""R4's own need 12 at the most; each `.value` of an extension stands for 50."""
_MAX_DEPTH: Final = 20
"""Parentheses within each other."""


_QUOTE: Final = "'"
"""Before the text of a token that is a string."""
_TOKEN: Final = re.compile(r"\s*(?:([A-Za-z_]\w*)|'([^']*)'|(\d+)|(!=|[().|=\[\]]))")


def routes(expression: str, resource_type: str) -> tuple[Route, ...]:
    """The routes of an expression for one resource type.

    Raises:
        UnknownPath: for FHIRPath beyond what R4's search parameters use.
    """
    if found := _PRESENCE.fullmatch(expression):
        return tuple(
            replace(route, type="boolean", present=True)
            for route in _Parser(found[1], resource_type).parse()
        )
    return _Parser(expression, resource_type).parse()


_PRESENCE: Final = re.compile(r"(\S+)\.exists\(\) and \1 != false")


class _Parser:
    """Recursive descent; each rule gives the routes so far."""

    def __init__(self, expression: str, resource_type: str) -> None:
        self._expression = expression
        self._resource_type = resource_type
        self._tokens = _tokens(expression)
        self._at = 0
        self._depth = 0

    def parse(self) -> tuple[Route, ...]:
        found = self._union()
        if self._at != len(self._tokens):
            raise UnknownPath(self._expression)
        return found

    def _union(self) -> tuple[Route, ...]:
        found = self._cast()
        while self._accept("|"):
            found += self._cast()
        return found

    def _cast(self) -> tuple[Route, ...]:
        found = self._path()
        while self._accept("as"):
            found = _of_type(found, self._next())
        return found

    def _path(self) -> tuple[Route, ...]:
        found = self._root()
        while True:
            if self._accept("."):
                found = self._member(found, self._next())
            elif self._accept("["):
                found = _at_index(found, self._number())
                self._expect("]")
            else:
                return found
            if len(found) > _MAX_ROUTES:
                raise UnknownPath(self._expression)

    def _root(self) -> tuple[Route, ...]:
        if self._accept("("):
            self._depth += 1
            if self._depth > _MAX_DEPTH:
                raise UnknownPath(self._expression)
            found = self._union()
            self._expect(")")
            self._depth -= 1
            return found
        name = self._next()
        if name in (self._resource_type, "Resource", "DomainResource"):
            return (Route((), self._resource_type),)
        if is_resource_type(name):
            return ()  # a branch for another type
        return self._member((Route((), self._resource_type),), name)

    def _member(self, found: tuple[Route, ...], name: str) -> tuple[Route, ...]:
        if not self._accept("("):
            return tuple(route for start in found for route in _children(start, name))
        if name in ("as", "ofType"):
            found = _of_type(found, self._next())
        elif name == "where":
            found = _kept(found, self._condition())
        elif name == "extension":
            inner = tuple(route for start in found for route in _children(start, name))
            found = _kept(inner, _has("url", self._text()))
        else:
            raise UnknownPath(self._expression)
        self._expect(")")
        return found

    def _condition(self) -> Filter:
        field = self._next()
        if field == "resolve":
            self._expect("(")
            self._expect(")")
            self._expect("is")
            return _refers_to(self._type_name())
        self._expect("=")
        return _has(field, self._text())

    def _text(self) -> str:
        token = self._next()
        if not token.startswith(_QUOTE):
            raise UnknownPath(self._expression)
        return token.removeprefix(_QUOTE)

    def _type_name(self) -> str:
        name = self._next()
        if not is_resource_type(name):
            raise UnknownPath(self._expression)
        return name

    def _number(self) -> int:
        text = self._next()
        if not text.isdigit() or len(text) > 9:
            raise UnknownPath(self._expression)
        return int(text)

    def _peek(self) -> str | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _next(self) -> str:
        token = self._peek()
        if token is None:
            raise UnknownPath(self._expression)
        self._at += 1
        return token

    def _accept(self, token: str) -> bool:
        if self._peek() != token:
            return False
        self._at += 1
        return True

    def _expect(self, token: str) -> None:
        if not self._accept(token):
            raise UnknownPath(self._expression)


def _tokens(expression: str) -> list[str]:
    tokens, at = [], 0
    while at < len(expression.rstrip()):
        found = _TOKEN.match(expression, at)
        if found is None:
            raise UnknownPath(expression)
        if found[2] is None:
            tokens.append(found[0].strip())
        else:
            tokens.append(_QUOTE + found[2])
        at = found.end()
    return tokens


def _children(start: Route, name: str) -> Iterator[Route]:
    try:
        definition = type_definition(start.type)
    except KeyError:
        raise UnknownPath(f"{start.type}.{name}") from None
    names = definition.choices.get(name, (name,))
    for json_name in names:
        element = definition.elements.get(json_name)
        if element is None:
            raise UnknownPath(f"{start.type}.{name}")
        yield Route((*start.steps, Step(json_name)), element.type, element)


def _of_type(found: tuple[Route, ...], type_name: str) -> tuple[Route, ...]:
    return tuple(route for route in found if route.type == type_name)


def _at_index(found: tuple[Route, ...], index: int) -> tuple[Route, ...]:
    return tuple(_with_last(route, replace(_last(route), index=index)) for route in found)


def _kept(found: tuple[Route, ...], keep: Filter) -> tuple[Route, ...]:
    return tuple(_with_last(route, replace(_last(route), keep=keep)) for route in found)


def _last(route: Route) -> Step:
    """The step that a condition is about: one, and neither of two nor the resource itself."""
    if not route.steps or route.steps[-1].keep or route.steps[-1].index is not None:
        raise UnknownPath("A condition stands after a property, and only one")
    return route.steps[-1]


def _with_last(route: Route, step: Step) -> Route:
    return replace(route, steps=(*route.steps[:-1], step))


def _has(field: str, text: str) -> Filter:
    return lambda item: isinstance(item, dict) and item.get(field) == text


def _refers_to(type_name: str) -> Filter:
    """Without reading the target: its type stands in the reference or in `Reference.type`."""
    pattern = re.compile(rf"(?:.*/)?{type_name}/[A-Za-z0-9\-.]{{1,64}}(?:/_history/.*)?")
    local = re.compile(rf"{type_name}/[A-Za-z0-9\-.]{{1,64}}")

    def refers(item: Any) -> bool:
        if not isinstance(item, dict):
            return False
        reference = item.get("reference")
        if isinstance(reference, str):
            # The form of nearly all of them: the other begins by looking at the end of the text.
            found = local.fullmatch(reference) or pattern.fullmatch(reference)
            return found is not None or item.get("type") == type_name
        return item.get("type") == type_name

    return refers
