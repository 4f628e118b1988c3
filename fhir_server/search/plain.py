"""Of a resource, the index values that plain criteria look at, and no others.

`match` works out all of them, which takes as long as a search that finds the resource. The criteria
by which rules ask look at two or three.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

from fhir_server.search.ast import And, Missing, Node, Not, Or, ReferenceTo, TokenIs
from fhir_server.search.extract import extracted, extractors, indexed_parameters, routes_of
from fhir_server.search.match import Values
from fhir_server.search.values import IndexValue

_KEPT: Final = 256
"""Sets of parameters that are remembered; rules ask by some fifty."""
Reading = Callable[[Mapping[str, Any]], Values]


def reading(resource_type: str, *nodes: Node) -> Reading | None:
    """What takes those values from a resource of the type; None where a criterion is not plain.

    Plain are tokens, references and presence, of parameters whose values stand in the resource.
    """
    looked_at = [_looked_at(node) for node in nodes]
    if None in looked_at:
        return None
    return _reading(resource_type, frozenset(code for codes in looked_at for code in codes or ()))


@lru_cache(maxsize=_KEPT)
def _reading(resource_type: str, codes: frozenset[str]) -> Reading | None:
    if not all(_stands_in(resource_type, code) for code in codes):
        return None
    known = indexed_parameters(resource_type)
    table = extractors([known[code] for code in codes], resource_type)

    def values(resource: Mapping[str, Any]) -> Values:
        found: dict[str, list[IndexValue]] = {}
        for code, value in extracted(resource, table):
            found.setdefault(code, []).append(value)
        return found

    return values


def _looked_at(node: Node) -> list[str] | None:
    """The codes of the parameters that decide; None for a criterion that is not plain."""
    match node:
        case And(nodes) | Or(nodes):
            inner = [_looked_at(one) for one in nodes]
            return None if None in inner else [code for found in inner for code in found or ()]
        case Not(one):
            return _looked_at(one)
        case TokenIs(code=code) | ReferenceTo(code=code) | Missing(code=code):
            return [code]
        case _:
            return None


def _stands_in(resource_type: str, code: str) -> bool:
    """Whether the parameter's values are elements, and not that there are such."""
    parameter = indexed_parameters(resource_type).get(code)
    routes = () if parameter is None else routes_of(parameter, resource_type)
    return bool(routes) and not any(route.present for route in routes)
