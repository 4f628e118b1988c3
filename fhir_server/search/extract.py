"""Index values of a resource: which parameter finds it by which value.

Compiled once per resource type from the search parameters' expressions; per resource there is
only the walk along the routes whose first property is there.
Source: https://hl7.org/fhir/R4/search.html#table (how each data type is searched).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache, lru_cache
from typing import Any, Final

from fhir_server.fhir.compartments import memberships
from fhir_server.fhir.definitions import (
    SearchParameter,
    is_resource_type,
    resource_types,
    search_parameters,
)
from fhir_server.search.composites import Composite, composites
from fhir_server.search.convert import BESIDE, CODED, CODED_TYPES, Convert, converter
from fhir_server.search.fulltext import texts
from fhir_server.search.paths import Route, Step, UnknownPath, along, routes
from fhir_server.search.values import (
    ContainedValue,
    IndexValue,
    ReferenceValue,
    TextValue,
    TokenValue,
)

CONTENT: Final = 5
"""Counts the changes of what is extracted: a store with an older number is indexed anew."""


Found = dict[tuple[str, IndexValue], None]
"""Pairs of index code and value, each once."""
Extractor = Callable[[Any, Found], None]
"""Puts what comes of one property's value to what was found."""
Extractors = Mapping[str, tuple[Extractor, ...]]
"""By the first property of their routes."""


_Converts = tuple[tuple[str, Convert], ...]
"""What makes values, by index code."""
_Ways = list[tuple[tuple[Step, ...], _Converts]]
"""What is left of routes, and what is made of what stands at their ends."""


def _extractor(ways: _Ways) -> Extractor:
    """What comes of ways that begin at one place; a step that they share is taken once."""
    here = tuple(pair for steps, converts in ways if not steps for pair in converts)
    below = {name: _extractor(inner) for name, inner in _by_step(ways).items()}
    choosing = [_choosing(steps, converts) for steps, converts in ways if _chooses(steps)]

    def add(held: Any, found: Found) -> None:
        for value in held if isinstance(held, list) else (held,):
            for code, convert in here if value is not None else ():
                for converted in convert(value):
                    found[code, converted] = None
            if below and isinstance(value, dict):
                for name, inner in value.items():
                    if name in below and inner is not None:
                        below[name](inner, found)
            for choose in choosing:
                choose(value, found)

    return add


def _by_step(ways: _Ways) -> dict[str, _Ways]:
    """What is left after the next step, by its name, of those that take all that stands there."""
    found: dict[str, _Ways] = {}
    for steps, converts in ways:
        if steps and not _chooses(steps):
            found.setdefault(steps[0].name, []).append((steps[1:], converts))
    return found


def _chooses(steps: tuple[Step, ...]) -> bool:
    """Whether the next step leaves out some of what stands there."""
    return bool(steps) and (steps[0].keep is not None or steps[0].index is not None)


def _choosing(steps: tuple[Step, ...], converts: _Converts) -> Extractor:
    def add(value: Any, found: Found) -> None:
        for end in along(steps, [value]):
            for code, convert in converts:
                for converted in convert(end):
                    found[code, converted] = None

    return add


def extract(resource: Mapping[str, Any]) -> list[tuple[str, IndexValue]]:
    """Pairs of parameter code and value, without repeats, in a stable order."""
    return [*extract_elements(resource), *texts(resource)]


def extract_elements(resource: Mapping[str, Any]) -> list[tuple[str, IndexValue]]:
    """As `extract`, but for the values of `_text` and `_content`.

    The resource has passed the structural check, or is at least JSON: what has not the type
    that its definition says is passed over.
    """
    resource_type = resource["resourceType"]
    found = extracted(resource, _by_property(resource_type))
    for composite in _composites(resource_type):
        for group in composite.values(resource):
            found[composite.code, group] = None
    for code, names in _presences(resource_type):
        if resource.keys().isdisjoint(names):
            found[code, TokenValue("", "false")] = None
    for membership in _memberships(resource_type, resource.get("id"), found):
        found[membership] = None
    if "contained" in resource:
        found.update(dict.fromkeys(_contained(resource["contained"])))
    return list(found)


def _contained(resources: Any) -> Iterator[tuple[str, ContainedValue]]:
    """Each contained resource under the pseudo-parameter `#Type`; none contains another."""
    for inner in resources if isinstance(resources, list) else ():
        if not isinstance(inner, dict) or not is_resource_type(inner.get("resourceType", "")):
            continue
        alone = {name: value for name, value in inner.items() if name != "contained"}
        values = tuple(
            (code, value)
            for code, value in extract_elements(alone)
            if code != "_lastUpdated"
            and not code.startswith("{")
            and not isinstance(value, ContainedValue | TextValue)
        )
        inner_id = inner.get("id")
        yield (
            f"#{inner['resourceType']}",
            ContainedValue(inner_id if isinstance(inner_id, str) else "", values),
        )


def _memberships(
    resource_type: str, resource_id: Any, found: Iterable[tuple[str, IndexValue]]
) -> list[tuple[str, IndexValue]]:
    """Values of the pseudo-parameters `{Patient}` and so on: the compartments it is in."""
    members: list[tuple[str, IndexValue]] = []
    compartments, referring = _referring(resource_type)
    for compartment, codes in compartments.items():
        if "{def}" in codes and isinstance(resource_id, str):
            own = ReferenceValue(f"{compartment}/{resource_id}")
            members.append((f"{{{compartment}}}", own))
    for code, value in found:
        if code not in referring or type(value) is not ReferenceValue:
            continue
        # Of an address elsewhere, only a search with that server's base can say whose it is.
        place, slash, _ = value.target.rpartition("/")
        compartment = place.rpartition("/")[2]
        if slash and code in compartments.get(compartment, ()):
            members.append((f"{{{compartment}}}", ReferenceValue(value.target)))
    return members


