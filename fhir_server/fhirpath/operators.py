"""The operators between two operands.

Sources: https://hl7.org/fhirpath/N1/#operations; three-valued logic #boolean-logic there.
"""

from collections.abc import Callable, Hashable, Iterable
from decimal import Decimal
from typing import Final

from fhir_server.fhirpath import shapes
from fhir_server.fhirpath.ast import Binary, Node
from fhir_server.fhirpath.fixed import is_fixed, mentions_context
from fhir_server.fhirpath.items import NOTHING, Item, Items
from fhir_server.fhirpath.moments import Moment, added
from fhir_server.fhirpath.parse import CALENDAR
from fhir_server.fhirpath.plan import Plan, Planner, Scope, Truth, boolean, single, truth_of
from fhir_server.fhirpath.problems import EvaluationError
from fhir_server.fhirpath.types import DECIMAL, INTEGER, STRING, Types, united
from fhir_server.fhirpath.values import (
    WORD_OF_UCUM,
    Quantity,
    Value,
    bounded,
    equal,
    equivalent,
    item_of,
    key,
    order,
    text_of,
    value_of,
)

_LARGEST: Final = 2**31
"""Beyond it, an Integer is out of FHIRPath's range."""


def operation(planner: Planner, node: Binary, focus: Types) -> Plan:
    return OPERATIONS[node.operator](planner, node, focus)


def _both(planner: Planner, node: Binary, focus: Types) -> tuple[Plan, Plan]:
    return planner.plan(node.left, focus), planner.plan(node.right, focus)


# Logic ---------------------------------------------------------------------------------------


def _truths(planner: Planner, node: Binary, focus: Types) -> tuple[Truth, Truth]:
    left, right = _both(planner, node, focus)
    return truth_of(left), truth_of(right)


def _and(planner: Planner, node: Binary, focus: Types) -> Plan:
    left, right = _truths(planner, node, focus)

    def truth(this: Item, scope: Scope) -> bool | None:
        first = left(this, scope)
        if first is False:
            return False
        second = right(this, scope)
        return second if first or second is False else None

    return boolean(truth)


def _or(planner: Planner, node: Binary, focus: Types) -> Plan:
    left, right = _truths(planner, node, focus)

    def truth(this: Item, scope: Scope) -> bool | None:
        first = left(this, scope)
        if first:
            return True
        second = right(this, scope)
        return second if first is False or second else None

    return boolean(truth)


def _xor(planner: Planner, node: Binary, focus: Types) -> Plan:
    left, right = _truths(planner, node, focus)

    def truth(this: Item, scope: Scope) -> bool | None:
        first, second = left(this, scope), right(this, scope)
        return None if first is None or second is None else first != second

    return boolean(truth)


def _implies(planner: Planner, node: Binary, focus: Types) -> Plan:
    left, right = _truths(planner, node, focus)

    def truth(this: Item, scope: Scope) -> bool | None:
        first = left(this, scope)
        if first is False:
            return True
        second = right(this, scope)
        return second if first or second else None

    return boolean(truth)


# Equality and order --------------------------------------------------------------------------


def _equals(planner: Planner, node: Binary, focus: Types) -> Plan:
    left, right = _both(planner, node, focus)
    if left.truth is not None and right.truth is not None:
        return boolean(_same_truth(left.truth, right.truth))
    truth = _equality(left, right, planner.closed)
    if right.constant is not None and right.constant.type == STRING:
        text: str = right.constant.value
        truth = shapes.of_text(left.path, lambda value: value == text, truth)
    return boolean(truth)


def _same_truth(left: Truth, right: Truth) -> Truth:
    def truth(this: Item, scope: Scope) -> bool | None:
        first, second = left(this, scope), right(this, scope)
        return None if first is None or second is None else first is second

    return truth


def _equality(left: Plan, right: Plan, closed: bool) -> Truth:
    first_of, second_of = left.run, right.run
    absent = False if closed else None

    def truth(this: Item, scope: Scope) -> bool | None:
        first, second = first_of(this, scope), second_of(this, scope)
        if not first or not second:
            return absent
        if len(first) != len(second):
            return False
        return _all(equal(one, other) for one, other in zip(first, second, strict=True))

    return truth


def _all(answers: Iterable[bool | None]) -> bool | None:
    """False when one is, else None when one is."""
    known = True
    for answer in answers:
        if answer is False:
            return False
        known = known and answer is not None
    return True if known else None


