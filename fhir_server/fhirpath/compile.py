"""Syntax tree to plan: names become the JSON properties of R4's types before anything is run.

An element that none of the types has that an expression may meet is an error here, not an empty
result there: a definition with a slip of the pen would otherwise pass every resource. Where the
type is not known before (`descendants()`, a contained resource, a resolved reference) the
elements are looked up as the items come.

Sources: https://hl7.org/fhirpath/N1/#expressions, https://hl7.org/fhir/R4/fhirpath.html#variables.
"""

from decimal import Decimal
from typing import Final

from fhir_server.fhirpath import shapes
from fhir_server.fhirpath.ast import (
    Binary,
    Call,
    Empty,
    External,
    Given,
    Index,
    Literal,
    Moment,
    Node,
    QuantityLiteral,
    Sign,
    Step,
    TypeTest,
    Variable,
)
from fhir_server.fhirpath.fixed import is_fixed, is_trivial, mentions_context
from fhir_server.fhirpath.functions import conversions, existence, fhir, filtering, maths, texts
from fhir_server.fhirpath.functions.api import Function, only
from fhir_server.fhirpath.functions.fhir import is_of_type
from fhir_server.fhirpath.functions.filtering import at_index, kept_of_type
from fhir_server.fhirpath.items import (
    NOTHING,
    Item,
    Items,
    Key,
    chooser,
    follow,
    is_primitive,
    keys,
    step,
)
from fhir_server.fhirpath.moments import moment, time_of_day
from fhir_server.fhirpath.operators import operation
from fhir_server.fhirpath.plan import Plan, Run, Scope, Truth, boolean
from fhir_server.fhirpath.problems import BadExpression, UnknownFunction
from fhir_server.fhirpath.types import ANY, INTEGER, STRING, Types, is_a, is_resource, resolved
from fhir_server.fhirpath.values import Quantity, bounded, item_of

_FEW: Final = 6
"""Types of a choice that are tried one after the other."""
FUNCTIONS: Final[dict[str, Function]] = {
    **existence.FUNCTIONS,
    **filtering.FUNCTIONS,
    **conversions.FUNCTIONS,
    **texts.FUNCTIONS,
    **maths.FUNCTIONS,
    **fhir.FUNCTIONS,
}

_ADDRESSES: Final = {
    "ucum": "http://unitsofmeasure.org",
    "sct": "http://snomed.info/sct",
    "loinc": "http://loinc.org",
}
_PREFIXES: Final = {
    "vs-": "http://hl7.org/fhir/ValueSet/",
    "ext-": "http://hl7.org/fhir/StructureDefinition/",
}
_OPEN: Final = frozenset({"Element", "BackboneElement", "Resource", "DomainResource"})
"""Types that stand for others, which may have any element."""
_ABSTRACT_OBJECTS: Final = (frozenset({"Element"}), frozenset({"BackboneElement"}))
_MOST_PLANS: Final = 20_000
"""Nodes that are planned; `repeat` plans its argument again until its types are known."""
_FIRST_TYPE_LETTERS: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")