@cache
def _referring(resource_type: str) -> tuple[Mapping[str, frozenset[str]], frozenset[str]]:
    """The compartments that it can be in, each with the parameters by which; all of those."""
    found = dict(memberships(resource_type))
    return found, frozenset(code for codes in found.values() for code in codes)


@cache
def indexed_parameters(resource_type: str) -> Mapping[str, SearchParameter]:
    """The parameters of the type that have index values, by code.

    Those that have no expression, and those whose values lie in another resource, have none.
    """
    return {
        code: parameter
        for code, parameter in search_parameters(resource_type).items()
        if code == "_lastUpdated"
        or routes_of(parameter, resource_type)
        or code in composites(resource_type)
    }


@cache
def indexed_modifiers(parameter: SearchParameter, resource_type: str) -> frozenset[str]:
    """The modifiers that the parameter has for what its values are.

    Those in `BESIDE` have index values of their own, under `code:modifier`.
    """
    found = [route for route in routes_of(parameter, resource_type) if not route.present]
    coded = parameter.type == "token" and any(route.type in CODED_TYPES for route in found)
    beside = (BESIDE.get((parameter.type, route.type), {}) for route in found)
    return frozenset((*(name for one in beside for name in one), *(CODED if coded else ())))


@cache
def refers(parameter: SearchParameter, resource_type: str) -> bool:
    """Whether it holds references, and not canonical addresses alone."""
    return any(route.type == "Reference" for route in routes_of(parameter, resource_type))


@cache
def has_canonical(resource_type: str) -> bool:
    """Whether resources of the type can be named by url and version."""
    known = indexed_parameters(resource_type)
    kinds = tuple(known[code].type if code in known else "" for code in ("url", "version"))
    return kinds == ("uri", "token")


@cache
def targets_of(parameter: SearchParameter, resource_type: str) -> tuple[str, ...]:
    """The types that the reference parameter may lead to."""
    targets = parameter.targets or resource_types()
    if refers(parameter, resource_type):
        return targets
    return tuple(name for name in targets if has_canonical(name))


@cache
def _by_property(resource_type: str) -> Extractors:
    return extractors(indexed_parameters(resource_type).values(), resource_type)


def extractors(parameters: Iterable[SearchParameter], resource_type: str) -> Extractors:
    """What the parameters take from a resource of the type, by the property where it begins."""
    ways: _Ways = []
    for parameter in parameters:
        for route in routes_of(parameter, resource_type):
            convert = converter(parameter.type, route)
            if convert is not None:
                beside = BESIDE.get((parameter.type, route.type), {}).items()
                more = ((f"{parameter.index}:{modifier}", other) for modifier, other in beside)
                ways.append((route.steps, ((parameter.index, convert), *more)))
    table = {name: [_extractor(inner)] for name, inner in _by_step(ways).items()}
    for steps, converts in ways:
        if _chooses(steps):
            table.setdefault(steps[0].name, []).append(_of_property(steps, converts))
    return {name: tuple(found) for name, found in table.items()}


def _of_property(steps: tuple[Step, ...], converts: _Converts) -> Extractor:
    name, choose = steps[0].name, _choosing(steps, converts)
    return lambda held, found: choose({name: held}, found)


@lru_cache(maxsize=4096)
def ways_of(parameter: SearchParameter, resource_type: str) -> tuple[tuple[Route, Convert], ...]:
    """Where the parameter's own values stand in a resource of the type, and what makes them."""
    found = ((one, converter(parameter.type, one)) for one in routes_of(parameter, resource_type))
    return tuple((route, convert) for route, convert in found if convert is not None)


def extracted(resource: Mapping[str, Any], by_property: Extractors) -> Found:
    found: Found = {}
    for name, held in resource.items():
        if held is not None:
            for add in by_property.get(name, ()):
                add(held, found)
    return found


@cache
def _composites(resource_type: str) -> tuple[Composite, ...]:
    return tuple(one for one in composites(resource_type).values() if not one.made_of)


@cache
def _presences(resource_type: str) -> tuple[tuple[str, frozenset[str]], ...]:
    """Parameters that ask whether something is there, and by which properties it would be."""
    return tuple(
        (code, frozenset(route.steps[0].name for route in found))
        for code, parameter in indexed_parameters(resource_type).items()
        if (found := [r for r in routes_of(parameter, resource_type) if r.present])
    )


def routes_of(parameter: SearchParameter, resource_type: str) -> tuple[Route, ...]:
    """Where the parameter's values stand in a resource of the type; () where it has none."""
    if parameter.code == "_id" or parameter.type == "composite":
        return ()
    try:
        found = routes(parameter.expression, resource_type) if parameter.expression else ()
    except UnknownPath:
        return ()
    kept = (_of_targets(route, parameter.targets) for route in found)
    return tuple(route for route in kept if converter(parameter.type, route) is not None)


def _of_targets(route: Route, targets: tuple[str, ...]) -> Route:
    """`composition` and `message` of Bundle are the same path, each about a type of its own."""
    if route.type != "Resource":
        return route
    *steps, last = route.steps

    def keep(item: Any) -> bool:
        return isinstance(item, dict) and item.get("resourceType") in targets

    return replace(route, steps=(*steps, replace(last, keep=keep)))