def _equivalent(planner: Planner, node: Binary, focus: Types) -> Plan:
    left, right = _both(planner, node, focus)
    first_of, second_of = left.run, right.run

    def truth(this: Item, scope: Scope) -> bool:
        first, second = first_of(this, scope), second_of(this, scope)
        if len(first) != len(second):
            return False
        rest = list(second)
        return all(_taken(one, rest) for one in first)

    return boolean(truth)


def _taken(item: Item, rest: Items) -> bool:
    """Take an equivalent item out of the rest: the order does not matter."""
    for index, other in enumerate(rest):
        if equivalent(item, other):
            del rest[index]
            return True
    return False


def _negated(build: "Build") -> "Build":
    def negated(planner: Planner, node: Binary, focus: Types) -> Plan:
        inner = truth_of(build(planner, node, focus))

        def truth(this: Item, scope: Scope) -> bool | None:
            found = inner(this, scope)
            return None if found is None else not found

        return boolean(truth)

    return negated


def _ordered(fits: Callable[[int], bool]) -> "Build":
    def build(planner: Planner, node: Binary, focus: Types) -> Plan:
        left, right = _both(planner, node, focus)
        first_of, second_of = left.run, right.run

        def truth(this: Item, scope: Scope) -> bool | None:
            first, second = first_of(this, scope), second_of(this, scope)
            if not first or not second:
                return None
            found = order(single(first), single(second))
            return None if found is None else fits(found)

        return boolean(truth)

    return build


# Membership and union ------------------------------------------------------------------------


def _in(planner: Planner, node: Binary, focus: Types) -> Plan:
    return _membership(planner, node, focus, swapped=False)


def _contains(planner: Planner, node: Binary, focus: Types) -> Plan:
    return _membership(planner, node, focus, swapped=True)


def _membership(planner: Planner, node: Binary, focus: Types, *, swapped: bool) -> Plan:
    member, group = (node.right, node.left) if swapped else (node.left, node.right)
    item_of_, keys = planner.plan(member, focus).run, _keys(planner, group, focus)

    def truth(this: Item, scope: Scope) -> bool | None:
        items = item_of_(this, scope)
        if not items:
            return None
        return key(single(items)) in keys(this, scope)

    return boolean(truth)


def _keys(
    planner: Planner, node: Node, focus: Types
) -> Callable[[Item, Scope], frozenset[Hashable]]:
    """The keys of a collection: made once where it is the same for every element."""
    texts = shapes.one_of(node)
    if texts is not None:
        found: frozenset[Hashable] = frozenset(texts)
        return lambda _this, _scope: found
    run = planner.plan(node, focus).run
    if not is_fixed(node):
        return lambda this, scope: frozenset(map(key, run(this, scope)))
    slot, for_context = object(), mentions_context(node)

    def remembered(this: Item, scope: Scope) -> frozenset[Hashable]:
        memo = scope.context_memo if for_context else scope.memo
        known: frozenset[Hashable] | None = memo.get(slot)
        if known is None:
            known = memo[slot] = frozenset(map(key, run(this, scope)))
        return known

    return remembered


def _union(planner: Planner, node: Binary, focus: Types) -> Plan:
    left, right = _both(planner, node, focus)
    return Plan(
        lambda this, scope: distinct(left.run(this, scope) + right.run(this, scope)),
        united(left.types, right.types),
    )


def distinct(items: Items) -> Items:
    if len(items) < 2:
        return items
    found: dict[Hashable, Item] = {}
    for item in items:
        found.setdefault(key(item), item)
    return list(found.values())


# Arithmetic ----------------------------------------------------------------------------------


def _computed(compute: Callable[[Value, Value], Value | None], types: Types) -> "Build":
    def build(planner: Planner, node: Binary, focus: Types) -> Plan:
        left, right = _both(planner, node, focus)
        first_of, second_of = left.run, right.run

        def run(this: Item, scope: Scope) -> Items:
            first, second = first_of(this, scope), second_of(this, scope)
            if not first or not second:
                return NOTHING
            one, other = value_of(single(first)), value_of(single(second))
            found = None if one is None or other is None else compute(one, other)
            return NOTHING if found is None else [item_of(found)]

        return Plan(run, types)

    return build


Number = int | Decimal


