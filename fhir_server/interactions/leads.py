"""Where includes lead from some resources: references to follow, and what refers to them.

https://hl7.org/fhir/R4/search.html#include. A canonical reference leads to the resources whose
url, and version if it has one, are those (https://hl7.org/fhir/R4/references.html#canonical).
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from fhir_server.access.session import StoredVersion
from fhir_server.fhir import json
from fhir_server.fhir.definitions import SearchParameter, resource_types
from fhir_server.fhir.references import parse_local
from fhir_server.search.ast import (
    Chain,
    Has,
    IdIn,
    Include,
    Node,
    Not,
    ReferenceTo,
    conjunction,
    disjunction,
)
from fhir_server.search.convert import Convert
from fhir_server.search.extract import (
    has_canonical,
    refers,
    targets_of,
    ways_of,
)
from fhir_server.search.parameters import ParameterSet
from fhir_server.search.paths import Route
from fhir_server.search.values import ReferenceValue

_ANY: Final = "*"

Names = Collection[tuple[str, str]]
"""Resources by type and id."""


@dataclass(slots=True)
class Leads:
    """No resource is among the `names` and found by one of the `nodes` besides."""

    names: set[tuple[str, str]] = field(default_factory=set)
    """What is referred to."""
    nodes: dict[str, Node] = field(default_factory=dict)
    """What else there is, to be searched for: by type."""


class Around(NamedTuple):
    """The server's base, and the search parameters that there are."""

    base: str
    known: ParameterSet

    def references(self, resource_type: str) -> dict[str, SearchParameter]:
        """The type's reference parameters, by the code under which their values stand."""
        parameters = self.known.indexed(resource_type).values()
        return {one.index: one for one in parameters if one.type == "reference"}


def leads(
    sources: Sequence[StoredVersion], includes: Sequence[Include], around: Around, seen: Names
) -> Leads:
    """Where the includes lead from the sources, but for what has been seen."""
    onwards = _Onwards(around, [include for include in includes if not include.reverse])
    for version in sources:
        onwards.add(version)
    ids = _by_type((version.type, version.id) for version in sources)
    nodes: dict[str, dict[Node, None]] = {}
    for resource_type, node in (*onwards.nodes(), *_backwards(includes, ids, around)):
        nodes.setdefault(resource_type, {})[node] = None
    names = onwards.names.difference(seen)
    known = _by_type((*seen, *names))
    return Leads(
        names,
        {name: _but(disjunction(*nodes[name]), known.get(name, ())) for name in sorted(nodes)},
    )


def _by_type(names: Iterator[tuple[str, str]] | Names) -> dict[str, list[str]]:
    ids: dict[str, list[str]] = {}
    for resource_type, resource_id in names:
        ids.setdefault(resource_type, []).append(resource_id)
    return ids


def _but(node: Node, ids: Collection[str]) -> Node:
    return conjunction(node, Not(IdIn(tuple(sorted(ids))))) if ids else node


class _Led(NamedTuple):
    """Where one reference, or all those of one resource, lead."""

    names: frozenset[tuple[str, str]]
    canonical: bool = False
    """Whether something else has to be searched for besides."""


class _Way(NamedTuple):
    """What one parameter leads to; of `targets`, None is any type."""

    parameter: SearchParameter
    routes: Sequence[tuple[Route, Convert]]
    targets: tuple[str | None, ...]
    followed: dict[str, _Led]
    """References that need not be followed again, as they are written."""


_MOST: Final = 2048
"""Versions whose references are remembered."""
_SMALL: Final = 4096
"""Bytes of those."""


_MOST_ASKED: Final = 100
"""Lists of includes for which they are."""
_Asked = tuple[tuple[Include, ...], str]


class _Before:
    """Where versions were found to lead, by their text, which says their type too."""

    def __init__(self) -> None:
        self._size = 0
        self._known: dict[_Asked, tuple[ParameterSet, dict[bytes, _Led]]] = {}

    def of(self, includes: Sequence[Include], around: Around) -> dict[bytes, _Led]:
        """By what is asked of them; to be added to with `keep`."""
        asked = (tuple(includes), around.base)
        found = self._known.get(asked)
        if found is None or found[0] is not around.known:
            if len(self._known) >= _MOST_ASKED:
                self._known.clear()
            found = self._known[asked] = (around.known, {})
        return found[1]

    def keep(self, led: dict[bytes, _Led], version: StoredVersion, one: _Led) -> None:
        if one.canonical or len(version.body) > _SMALL:
            return
        self._size += 1
        if self._size > _MOST:
            self._known.clear()
            self._size = 0
            return
        led[version.body] = one


_before: Final = _Before()


