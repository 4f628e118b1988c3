"""To which resource types a search leads: what it finds hangs on resources of these alone."""

from collections.abc import Iterator

from fhir_server.search.ast import And, Chain, Contains, Has, Node, Not, Or, Queries, Search


def types_of(search: Search) -> frozenset[str]:
    """The types that are searched, and those that its criteria pass through.

    What a resource contains is written with it.
    """
    parts = search.parts if isinstance(search, Queries) else (search,)
    return frozenset(name for part in parts for name in (part.resource_type, *_beyond(part.where)))


def _beyond(node: Node) -> Iterator[str]:
    match node:
        case And(nodes) | Or(nodes):
            for inner in nodes:
                yield from _beyond(inner)
        case Chain(target=landing) | Has(source=landing):
            yield landing
            yield from _beyond(node.node)
        case Not(inner) | Contains(node=inner):
            yield from _beyond(inner)
