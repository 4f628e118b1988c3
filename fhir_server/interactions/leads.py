"""Where includes lead from some resources: references to follow, and what refers to them.

https://hl7.org/fhir/R4/search.html#include. A canonical reference leads to the resources whose
url, and version if it has one, are those (https://hl7.org/fhir/R4/references.html#canonical).
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Final

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
from fhir_server.search.extract import (
    extract,
    has_canonical,
    indexed_parameters,
    refers,
    targets_of,
)
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


def leads(
    sources: Sequence[StoredVersion], includes: Sequence[Include], base: str, seen: Names
) -> Leads:
    """Where the includes lead from the sources, but for what has been seen."""
    onwards = _Onwards(base, [include for include in includes if not include.reverse])
    for version in sources:
        onwards.add(version)
    ids = _by_type((version.type, version.id) for version in sources)
    nodes: dict[str, dict[Node, None]] = {}
    for resource_type, node in (*onwards.nodes(), *_backwards(includes, ids, base)):
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


class _Onwards:
    """Follows what resources refer to."""

    def __init__(self, base: str, includes: Sequence[Include]) -> None:
        self._base = base
        self._includes = includes
        self.names: set[tuple[str, str]] = set()
        self._canonical: dict[tuple[str, str, str], list[str]] = {}
        """Ids of resources with canonical references: by the target's type, their own, the
        parameter."""

    def add(self, version: StoredVersion) -> None:
        asked = [one for one in self._includes if one.source in (_ANY, version.type)]
        if not asked:
            return
        known = _references(version.type)
        for code, value in extract(json.decode_resource(version.body)):
            if isinstance(value, ReferenceValue) and code in known:
                for include in asked:
                    if include.code in (_ANY, code):
                        self._follow(version, code, value, include.target)

    def _follow(
        self, version: StoredVersion, code: str, value: ReferenceValue, target: str | None
    ) -> None:
        local = parse_local(value.target, self._base)
        if local is not None:
            if target in (None, local.type):
                self.names.add((local.type, local.id))
            return
        parameter = _references(version.type)[code]
        if not refers(parameter, version.type):
            for name in targets_of(parameter, version.type):
                if target in (None, name):
                    self._canonical.setdefault((name, version.type, code), []).append(version.id)

    def nodes(self) -> Iterator[tuple[str, Node]]:
        """What canonical references lead to, by type."""
        for (target, source, code), ids in self._canonical.items():
            yield target, Has(source, code, (), _ids(ids), canonical=True)


def _ids(ids: Collection[str]) -> IdIn:
    return IdIn(tuple(sorted(set(ids))))


@cache
def _references(resource_type: str) -> dict[str, SearchParameter]:
    """The type's reference parameters."""
    parameters = indexed_parameters(resource_type).items()
    return {code: parameter for code, parameter in parameters if parameter.type == "reference"}


def _backwards(
    includes: Sequence[Include], ids: dict[str, list[str]], base: str
) -> Iterator[tuple[str, Node]]:
    """What refers to the resources with the ids, by type."""
    for include in includes:
        wanted = {name: ids[name] for name in ids if include.target in (None, name)}
        if not include.reverse or not wanted:
            continue
        for source in resource_types() if include.source == _ANY else (include.source,):
            for code, parameter in _references(source).items():
                if include.code in (_ANY, code):
                    for node in _referring(source, parameter, wanted, base):
                        yield source, node


def _referring(
    source: str, parameter: SearchParameter, ids: dict[str, list[str]], base: str
) -> Iterator[Node]:
    code = parameter.code
    named = parameter.targets or resource_types()
    targets = [f"{name}/{one}" for name in ids if name in named for one in ids[name]]
    if targets:
        yield ReferenceTo(code, (*targets, *(f"{base}/{target}" for target in targets)))
    if not refers(parameter, source):
        for name in ids:
            if name in named and has_canonical(name):
                yield Chain(code, name, (), _ids(ids[name]), canonical=True)