class _Onwards:
    """Follows what resources refer to."""

    def __init__(self, around: Around, includes: Sequence[Include]) -> None:
        self._around = around
        self._includes = includes
        self._before = _before.of(includes, around)
        self.names: set[tuple[str, str]] = set()
        self._canonical: dict[tuple[str, str, str], list[str]] = {}
        """Ids of resources with canonical references: by the target's type, their own, the
        parameter."""
        self._ways: dict[str, tuple[Sequence[_Way], tuple[str, ...]]] = {}
        """Of the resources of each type, and the members that they begin with."""

    def add(self, version: StoredVersion) -> None:
        led = self._before.get(version.body)
        if led is None:
            led = self._led(version)
            _before.keep(self._before, version, led)
        self.names |= led.names

    def _led(self, version: StoredVersion) -> _Led:
        if version.type not in self._ways:
            found = [*self._ways_from(version.type)]
            begun = {route.steps[0].name: None for way in found for route, _ in way.routes}
            self._ways[version.type] = found, tuple(begun)
        ways, members = self._ways[version.type]
        if not ways:
            return _Led(frozenset())
        told = json.decode_members(version.body, members)
        led = [
            self._along(version, way, convert, value)
            for way in ways
            for route, convert in way.routes
            for value in route.values(told)
        ]
        names = frozenset().union(*[one.names for one in led])
        return _Led(names, any(one.canonical for one in led))

    def _ways_from(self, resource_type: str) -> "Iterator[_Way]":
        """No more of a resource is read than the parameters that are asked for look at."""
        asked = [one for one in self._includes if one.source in (_ANY, resource_type)]
        for parameter in self._around.references(resource_type).values() if asked else ():
            codes = (_ANY, parameter.code)
            targets = tuple({one.target: None for one in asked if one.code in codes})
            if targets:
                yield _Way(parameter, ways_of(parameter, resource_type), targets, {})

    def _along(self, version: StoredVersion, way: _Way, convert: Convert, value: Any) -> _Led:
        """Most resources of a page refer to the same few."""
        told = value.get("reference") if isinstance(value, dict) else None
        if not isinstance(told, str):
            return self._follow_value(version, way, convert, value)
        led = way.followed.get(told)
        if led is None:
            led = way.followed[told] = self._follow_value(version, way, convert, value)
        return led

    def _follow_value(
        self, version: StoredVersion, way: _Way, convert: Convert, value: Any
    ) -> _Led:
        names: set[tuple[str, str]] = set()
        canonical = False
        for found in convert(value):
            if isinstance(found, ReferenceValue):
                local = parse_local(found.target, self._around.base)
                canonical |= local is None
                for target in way.targets:
                    if local is None:
                        self._look_for(version, way.parameter, target)
                    elif target in (None, local.type):
                        names.add((local.type, local.id))
        return _Led(frozenset(names), canonical)

    def _look_for(
        self, version: StoredVersion, parameter: SearchParameter, target: str | None
    ) -> None:
        """What a canonical reference of the version leads to."""
        if not refers(parameter, version.type):
            for name in targets_of(parameter, version.type):
                if target in (None, name):
                    place = name, version.type, parameter.index
                    self._canonical.setdefault(place, []).append(version.id)

    def nodes(self) -> Iterator[tuple[str, Node]]:
        """What canonical references lead to, by type."""
        for (target, source, code), ids in self._canonical.items():
            yield target, Has(source, code, (), _ids(ids), canonical=True)


def _ids(ids: Collection[str]) -> IdIn:
    return IdIn(tuple(sorted(set(ids))))


def _backwards(
    includes: Sequence[Include], ids: dict[str, list[str]], around: Around
) -> Iterator[tuple[str, Node]]:
    """What refers to the resources with the ids, by type."""
    for include in includes:
        wanted = {name: ids[name] for name in ids if include.target in (None, name)}
        if not include.reverse or not wanted:
            continue
        for source in resource_types() if include.source == _ANY else (include.source,):
            for parameter in around.references(source).values():
                if include.code in (_ANY, parameter.code):
                    for node in _referring(source, parameter, wanted, around.base):
                        yield source, node


def _referring(
    source: str, parameter: SearchParameter, ids: dict[str, list[str]], base: str
) -> Iterator[Node]:
    code = parameter.index
    named = parameter.targets or resource_types()
    targets = [f"{name}/{one}" for name in ids if name in named for one in ids[name]]
    if targets:
        yield ReferenceTo(code, (*targets, *(f"{base}/{target}" for target in targets)))
    if not refers(parameter, source):
        for name in ids:
            if name in named and has_canonical(name):
                yield Chain(code, name, (), _ids(ids[name]), canonical=True)
