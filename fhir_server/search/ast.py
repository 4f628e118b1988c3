"""The meaning of a search, as frozen typed nodes.

`parse` makes them, a backend compiles them, `match` says what they mean. Every predicate names
a search parameter by its code and holds when **any** of the resource's values for it holds.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import Final, NamedTuple


class Prefix(Enum):
    """https://hl7.org/fhir/R4/search.html#prefix"""

    EQ = "eq"
    NE = "ne"
    GT = "gt"
    LT = "lt"
    GE = "ge"
    LE = "le"
    SA = "sa"
    EB = "eb"
    AP = "ap"


@dataclass(frozen=True, slots=True)
class Everything:
    """Holds for every resource."""


@dataclass(frozen=True, slots=True)
class Nothing:
    """Holds for none."""


@dataclass(frozen=True, slots=True)
class And:
    nodes: "tuple[Node, ...]"


@dataclass(frozen=True, slots=True)
class Or:
    nodes: "tuple[Node, ...]"


@dataclass(frozen=True, slots=True)
class Not:
    node: "Node"


@dataclass(frozen=True, slots=True)
class Missing:
    """No value for the parameter."""

    code: str
    kind: str
    """The parameter's search type: a backend may keep types apart."""


@dataclass(frozen=True, slots=True)
class IdIn:
    """The logical id is one of these."""

    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TokenIs:
    """`system` None: any; '': none. `token` None: any code."""

    code: str
    system: str | None
    token: str | None


@dataclass(frozen=True, slots=True)
class TokenIn:
    """One of `pairs` of system and code, or any code of `systems` that is not in `but`."""

    code: str
    pairs: frozenset[tuple[str, str]]
    systems: tuple[str, ...] = ()
    but: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True, slots=True)
class InValueSet:
    """A code of the value set with this address, `|version` included.

    A terminology service puts a `TokenIn` in its place before a backend is asked. `local` is
    `ValueSet/id` where the address is one on this server; `place` is the parameter as written.
    """

    code: str
    url: str
    local: str = ""
    place: str = ""


@dataclass(frozen=True, slots=True)
class Subsumes:
    """The code itself or what it subsumes (`below`), or what subsumes it; else as `InValueSet`."""

    code: str
    system: str
    token: str
    below: bool = True
    place: str = ""


@dataclass(frozen=True, slots=True)
class TokenLike:
    """As TokenIs, whatever the case of A to Z in the code; `token` has none of the capitals."""

    code: str
    system: str | None
    token: str


class StringMode(Enum):
    """GT to LE compare by the code points of the folded texts."""

    STARTS = "starts"
    CONTAINS = "contains"
    EXACT = "exact"
    ENDS = "ends"
    EQUALS = "equals"
    GT = "gt"
    LT = "lt"
    GE = "ge"
    LE = "le"


@dataclass(frozen=True, slots=True)
class StringMatches:
    """`text` is folded, but for EXACT."""

    code: str
    mode: StringMode
    text: str


@dataclass(frozen=True, slots=True)
class TextMatches:
    """The words stand one after the other in a text; with `prefix` the last may go on.

    `words` are folded, with a space between, as `words.running_words` makes them.
    """

    code: str
    words: str
    prefix: bool = False


@dataclass(frozen=True, slots=True)
class ReferenceTo:
    """A reference to one of `targets`; `version` '' matches every version."""

    code: str
    targets: tuple[str, ...]
    version: str = ""


@dataclass(frozen=True, slots=True)
class UriIs:
    code: str
    uri: str


@dataclass(frozen=True, slots=True)
class UriBelow:
    """`stem` itself, or an address that goes on after it with a slash."""

    code: str
    stem: str


@dataclass(frozen=True, slots=True)
class DateCompares:
    """Against `[low, high)`; for AP already widened by the parser."""

    code: str
    prefix: Prefix
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class DateCovers:
    """All of `[low, high)` lies within the value."""

    code: str
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class NumberCompares:
    """`value` for the ordering prefixes; `[low, high)` for EQ and NE, `[low, high]` for AP."""

    code: str
    prefix: Prefix
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class QuantityCompares:
    """As NumberCompares; `system` '' with `unit`: the unit as code or as text; both '': any."""

    code: str
    prefix: Prefix
    value: float
    low: float
    high: float
    system: str
    unit: str


@dataclass(frozen=True, slots=True)
class Near:
    """At most `distance` metres from a place, in degrees; the longitude is below 180."""

    code: str
    latitude: float
    longitude: float
    distance: float


