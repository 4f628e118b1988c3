"""The policy in every part of a query: what may not be seen decides nothing.

A search is narrowed to what the caller may read, and so is every resource that a chain or a
reverse chain passes through: else the answer would tell of resources that stay hidden. The policy
is told by which values each type is asked for, so that what is masked is not found by what the
mask covers.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final, Protocol, TypeGuard, overload

from fhir_server.search.ast import (
    And,
    Chain,
    Contains,
    Everything,
    Has,
    IdIn,
    Node,
    Not,
    Nothing,
    Or,
    Queries,
    Query,
    ReferenceTo,
    Search,
    TokenIn,
    TokenIs,
    TokenLike,
    conjunction,
    conjuncts,
)

Used = frozenset[str]
"""Codes of the parameters by which a type is looked at, `code|system` where only the values of
that system are; `#Type` stands for what it contains."""
Targets = Mapping[str, frozenset[str]]
"""To what, if to anything, all that is asked for refers by a parameter; `_id`: which it is."""


_NOTHING: Final[Used] = frozenset()
_FEW: Final = 8
_PLAIN: Final = (Everything, ReferenceTo, TokenIs)
"""What most searches are made of: these lead nowhere else."""


class Readable(Protocol):
    def __call__(self, resource_type: str, used: Used, targets: Targets, /) -> Node:
        """The resources of a type that the caller may read, when they are asked for so."""


@overload
def guarded(query: Query, readable: Readable) -> Query: ...
@overload
def guarded(query: Search, readable: Readable) -> Search: ...
def guarded(query: Search, readable: Readable) -> Search:
    """The query among what may be read, by what may be read."""
    if isinstance(query, Queries):
        return replace(query, parts=tuple(_guarded(part, readable) for part in query.parts))
    return _guarded(query, readable)


def is_plain(search: Search) -> TypeGuard[Query]:
    """Whether it is of one type, and leads to no others: as short as most are."""
    if not isinstance(search, Query) or len(search.sort) > _FEW:
        return False
    if isinstance(search.where, Everything):
        return True
    nodes = conjuncts(search.where)
    return len(nodes) <= _FEW and all(map(_is_short, nodes))


def _is_short(node: Node) -> bool:
    if isinstance(node, ReferenceTo):
        return len(node.targets) <= _FEW
    return isinstance(node, _PLAIN)


def _guarded(query: Query, readable: Readable) -> Query:
    return Query(query.resource_type, conjunction(*guarded_parts(query, readable)), query.sort)


def guarded_parts(query: Query, readable: Readable) -> tuple[Node, Node]:
    """What is asked, by what may be read, and what of the type that is searched may be."""
    where, by = query.where, used(query.where)
    if query.sort:
        by |= frozenset(key.code for key in query.sort)
    allowed = readable(query.resource_type, by, targets(where))
    return _unsaid(hops_guarded(where, readable), allowed), allowed


def _unsaid(node: Node, allowed: Node) -> Node:
    """The node without references that the policy narrows to some of the same targets.

    Whatever refers to one of those is found by the node too: to ask both is to look twice.
    """
    if not any(isinstance(one, ReferenceTo) for one in conjuncts(node)):
        return node
    narrow = {one.code: one.targets for one in conjuncts(allowed) if _is_plain_reference(one)}
    return conjunction(*(one for one in conjuncts(node) if not _is_wider(one, narrow)))


def _is_wider(node: Node, narrow: Mapping[str, Sequence[str]]) -> bool:
    if not _is_plain_reference(node) or node.code not in narrow:
        return False
    targets = narrow[node.code]
    return len(targets) <= len(node.targets) and set(targets) <= set(node.targets)


def _is_plain_reference(node: Node) -> TypeGuard[ReferenceTo]:
    return isinstance(node, ReferenceTo) and not node.version


def hops_guarded(node: Node, readable: Readable) -> Node:
    """The node, with the policy of the type at the end of each hop."""
    if isinstance(node, _PLAIN):
        return node
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
            allowed = readable(landing, _at_landing(node), targets(node.node))
            return replace(node, node=conjunction(beyond, allowed))
        case _:
            return node


def _at_landing(node: Chain | Has) -> Used:
    """By what the resource at the end of a hop is looked at."""
    if isinstance(node, Has):
        return used(node.node) | {node.code}
    return used(node.node) | (_ADDRESS if node.canonical else frozenset())


_ADDRESS: Used = frozenset({"url", "version"})


def targets(node: Node) -> Targets:
    """What the node narrows down to, whatever else it asks; a policy has to look at no more."""
    if isinstance(node, ReferenceTo):
        return {node.code: frozenset(node.targets)}
    found: dict[str, frozenset[str]] = {}
    for inner in conjuncts(node):
        match inner:
            case ReferenceTo(code, named):
                found[code] = frozenset(named)
            case IdIn(ids):
                found["_id"] = frozenset(ids)
    return found


def used(node: Node) -> Used:
    """By what the node looks at the resource that it is asked of."""
    if isinstance(node, Everything):
        return _NOTHING
    return frozenset((node.code,) if isinstance(node, ReferenceTo) else _used(node))


def _used(node: Node) -> Iterator[str]:
    match node:
        case Everything() | Nothing():
            return
        case And(nodes) | Or(nodes):
            for inner in nodes:
                yield from _used(inner)
        case Not(inner):
            yield from _used(inner)
        case IdIn():
            yield "_id"
        case Contains(resource_type=name):
            yield f"#{name}"
        case Has(canonical=canonical):
            yield from _ADDRESS if canonical else ("_id",)
        case _:
            yield _by_system(node)


def _by_system(node: Node) -> str:
    match node:
        case TokenIs(code, system) | TokenLike(code, system) if system:
            return f"{code}|{system}"
        case TokenIn(code, pairs, systems) if (
            len(named := {*systems, *(system for system, _ in pairs)}) == 1
        ):
            return f"{code}|{named.pop()}"
        case Everything() | Nothing() | And() | Or() | Not() | IdIn() | Contains() | Has():
            raise TypeError(f"{node!r} has no code of its own")
        case _:
            return node.code