def _numbers(left: Value, right: Value) -> tuple[Number, Number]:
    for value in (left, right):
        if type(value) not in (int, Decimal):
            raise EvaluationError(f"{text_of(value)[:40]!r} is not a number")
    return left, right  # type: ignore[return-value]


def _in_range(value: Number) -> Number | None:
    if isinstance(value, Decimal):
        return bounded(value)
    return value if -_LARGEST <= value < _LARGEST else None


def _plus(left: Value, right: Value) -> Value | None:
    if isinstance(left, str) and isinstance(right, str):
        return left + right
    if isinstance(left, Moment) and isinstance(right, Quantity):
        return _later(left, right, 1)
    if isinstance(left, Quantity) and isinstance(right, Quantity):
        return _summed(left, right, 1)
    one, other = _numbers(left, right)
    return _in_range(one + other)


def _minus(left: Value, right: Value) -> Value | None:
    if isinstance(left, Moment) and isinstance(right, Quantity):
        return _later(left, right, -1)
    if isinstance(left, Quantity) and isinstance(right, Quantity):
        return _summed(left, right, -1)
    one, other = _numbers(left, right)
    return _in_range(one - other)


def _later(moment: Moment, amount: Quantity, sign: int) -> Moment | None:
    # HL7's suite takes a word in quotes for the word; UCUM's months and years have no fixed end.
    unit = CALENDAR.get(amount.unit) or WORD_OF_UCUM.get(amount.unit)
    if unit is None or amount.unit in ("mo", "a"):
        raise EvaluationError(f"'{amount.unit}' cannot be added to a date or time")
    return added(moment, sign * amount.value, unit)


def _summed(left: Quantity, right: Quantity, sign: int) -> Quantity | None:
    if (left.unit, left.calendar, left.system) != (right.unit, right.calendar, right.system):
        return None
    return Quantity(left.value + sign * right.value, left.unit, left.calendar, left.system)


def _times(left: Value, right: Value) -> Value | None:
    if isinstance(left, Quantity) and isinstance(right, int | Decimal):
        return Quantity(left.value * right, left.unit, left.calendar, left.system)
    if isinstance(right, Quantity) and isinstance(left, int | Decimal):
        return _times(right, left)
    one, other = _numbers(left, right)
    return _in_range(one * other)


def _divided(left: Value, right: Value) -> Value | None:
    one, other = _numbers(left, right)
    return None if other == 0 else bounded(Decimal(one) / Decimal(other))


def _whole(left: Value, right: Value) -> Value | None:
    one, other = _numbers(left, right)
    return None if other == 0 else _in_range(int(Decimal(one) // Decimal(other)))


def _rest(left: Value, right: Value) -> Value | None:
    one, other = _numbers(left, right)
    if other == 0:
        return None
    rest = Decimal(one) % Decimal(other)
    return int(rest) if isinstance(one, int) and isinstance(other, int) else rest


def _joined(planner: Planner, node: Binary, focus: Types) -> Plan:
    """`&`: what is absent is no text."""
    left, right = _both(planner, node, focus)

    def run(this: Item, scope: Scope) -> Items:
        return [Item(_string(left.run(this, scope)) + _string(right.run(this, scope)), STRING)]

    return Plan(run, frozenset({STRING}))


def _string(items: Items) -> str:
    value = value_of(single(items)) if items else ""
    if value is not None and not isinstance(value, str):
        raise EvaluationError("& joins strings")
    return value or ""


Build = Callable[[Planner, Binary, Types], Plan]

_NUMBER: Final = frozenset({INTEGER, DECIMAL})
OPERATIONS: Final[dict[str, Build]] = {
    "and": _and,
    "or": _or,
    "xor": _xor,
    "implies": _implies,
    "=": _equals,
    "!=": _negated(_equals),
    "~": _equivalent,
    "!~": _negated(_equivalent),
    "<": _ordered(lambda found: found < 0),
    ">": _ordered(lambda found: found > 0),
    "<=": _ordered(lambda found: found <= 0),
    ">=": _ordered(lambda found: found >= 0),
    "in": _in,
    "contains": _contains,
    "|": _union,
    "+": _computed(_plus, None),
    "-": _computed(_minus, None),
    "*": _computed(_times, None),
    "/": _computed(_divided, frozenset({DECIMAL})),
    "div": _computed(_whole, frozenset({INTEGER})),
    "mod": _computed(_rest, _NUMBER),
    "&": _joined,
}
