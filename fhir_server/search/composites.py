"""Composite parameters: components that must hold of the same element.

Source: https://hl7.org/fhir/R4/search.html#composite.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Final, NamedTuple

from fhir_server.fhir.definitions import SearchParameter, search_parameters
from fhir_server.search.convert import Convert, converter
from fhir_server.search.paths import Route, UnknownPath, routes
from fhir_server.search.values import CompositeValue, PlainValue


class _Component(NamedTuple):
    """Routes from the element, or from the resource, to a component's values."""

    parameter: SearchParameter
    routes: tuple[tuple[Route, Convert], ...]
    from_resource: bool

    def values(self, resource: Any, element: Any) -> tuple[PlainValue, ...]:
        start = resource if self.from_resource else element
        found = (
            converted
            for route, convert in self.routes
            for value in route.values(start)
            for converted in convert(value)
        )
        return tuple(dict.fromkeys(found))


class Composite(NamedTuple):
    """A composite parameter; each context is a route to elements, with their components."""

    code: str
    components: tuple[SearchParameter, ...]
    contexts: tuple[tuple[Route, tuple[_Component, ...]], ...]

    def values(self, resource: Any) -> Iterator[CompositeValue]:
        for context, components in self.contexts:
            for element in context.values(resource):
                parts = tuple(component.values(resource, element) for component in components)
                if all(parts):
                    yield CompositeValue(parts)


@cache
def composites(resource_type: str) -> Mapping[str, Composite]:
    """The composite parameters of the type that can be searched, by code."""
    known = {one.url: one for one in search_parameters(resource_type).values()}
    return {
        code: composite
        for code, parameter in search_parameters(resource_type).items()
        if parameter.type == "composite"
        and (composite := _composite(parameter, resource_type, known)) is not None
    }


def _composite(
    parameter: SearchParameter, resource_type: str, known: Mapping[str, SearchParameter]
) -> Composite | None:
    try:
        parameters = tuple(known[url] for url, _ in parameter.components)
        contexts = routes(parameter.expression, resource_type)
        # Of DocumentReference's `relationship` R4 names the two parameters the wrong way round.
        for ordered in (parameters, parameters[::-1]):
            found = tuple(
                (context, _components(ordered, parameter, context.type, resource_type))
                for context in contexts
            )
            if all(component.routes for _, components in found for component in components):
                return Composite(parameter.code, ordered, found)
    except (UnknownPath, KeyError):
        pass
    return None


def _components(
    parameters: tuple[SearchParameter, ...],
    composite: SearchParameter,
    context: str,
    resource_type: str,
) -> tuple[_Component, ...]:
    return tuple(
        _component(parameter, expression, context, resource_type)
        for parameter, (_, expression) in zip(parameters, composite.components, strict=True)
    )


_RESOURCE: Final = "%resource."


def _component(
    parameter: SearchParameter, expression: str, context: str, resource_type: str
) -> _Component:
    from_resource = expression.startswith(_RESOURCE)
    # One definition of R4 writes the type dateTime as DateTime.
    path = expression.removeprefix(_RESOURCE).replace("(DateTime)", "(dateTime)")
    found = routes(path, resource_type if from_resource else context)
    converts = ((route, converter(parameter.type, route)) for route in found)
    known = tuple((route, convert) for route, convert in converts if convert is not None)
    return _Component(parameter, known, from_resource)
