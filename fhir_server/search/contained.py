"""Searches that look for contained resources: `_contained` and `_containedType`.

Source: https://hl7.org/fhir/R4/search.html#contained. What is searched are the resources that
contain others, by what they contain: so their policy, pages and totals are as in any search.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

from fhir_server.fhir.definitions import resource_types, type_definition
from fhir_server.search.ast import (
    LAST_UPDATED,
    And,
    Contains,
    DateCompares,
    DateCovers,
    Everything,
    Has,
    IdIn,
    Missing,
    Node,
    Not,
    Nothing,
    Or,
    Query,
    SortKey,
    TextMatches,
    conjunction,
    disjunction,
)
from fhir_server.search.parameters import is_added

SORTED_BY: Final = ("_id", LAST_UPDATED)
"""What resources of whatever type can be sorted by."""


@dataclass(frozen=True, slots=True)
class Contained:
    """A search among contained resources of one type.

    `node` is what they satisfy, and `own` what those of the type do that stand by themselves;
    `also`: these are searched too. `alone`: the contained resource is what is shown, not its
    container.
    """

    resource_type: str
    own: Node
    also: bool
    alone: bool

    @property
    def node(self) -> Node:
        return inside(self.own)


def queries(contained: Contained, within: Node, sort: tuple[SortKey, ...]) -> Sequence[Query]:
    """One for each type that can contain others, so that no match comes twice.

    Args:
        within: what every match satisfies besides.
    """
    contains = Contains(contained.resource_type, contained.node)
    found: dict[str, Node] = dict.fromkeys(containers(), contains)
    if contained.also:
        beside = [contains] if contained.resource_type in found else []
        found[contained.resource_type] = disjunction(contained.own, *beside)
    return [Query(name, conjunction(within, node), sort) for name, node in found.items()]


def asks_added(node: Node) -> bool:
    """Whether it asks the resource itself for an added parameter: what is contained has none."""
    match node:
        case And(nodes) | Or(nodes):
            return any(map(asks_added, nodes))
        case Not(inner):
            return asks_added(inner)
        case Everything() | Nothing() | IdIn() | Contains() | Has():
            return False
        case _:
            return is_added(node.code)


@cache
def containers() -> tuple[str, ...]:
    """The resource types that can contain resources: not Bundle, Binary and Parameters."""
    return tuple(name for name in resource_types() if "contained" in type_definition(name).elements)


def inside(node: Node) -> Node:
    """What a contained resource must satisfy: nothing refers to it from elsewhere.

    It has no time of its own either (https://hl7.org/fhir/R4/references.html#contained), and its
    words are counted as its container's.
    """
    match node:
        case Has() | TextMatches():
            return Nothing()
        case DateCompares(code=code) | DateCovers(code=code) if code == LAST_UPDATED:
            return Nothing()
        case Missing(code=code) if code == LAST_UPDATED:
            return Everything()
        case And(nodes):
            return conjunction(*(inside(inner) for inner in nodes))
        case Or(nodes):
            return disjunction(*(inside(inner) for inner in nodes))
        case Not(inner):
            return Not(inside(inner))
        case _:
            return node