class Compiler:
    """`types` are those of the focus; `closed` is told in `invariant.py`."""

    def __init__(self, types: Types, *, closed: bool = False) -> None:
        self.closed = closed
        self._context = types
        self._inside = 0
        self._left = _MOST_PLANS

    def plan(self, node: Node, focus: Types) -> Plan:
        self._left -= 1
        if self._left < 0:
            raise BadExpression("The expression takes too long to compile")
        if node == shapes.ELEMENT_HAS_CONTENT and (quick := _content_check(focus)):
            return boolean(quick)
        found = self._plan(node, focus)
        if self._inside and not is_trivial(node) and is_fixed(node):
            return _remembered(found, mentions_context(node))
        return found

    def criterion(self, node: Node, focus: Types) -> Plan:
        self._inside += 1
        found = self.plan(node, focus)
        self._inside -= 1
        return found

    def _plan(self, node: Node, focus: Types) -> Plan:
        match node:
            case Step():
                return self._step(node, focus)
            case Call():
                return self._call(node, focus)
            case Binary():
                return operation(self, node, focus)
            case TypeTest():
                return self._type_test(node, focus)
            case Index():
                return self._index(node, focus)
            case Sign():
                return self._sign(node, focus)
            case External():
                return self._external(node)
            case Variable():
                return _variable(node, focus)
            case Given():
                return Plan(lambda _this, scope: scope.given[node], node.types)
        return _literal(node)

    def _step(self, node: Step, focus: Types) -> Plan:
        if node.source is None and node.name[:1] in _FIRST_TYPE_LETTERS:
            return _type_name(node.name, focus)
        source = _variable(Variable("this"), focus)
        if node.source is not None:
            source = self.plan(node.source, focus)
        return stepped(source, node.name)

    def _call(self, node: Call, focus: Types) -> Plan:
        function = FUNCTIONS.get(node.name)
        if function is None:
            raise UnknownFunction(f"{node.name}() is not a function that is known here")
        if not function.least <= len(node.arguments) <= function.most:
            wanted = f"{function.least} to {function.most}"
            raise BadExpression(
                f"{node.name}() takes {wanted} arguments, not {len(node.arguments)}"
            )
        return function.build(self, node, focus)

    def _type_test(self, node: TypeTest, focus: Types) -> Plan:
        build = is_of_type if node.operator == "is" else kept_of_type
        return build(self.plan(node.left, focus), resolved(node.type))

    def _index(self, node: Index, focus: Types) -> Plan:
        source, index = self.plan(node.source, focus), self.plan(node.index, focus).run
        run = source.run
        return Plan(
            lambda this, scope: at_index(run(this, scope), index(this, scope)), source.types
        )

    def _sign(self, node: Sign, focus: Types) -> Plan:
        operand = self.plan(node.operand, focus)
        run, factor = operand.run, -1 if node.operator == "-" else 1
        return Plan(lambda this, scope: _signed(run(this, scope), factor), operand.types)

    def _external(self, node: External) -> Plan:
        name = node.name
        match name:
            case "resource":
                return Plan(lambda _this, scope: [scope.resource], _holder(self._context))
            case "rootResource":
                return Plan(lambda _this, scope: [scope.root], ANY)
            case "context":
                return Plan(lambda _this, scope: [scope.context], self._context)
        if name in _ADDRESSES:
            return _constant(Item(_ADDRESSES[name], STRING))
        for prefix, address in _PREFIXES.items():
            if name.startswith(prefix):
                return _constant(Item(address + name.removeprefix(prefix), STRING))
        raise BadExpression(f"%{name} is not a variable that is known here")


def _holder(context: Types) -> Types:
    """The type of the resource that holds an element: what `Patient.contact` begins with."""
    names = {name.partition(".")[0] for name in context or ()}
    known = all(is_resource(name) and name not in _OPEN for name in names)
    return frozenset(names) if names and known else ANY


def _content_check(focus: Types) -> Truth | None:
    # The abstract ones stand for objects, too, of whose elements nothing is known.
    if _is_object(focus) or focus in _ABSTRACT_OBJECTS:
        return shapes.object_has_content
    known = focus is not None and all(is_primitive(name) for name in focus)
    return shapes.primitive_has_content if known else None


def _is_object(focus: Types) -> bool:
    """Whether it is known that the focus is an object of one type."""
    if focus is None or len(focus) != 1:
        return False
    (name,) = focus
    return not is_primitive(name) and not name.startswith("System.") and name not in _OPEN


def _variable(node: Variable, focus: Types) -> Plan:
    match node.name:
        case "this":
            path = () if _is_object(focus) else None
            return Plan(lambda this, _scope: [this], focus, path=path)
        case "index":
            return Plan(_this_index, frozenset({INTEGER}))
    return Plan(lambda _this, scope: scope.total, ANY)


def _this_index(_this: Item, scope: Scope) -> Items:
    return NOTHING if scope.index is None else [Item(scope.index, INTEGER)]


