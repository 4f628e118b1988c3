"""What compiling an expression comes to, and what it is evaluated in."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from fhir_server.fhirpath.ast import Node
from fhir_server.fhirpath.items import BOOLEANS, Item, Items, Key, is_primitive, typed
from fhir_server.fhirpath.problems import EvaluationError
from fhir_server.fhirpath.types import BOOLEAN, Types
from fhir_server.fhirpath.values import value_of

Tracer = Callable[[str, Items], None]
MemberOf = Callable[[Item, str], bool | None]
"""Whether the coded item is in the value set; None where nobody can say."""
ConformsTo = Callable[[Item, str], bool | None]
HtmlChecks = Callable[[str], bool | None]
Resolver = Callable[[str], dict[str, Any] | None]
"""A resource for a reference that is neither inside the resource nor in its Bundle."""


class Scope:
    """The resource that expressions are evaluated in, and what they may ask of outside.

    One for each resource that is checked, and used by one thread at a time: it remembers what
    expressions found that is the same for all elements of the resource, so the resource must
    not be changed meanwhile. `root` is the container when `resource` is contained, and else the
    resource itself (https://hl7.org/fhir/R4/fhirpath.html#variables); `bundle` the Bundle whose
    entries references are looked up in. Functions whose helper is None give {}.
    """

    __slots__ = (
        "bundle",
        "conforms_to",
        "context",
        "context_memo",
        "given",
        "html_checks",
        "index",
        "member_of",
        "memo",
        "now",
        "resolver",
        "resource",
        "root",
        "total",
        "trace",
    )

    def __init__(
        self,
        resource: dict[str, Any],
        root: dict[str, Any] | None = None,
        *,
        bundle: dict[str, Any] | None = None,
        resolver: Resolver | None = None,
        member_of: MemberOf | None = None,
        conforms_to: ConformsTo | None = None,
        html_checks: HtmlChecks | None = None,
        trace: Tracer | None = None,
        now: datetime | None = None,
    ) -> None:
        self.resource = Item(resource, typed(resource, "Resource"))
        self.root = self.resource if root is None else Item(root, typed(root, "Resource"))
        self.bundle = bundle
        self.resolver = resolver
        self.member_of = member_of
        self.conforms_to = conforms_to
        self.html_checks = html_checks
        self.trace = trace
        self.now = now or datetime.now(UTC)
        self.context = self.resource
        self.index: int | None = None
        self.total: Items = []
        self.given: dict[object, Items] = {}
        self.memo: dict[Hashable, Any] = {}
        self.context_memo: dict[Hashable, Any] = {}


Run = Callable[[Item, Scope], Items]
Truth = Callable[[Item, Scope], bool | None]


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """An expression, ready to run on a focus.

    `truth` is there when the result is a boolean or {}, and then quicker than `run`. `types`
    are those that items of the result may have. `path` are the steps of an expression that only
    goes down from the focus, each with the properties it goes to; () is the focus itself.
    """

    run: Run
    types: Types
    truth: Truth | None = None
    path: tuple[tuple[Key, ...], ...] | None = None
    constant: Item | None = None


class Planner(Protocol):
    """The compiler, as functions and operators see it."""

    closed: bool
    """What is absent compares as false, not as unknown: see `invariant.py`."""

    def plan(self, node: Node, focus: Types) -> Plan: ...

    def criterion(self, node: Node, focus: Types) -> Plan:
        """The same for an argument that is evaluated once for each item."""


_BOOLEAN_TYPES: Final = frozenset({BOOLEAN})


def boolean(truth: Truth) -> Plan:
    return Plan(lambda this, scope: BOOLEANS[truth(this, scope)], _BOOLEAN_TYPES, truth)


def truth_of(plan: Plan) -> Truth:
    """The plan in a place that wants a boolean."""
    if plan.truth is not None:
        return plan.truth
    run = plan.run
    return lambda this, scope: singleton_boolean(run(this, scope))


def singleton_boolean(items: Items) -> bool | None:
    """https://hl7.org/fhirpath/N1/#singleton-evaluation-of-collections: one item that is no
    boolean counts as true."""
    if not items:
        return None
    item = single(items)
    if item.type in ("boolean", BOOLEAN):
        value = value_of(item)
        return value if isinstance(value, bool) else None
    return None if is_primitive(item.type) and item.value is None else True


def single(items: Items) -> Item:
    """The only item; there is at least one.

    Raises:
        EvaluationError: when there are more.
    """
    if len(items) > 1:
        raise EvaluationError(f"One item is wanted, and there are {len(items)}")
    return items[0]
