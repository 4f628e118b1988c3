"""The policy in every part of a query: what may not be seen decides nothing.

A search is narrowed to what the caller may read, and so is every resource that a chain or a
reverse chain passes through: else the answer would tell of resources that stay hidden.
"""

from collections.abc import Callable
from dataclasses import replace

from fhir_server.search.ast import (
    And,
    Chain,
    Contains,
    Has,
    Node,
    Not,
    Or,
    Queries,
    Query,
    Search,
    conjunction,
)

Readable = Callable[[str], Node]
"""The resources of a type that the caller may read."""


def guarded(query: Search, readable: Readable) -> Search:
    """The query among what may be read, by what may be read."""
    if isinstance(query, Queries):
        return replace(query, parts=tuple(_guarded(part, readable) for part in query.parts))
    return _guarded(query, readable)


def _guarded(query: Query, readable: Readable) -> Query:
    allowed = readable(query.resource_type)
    return replace(query, where=conjunction(hops_guarded(query.where, readable), allowed))


def hops_guarded(node: Node, readable: Readable) -> Node:
    """The node, with the policy of the type at the end of each hop."""
    match node:
        case And(nodes):
            return And(tuple(hops_guarded(inner, readable) for inner in nodes))
        case Or(nodes):
            return Or(tuple(hops_guarded(inner, readable) for inner in nodes))
        case Not(inner):
            return Not(hops_guarded(inner, readable))
        case Contains():
            return replace(node, node=hops_guarded(node.node, readable))
        case Chain(target=landing) | Has(source=landing):
            beyond = hops_guarded(node.node, readable)
            return replace(node, node=conjunction(beyond, readable(landing)))
        case _:
            return node
