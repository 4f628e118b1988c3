"""Invariants and paths of definitions, compiled for the type that they are asked of.

An invariant that comes to {} is neither met nor broken by the letter, and R4's definitions are
written as if it were either: `reference.startsWith('#').not() or …` is {} for a Reference
without a reference, which is in order; `repeats = true or …` is {} where `repeats` is absent,
which is not. So an empty result is looked at once more with what is absent compared as false, as
HL7's own validator does; what is empty even then (a date too imprecise to compare, a unit that
cannot be converted, a value set that nobody knows) cannot be shown to break the rule.

Sources: https://hl7.org/fhir/R4/conformance-rules.html#constraints,
https://hl7.org/fhir/R4/elementdefinition-definitions.html#ElementDefinition.constraint.expression.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

from fhir_server.fhir.definitions import type_definition
from fhir_server.fhirpath.ast import Node
from fhir_server.fhirpath.compile import Compiler
from fhir_server.fhirpath.fallback import fallen_back
from fhir_server.fhirpath.fixed import mentions_context
from fhir_server.fhirpath.items import Item, Items, is_primitive, typed
from fhir_server.fhirpath.parse import parse
from fhir_server.fhirpath.plan import Plan, Scope, Truth, truth_of
from fhir_server.fhirpath.problems import BadExpression, EvaluationError, UnknownFunction
from fhir_server.fhirpath.surely import Surely, surely

Sibling = dict[str, Any] | None

_FAULTS: Final = (EvaluationError, ArithmeticError, RecursionError)
"""What evaluating an expression on hostile content may come to."""


class Invariant:
    """An invariant of one type; safe to keep, and to share between threads."""

    __slots__ = (
        "_abstract",
        "_closed",
        "_object",
        "_open",
        "_uses_context",
        "expression",
        "surely",
        "type_name",
    )

    def __init__(self, expression: str, type_name: str, also: tuple[str, ...]) -> None:
        self.expression = expression
        self.type_name = type_name
        node, plan = _compiled(expression, type_name, also)
        self._open: Truth = truth_of(plan)
        self._closed: Truth = truth_of(_compiled(expression, type_name, also, closed=True)[1])
        self._object = not is_primitive(type_name)
        self._abstract = type_name in ("Resource", "DomainResource")
        self._uses_context = mentions_context(node)
        self.surely: Surely | None = surely(node, type_name)
        """A quick look at an object of the type, which says yes or nothing."""

    def __call__(self, node: Any, scope: Scope, sibling: Sibling = None) -> bool:
        """Whether the invariant is met, or cannot be shown to be broken.

        `node` is the JSON of an element of the type, `sibling` the `_name` of a primitive. What
        cannot be evaluated (two items where one is wanted) is broken.
        """
        if self._object and type(node) is not dict:
            return False
        name = typed(node, self.type_name) if self._abstract else self.type_name
        return self.holds(Item(node, name, sibling), scope)

    def holds(self, this: Item, scope: Scope) -> bool:
        """The same for an item, which several invariants of its type can share."""
        if self._uses_context:
            scope.context, scope.context_memo = this, {}
        try:
            found = self._open(this, scope)
            if found is None:
                found = self._closed(this, scope)
        except _FAULTS:
            return False
        return found is not False

    def outcome(self, node: Any, scope: Scope, sibling: Sibling = None) -> bool | None:
        """By the letter of FHIRPath: None where the result is {}.

        Raises:
            EvaluationError: where it has no result.
        """
        try:
            return self._open(self._focus(node, scope, sibling), scope)
        except (ArithmeticError, RecursionError) as error:
            raise EvaluationError(f"It cannot be computed: {error}") from None

    def _focus(self, node: Any, scope: Scope, sibling: Sibling) -> Item:
        if self._object and type(node) is not dict:
            raise EvaluationError(f"{self.type_name} is an object in JSON")
        this = Item(node, typed(node, self.type_name) if self._object else self.type_name, sibling)
        if self._uses_context:
            scope.context = this
            scope.context_memo = {}
        return this


Path = Callable[..., Items]
"""(node, scope, sibling=None) to what stands at the end of the path."""


@lru_cache(maxsize=4096)
def compile_invariant(expression: str, type_name: str, also: tuple[str, ...] = ()) -> Invariant:
    """The invariant of a resource type, data type or backbone path.

    `also` are the other types that the element may have, when the definition is about a choice:
    a name is right when one of them has it.

    Raises:
        BadSyntax: when it is not FHIRPath.
        BadExpression: for an element, a function or a type that does not exist.
    """
    return Invariant(expression, type_name, also)


@lru_cache(maxsize=4096)
def compile_path(expression: str, type_name: str, also: tuple[str, ...] = ()) -> Path:
    """An expression whose items are wanted; raises as `compile_invariant`.

    What it gives raises EvaluationError where there is no result.
    """
    node, plan = _compiled(expression, type_name, also)
    uses_context, run, is_object = mentions_context(node), plan.run, not is_primitive(type_name)

    def path(value: Any, scope: Scope, sibling: Sibling = None) -> Items:
        if is_object and type(value) is not dict:
            raise EvaluationError(f"{type_name} is an object in JSON")
        this = Item(value, typed(value, type_name) if is_object else type_name, sibling)
        if uses_context:
            scope.context, scope.context_memo = this, {}
        try:
            return run(this, scope)
        except (ArithmeticError, RecursionError) as error:
            raise EvaluationError(f"It cannot be computed: {error}") from None

    return path


def _compiled(
    expression: str, type_name: str, also: tuple[str, ...], *, closed: bool = False
) -> tuple[Node, Plan]:
    for name in (type_name, *also):
        _check_type(name)
    types = frozenset({type_name, *also})
    node = parse(expression)
    try:
        return node, Compiler(types, closed=closed).plan(node, types)
    except UnknownFunction:
        return node, fallen_back(expression, node, type_name)
    except RecursionError:
        raise BadExpression("The expression is too deep") from None


def _check_type(name: str) -> None:
    try:
        type_definition(name)
    except KeyError:
        raise BadExpression(f"{name} is not a type of R4") from None