def _literal(node: Node) -> Plan:
    match node:
        case Literal(value=value):
            return _constant(item_of(value))
        case QuantityLiteral(value=value, unit=unit, calendar=calendar):
            return _constant(item_of(Quantity(bounded(value), unit, calendar)))
        case Moment(text=text):
            found = time_of_day(text) if text.startswith("T") else moment(text)
            if found is None:
                raise BadExpression(f"@{text} is not in the calendar")
            return _constant(item_of(found))
        case Empty():
            return Plan(lambda _this, _scope: NOTHING, frozenset())
    raise BadExpression(f"{type(node).__name__} has no plan")


def _constant(item: Item) -> Plan:
    items = [item]
    value = item.value if type(item.value) is bool else None
    truth = None if value is None else lambda _this, _scope: value
    return Plan(lambda _this, _scope: items, frozenset({item.type}), truth, constant=item)


def _remembered(plan: Plan, for_context: bool) -> Plan:
    """Evaluated once for each resource; what is about `%context`, once for each element."""
    slot, run = object(), plan.run

    def remembered(this: Item, scope: Scope) -> Items:
        memo = scope.context_memo if for_context else scope.memo
        known: Items | None = memo.get(slot)
        if known is None:
            known = memo[slot] = run(this, scope)
        return known

    return Plan(remembered, plan.types, constant=plan.constant)


def _signed(items: Items, factor: int) -> Items:
    value = only(items, (int, Decimal, Quantity), "+ or -")
    if value is None:
        return NOTHING
    if isinstance(value, Quantity):
        return [item_of(Quantity(factor * value.value, value.unit, value.calendar, value.system))]
    return [item_of(factor * value)]  # type: ignore[operator]


# Steps ---------------------------------------------------------------------------------------


def _type_name(name: str, focus: Types) -> Plan:
    """`Patient` at the beginning: the focus, if that is what it is."""
    try:
        wanted = resolved(name)
    except BadExpression:
        return stepped(_variable(Variable("this"), focus), name)
    if focus is not None and not any(is_a(one, wanted) or is_a(wanted, one) for one in focus):
        raise BadExpression(f"{name} is not what the expression is about: {_named(focus)}")
    if focus is not None and all(is_a(one, wanted) for one in focus):
        return _variable(Variable("this"), focus)
    return kept_of_type(_variable(Variable("this"), focus), wanted)


def stepped(source: Plan, name: str) -> Plan:
    """The source, and from there to the element of that name."""
    types = _types_after(source.types, name)
    if source.path is not None and _is_object(source.types):
        (type_name,) = source.types or frozenset({""})
        return _down(source, keys(type_name, name), types)
    run = source.run

    def dynamic(this: Item, scope: Scope) -> Items:
        found: Items = []
        for item in run(this, scope):
            step(item, name, found)
        return found

    return Plan(dynamic, types)


def _types_after(types: Types, name: str) -> Types:
    if types is None:
        return ANY
    found = frozenset(key.type for type_name in types for key in keys(type_name, name))
    if not found and types:
        if types & _OPEN:
            return ANY
        raise BadExpression(f"'{name}' is not an element of {_named(types)}")
    return ANY if any(is_resource(one) and one in _OPEN for one in found) else found


def _down(source: Plan, to: tuple[Key, ...], types: Types) -> Plan:
    """A step whose properties are known, from an object."""
    path = (*(source.path or ()), to)
    if len(to) > _FEW:
        return Plan(_chosen(source.run, to), types, path=path)
    if source.path == ():
        return Plan(_from_focus(to), types, path=path)
    run = source.run

    def further(this: Item, scope: Scope) -> Items:
        found: Items = []
        for item in run(this, scope):
            for key in to:
                follow(item.value, key, found)
        return found

    return Plan(further, types, path=path)


def _chosen(run: Run, to: tuple[Key, ...]) -> Run:
    choose = chooser(to)

    def further(this: Item, scope: Scope) -> Items:
        found: Items = []
        for item in run(this, scope):
            choose(item.value, found)
        return found

    return further


def _from_focus(to: tuple[Key, ...]) -> Run:
    def run(this: Item, _scope: Scope) -> Items:
        found: Items = []
        for key in to:
            follow(this.value, key, found)
        return found

    return run


def _named(types: Types) -> str:
    return ", ".join(sorted(types or ()))
