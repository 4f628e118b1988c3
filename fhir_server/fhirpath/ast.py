"""The syntax tree of a FHIRPath expression.

Source: https://hl7.org/fhirpath/N1/grammar.html.
"""

from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Literal:
    """A boolean, string or number; `value` is int for an Integer and Decimal for a Decimal."""

    value: bool | str | int | Decimal


@dataclass(frozen=True, slots=True)
class Empty:
    """`{}`"""


@dataclass(frozen=True, slots=True)
class Moment:
    """`@2026-11-22T10:00`; `text` is without the @, and begins with T for a time."""

    text: str


@dataclass(frozen=True, slots=True)
class QuantityLiteral:
    """`4 days` or `4 'mg'`; `calendar` tells the first from the second."""

    value: Decimal
    unit: str
    calendar: bool


@dataclass(frozen=True, slots=True)
class External:
    """`%resource`, %`vs-name`, %'name'"""

    name: str


@dataclass(frozen=True, slots=True)
class Variable:
    """`$this`, `$index`, `$total`; the name is without the $."""

    name: str


@dataclass(frozen=True, slots=True)
class Step:
    """A name, after a dot or at the beginning (`source` None)."""

    source: "Node | None"
    name: str


@dataclass(frozen=True, slots=True)
class Call:
    """A function, on `source` or on the focus (None)."""

    source: "Node | None"
    name: str
    arguments: "tuple[Node, ...]"


@dataclass(frozen=True, slots=True)
class Index:
    source: "Node"
    index: "Node"


@dataclass(frozen=True, slots=True)
class Sign:
    """Unary `+` or `-`."""

    operator: str
    operand: "Node"


@dataclass(frozen=True, slots=True)
class Binary:
    operator: str
    left: "Node"
    right: "Node"


@dataclass(frozen=True, slots=True)
class TypeTest:
    """`left is Type`, `left as Type`; the name may be qualified (`FHIR.Patient`)."""

    operator: str
    left: "Node"
    type: str


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """A collection that was evaluated before; only the compiler makes these."""

    types: "frozenset[str] | None"


Node = (
    Literal
    | Empty
    | Moment
    | QuantityLiteral
    | External
    | Variable
    | Step
    | Call
    | Index
    | Sign
    | Binary
    | TypeTest
    | Given
)