@dataclass(frozen=True, slots=True)
class CompositeMatches:
    """One element satisfies all the nodes, each of them about its component.

    A predicate, an Or of predicates, or Everything: an element has values for each component.
    """

    code: str
    nodes: "tuple[Node, ...]"


@dataclass(frozen=True, slots=True)
class Differs:
    """The parameter has a value that does not satisfy the node, a predicate on it."""

    code: str
    node: "Predicate"


@dataclass(frozen=True, slots=True)
class Chain:
    """By the parameter it refers to a resource of type `target` for which `node` holds.

    `forms` are what stands before the id in such a reference; a `canonical` one has none, but
    names the resource by its url, and perhaps its version
    (https://hl7.org/fhir/R4/references.html#canonical).
    """

    code: str
    target: str
    forms: tuple[str, ...]
    node: "Node"
    canonical: bool = False


@dataclass(frozen=True, slots=True)
class Has:
    """A resource of type `source`, for which `node` holds, refers to it by the parameter.

    `forms` and `canonical` as in a Chain.
    """

    source: str
    code: str
    forms: tuple[str, ...]
    node: "Node"
    canonical: bool = False


@dataclass(frozen=True, slots=True)
class Contains:
    """It contains a resource of the type for which `node` holds."""

    resource_type: str
    node: "Node"


Predicate = (
    Missing
    | IdIn
    | TokenIs
    | TokenIn
    | TokenLike
    | StringMatches
    | TextMatches
    | ReferenceTo
    | UriIs
    | UriBelow
    | DateCompares
    | DateCovers
    | NumberCompares
    | QuantityCompares
    | Near
    | CompositeMatches
    | Differs
)
Terminological = InValueSet | Subsumes
"""What only a terminology service can say."""
Node = Everything | Nothing | And | Or | Not | Chain | Has | Contains | Terminological | Predicate

LAST_UPDATED: Final = "_lastUpdated"


@dataclass(frozen=True, slots=True)
class SortKey:
    """Resources without a value come last, in either direction."""

    code: str
    kind: str
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Include:
    """`_include` (`reverse` False) or `_revinclude`: `source:code[:target]`.

    `source` and `code` may be `*`: any. `iterate`: also of what was included.
    """

    source: str
    code: str
    target: str | None = None
    reverse: bool = False
    iterate: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """A search of one resource type."""

    resource_type: str
    where: Node = field(default_factory=Everything)
    sort: tuple[SortKey, ...] = ()
    narrowed: "Narrowed | None" = field(default=None, compare=False, repr=False)


class Narrowed(NamedTuple):
    """Of what the criteria of a search are made, where a part is the same object in many."""

    where: Node
    """The very object that the search has, else this is of another."""
    asked: Node
    within: Node
    """What comes again, so that what satisfies it may be kept."""

    @classmethod
    def to(cls, asked: Node, within: Node) -> "Narrowed":
        return cls(conjunction(asked, within), asked, within)


@dataclass(frozen=True, slots=True)
class KeptQuery(Query):
    """One that comes again as the very same object: what a store makes of it may be kept."""


@dataclass(frozen=True, slots=True)
class Queries:
    """A search of several resource types as one: each has its own criteria, all one order."""

    parts: tuple[Query, ...]
    sort: tuple[SortKey, ...] = ()


Search = Query | Queries


def conjunction(*nodes: Node) -> Node:
    """`And` without needless nesting."""
    flat: list[Node] = []
    for node in nodes:
        match node:
            case Everything():
                continue
            case Nothing():
                return node
            case And(inner):
                flat.extend(inner)
            case _:
                flat.append(node)
    if not flat:
        return Everything()
    return flat[0] if len(flat) == 1 else And(tuple(flat))


def conjuncts(node: Node) -> tuple[Node, ...]:
    return node.nodes if isinstance(node, And) else (node,)


def disjunction(*nodes: Node) -> Node:
    """`Or` without needless nesting."""
    flat: list[Node] = []
    for node in nodes:
        flat.extend(node.nodes if isinstance(node, Or) else (node,))
    if not flat:
        return Nothing()
    return flat[0] if len(flat) == 1 else Or(tuple(flat))


def component(code: str, index: int) -> str:
    """The code under which a backend keeps a component of a composite parameter."""
    return f"{code}{_COMPONENT}{index}"


def is_component(code: str) -> bool:
    """Whether values under the code are of a component of a composite parameter."""
    return _COMPONENT in code


_COMPONENT: Final = "$"
