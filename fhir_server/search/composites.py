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


_Context = tuple[Route, tuple[_Component, ...]]


class Composite(NamedTuple):
    """A composite parameter; each context is a route to elements, with their components."""

    code: str
    components: tuple[SearchParameter, ...]
    contexts: tuple[_Context, ...]
    made_of: tuple[str, ...] = ()
    """Composites that have one of the contexts each: then it needs no values of its own."""

    @property
    def indexed(self) -> tuple[str, ...]:
        """The codes under which its values stand."""
        return self.made_of or (self.code,)

    def values(self, resource: Any) -> Iterator[CompositeValue]:
        for context, components in self.contexts:
            for element in context.values(resource):
                parts = _parts(components, resource, element)
                if parts is not None:
                    yield CompositeValue(parts)


def _parts(
    components: tuple[_Component, ...], resource: Any, element: Any
) -> tuple[tuple[PlainValue, ...], ...] | None:
    """The last first: it tells the composites of a type apart."""
    parts: list[tuple[PlainValue, ...]] = []
    for component in reversed(components):
        values = component.values(resource, element)
        if not values:
            return None
        parts.append(values)
    return tuple(reversed(parts))


@cache
def composites(resource_type: str) -> Mapping[str, Composite]:
    """The composite parameters of the type that can be searched, by code."""
    known = {one.url: one for one in search_parameters(resource_type).values()}
    found = {
        code: composite
        for code, parameter in search_parameters(resource_type).items()
        if parameter.type == "composite"
        and (composite := _composite(parameter, resource_type, known)) is not None
    }
    single = {
        _shape(one.contexts[0]): code for code, one in found.items() if len(one.contexts) == 1
    }
    return {
        code: one._replace(made_of=_made_of(one.contexts, single)) for code, one in found.items()
    }


def _made_of(contexts: tuple[_Context, ...], single: Mapping[Any, str]) -> tuple[str, ...]:
    codes = tuple(single.get(_shape(context), "") for context in contexts)
    return codes if len(codes) > 1 and all(codes) else ()


def _shape(context: _Context) -> Any:
    """What makes two contexts give the same values."""
    route, components = context
    return (
        route.steps,
        tuple(
            (one.parameter.type, one.from_resource, tuple((r.steps, r.type) for r, _ in one.routes))
            for one in components
        ),
    )


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
