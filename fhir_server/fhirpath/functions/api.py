"""How a function is told to the compiler."""

from collections.abc import Callable
from typing import NamedTuple

from fhir_server.fhirpath.ast import Call, Node, Step, Variable
from fhir_server.fhirpath.items import NOTHING, Item, Items
from fhir_server.fhirpath.plan import Plan, Planner, Run, Scope, single
from fhir_server.fhirpath.problems import BadExpression, EvaluationError
from fhir_server.fhirpath.types import ANY, Types, resolved
from fhir_server.fhirpath.values import Value, item_of, value_of

Build = Callable[[Planner, Call, Types], Plan]


class Function(NamedTuple):
    """`least` and `most` arguments, and what makes the plan of a call."""

    least: int
    most: int
    build: Build


def source_of(planner: Planner, call: Call, focus: Types) -> Plan:
    """The collection that the function is called on."""
    return planner.plan(Variable("this") if call.source is None else call.source, focus)


def type_argument(call: Call) -> str:
    """The type that `ofType(FHIR.Patient)` names, for `has_type`."""
    return resolved(_dotted(call.arguments[0]))


def _dotted(node: Node) -> str:
    if isinstance(node, Step):
        return node.name if node.source is None else f"{_dotted(node.source)}.{node.name}"
    raise BadExpression("A type is named where a type is expected, such as Patient")


def on_collections(
    compute: Callable[..., Items], types: Types = ANY, *, any_type: bool = False
) -> Build:
    """A function of the whole input and the whole of each argument.

    Without `types`, the result has those of the input, or with `any_type` any.
    """

    def build(planner: Planner, call: Call, focus: Types) -> Plan:
        source = source_of(planner, call, focus)
        given = [planner.plan(argument, focus).run for argument in call.arguments]
        result = source.types if types is None and not any_type else types
        run = source.run
        if not given:
            return Plan(lambda this, scope: compute(run(this, scope)), result)
        return Plan(_with_arguments(compute, run, given), result)

    return build


def _with_arguments(compute: Callable[..., Items], run: Run, given: list[Run]) -> Run:
    return lambda this, scope: compute(
        run(this, scope), *(argument(this, scope) for argument in given)
    )


def on_values(
    compute: Callable[..., Value | None], types: Types, *kinds: tuple[type, ...]
) -> Build:
    """A function of one value and one of each argument; {} when one of them is absent.

    `kinds` are the Python types that the input and the arguments may have.
    """

    def build(planner: Planner, call: Call, focus: Types) -> Plan:
        runs = [source_of(planner, call, focus).run]
        runs += [planner.plan(argument, focus).run for argument in call.arguments]

        def run(this: Item, scope: Scope) -> Items:
            values: list[Value] = []
            for one, kind in zip(runs, kinds, strict=False):
                value = only(one(this, scope), kind, call.name)
                if value is None:
                    return NOTHING
                values.append(value)
            found = compute(*values)
            return NOTHING if found is None else [item_of(found)]

        return Plan(run, types)

    return build


def only(items: Items, kinds: tuple[type, ...], name: str) -> Value | None:
    """The one value of a collection; None when it is empty or the item has no value.

    Raises:
        EvaluationError: for several items, or one of another type.
    """
    if not items:
        return None
    item = single(items)
    value = value_of(item)
    if value is None:
        if type(item.value) is dict:
            raise EvaluationError(f"{name}() cannot be used on {item.type}")
        return None
    if type(value) not in kinds:
        raise EvaluationError(f"{name}() cannot be used on {item.type}")
    return value
