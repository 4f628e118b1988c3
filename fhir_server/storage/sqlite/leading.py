"""Which criterion leads a search: the one that promises the fewest resources, as a rank."""

from collections.abc import Iterable
from typing import Final

from fhir_server.search.ast import (
    LAST_UPDATED,
    Chain,
    CompositeMatches,
    Contains,
    DateCompares,
    Everything,
    Has,
    IdIn,
    Near,
    Node,
    Nothing,
    Or,
    ReferenceTo,
    StringMatches,
    StringMode,
    TextMatches,
    TokenIn,
    TokenIs,
    UriIs,
    conjuncts,
)
from fhir_server.storage.sqlite.predicates import AnyOf
from fhir_server.storage.sqlite.sql import MANY, THOUSANDS

LEADERS: Final = (
    TokenIs,
    TokenIn,
    ReferenceTo,
    UriIs,
    StringMatches,
    DateCompares,
    Near,
    AnyOf,
)
_LEADING: Final = (*LEADERS, Chain, Has, CompositeMatches, Contains, TextMatches)
UNFIT: Final = 100
"""The rank of what leads no search."""
FEW: Final = 2
"""The last rank of those that lead before any policy of more than a few patients."""


def asked(node: CompositeMatches) -> list[int]:
    """The components that not everything satisfies; there is one at least."""
    return [i for i, inner in enumerate(node.nodes) if not isinstance(inner, Everything)]


def leader(node: Node, *, some: bool = False) -> Node | None:
    """The criterion that promises the fewest resources, if one promises few.

    Args:
        some: the first in the order of the rows are enough. Then thousands of targets or ids,
            as a policy may have them, do not lead: to try the rows finds a page sooner.
    """
    nodes = [one for one in conjuncts(node) if not (some and _names_thousands(one))]
    found = min(nodes, key=_breadth, default=Everything())
    return found if _breadth(found) < UNFIT else None


def breadth(node: Node) -> int:
    """How many resources all of its criteria are likely to leave, as a rank."""
    return min(map(_breadth, conjuncts(node)))


def _names_thousands(node: Node) -> bool:
    match node:
        case ReferenceTo(targets=names) | IdIn(ids=names):
            return len(names) > THOUSANDS
        case _:
            return False


def _breadth(node: Node) -> int:
    """How many resources a criterion is likely to leave, as a rank."""
    match node:
        case Nothing() | IdIn():
            return 0
        case ReferenceTo(targets=targets):
            return 1 if len(targets) <= 8 else 3
        case TokenIs() | TokenIn():
            return _breadth_of_codes(node)
        case UriIs() | TextMatches() | Near():
            return 5
        case StringMatches(mode=StringMode.STARTS | StringMode.EXACT | StringMode.EQUALS):
            return 4
        case Or(nodes):
            return _breadth_of_any(nodes)
        case DateCompares(code=code) if code != LAST_UPDATED:
            return 20
        case CompositeMatches(nodes=nodes):
            return min(_breadth(nodes[asked(node)[0]]) + 1, UNFIT)
        case Contains() | Chain() | Has():
            return _breadth_of_others(node)
        case _:
            return UNFIT


def _breadth_of_any(nodes: Iterable[Node]) -> int:
    ranks = [_breadth(inner) if isinstance(inner, _LEADING) else UNFIT for inner in nodes]
    return max(ranks, default=UNFIT)


def _breadth_of_codes(node: TokenIs | TokenIn) -> int:
    match node:
        case TokenIs(token=None) | TokenIn(systems=(_, *_)):
            return UNFIT
        case TokenIs(code="identifier"):
            return 2
        case TokenIs():
            return 10
        case TokenIn(pairs=pairs):
            return 11 if len(pairs) <= MANY else 15


def _breadth_of_others(node: Contains | Chain | Has) -> int:
    """Few resources contain another, whatever is asked of it."""
    inner = min(map(_breadth, conjuncts(node.node)), default=UNFIT)
    return min(inner + 3, 25 if isinstance(node, Contains) else UNFIT)
