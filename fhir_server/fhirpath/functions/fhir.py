"""The functions that FHIR adds, the tree, types and utilities.

Sources: https://hl7.org/fhir/R4/fhirpath.html#functions; https://hl7.org/fhirpath/N1/#tree-navigation,
#types, #utility-functions.
"""

from collections.abc import Callable
from typing import Final

from fhir_server.fhirpath.ast import Binary, Call, Step
from fhir_server.fhirpath.functions.api import (
    Function,
    on_collections,
    only,
    source_of,
    type_argument,
)
from fhir_server.fhirpath.functions.filtering import MOST_ITEMS, filtered, kept_of_type
from fhir_server.fhirpath.items import (
    BOOLEANS,
    NOTHING,
    TYPE_INFO,
    Item,
    Items,
    children,
    descendants,
    is_primitive,
)
from fhir_server.fhirpath.moments import moment, time_of_day
from fhir_server.fhirpath.plan import Plan, Planner, Scope, boolean, single
from fhir_server.fhirpath.problems import EvaluationError
from fhir_server.fhirpath.resolve import resolve
from fhir_server.fhirpath.types import (
    ANY,
    BOOLEAN,
    DATE,
    DATE_TIME,
    SYSTEM_OF,
    TIME,
    Types,
    has_type,
)
from fhir_server.fhirpath.values import item_of, value_of

_TRUTH: Final = frozenset({BOOLEAN})

# Types and the tree --------------------------------------------------------------------------


def is_of_type(source: Plan, wanted: str) -> Plan:
    run = source.run

    def truth(this: Item, scope: Scope) -> bool | None:
        items = run(this, scope)
        return has_type(single(items).type, wanted) if items else None

    return boolean(truth)


def _is(planner: Planner, call: Call, focus: Types) -> Plan:
    return is_of_type(source_of(planner, call, focus), type_argument(call))


def _as(planner: Planner, call: Call, focus: Types) -> Plan:
    return kept_of_type(source_of(planner, call, focus), type_argument(call))


def _type(items: Items) -> Items:
    return [Item(_type_info(item.type), TYPE_INFO) for item in items]


def _type_info(name: str) -> dict[str, str]:
    namespace, _, local = name.rpartition(".")
    if namespace == "System":
        return {"namespace": "System", "name": local}
    return {"namespace": "FHIR", "name": "BackboneElement" if namespace else name}


def _children(items: Items) -> Items:
    return [child for item in items for child in children(item)]


def _descendants(items: Items) -> Items:
    found: Items = []
    for item in items:
        found += descendants(item)
        if len(found) > MOST_ITEMS:
            raise EvaluationError(f"descendants() finds more than {MOST_ITEMS} items")
    return found


# FHIR ----------------------------------------------------------------------------------------


def _extension(planner: Planner, call: Call, focus: Types) -> Plan:
    """Short for `extension.where(url = …)`; the address may not depend on the extension."""
    source = planner.plan(Step(call.source, "extension"), focus)
    return filtered(planner, source, Binary("=", Step(None, "url"), call.arguments[0]))


def _has_value(items: Items) -> Items:
    return BOOLEANS[len(items) == 1 and _valued(items[0])]


def _get_value(items: Items) -> Items:
    if len(items) != 1 or not _valued(items[0]):
        return NOTHING
    value = value_of(items[0])
    return NOTHING if value is None else [item_of(value)]


def _valued(item: Item) -> bool:
    if item.value is None or type(item.value) is dict:
        return False
    return is_primitive(item.type) or item.type in SYSTEM_OF


def _resolve(planner: Planner, call: Call, focus: Types) -> Plan:
    run = source_of(planner, call, focus).run
    return Plan(
        lambda this, scope: [found for item in run(this, scope) for found in resolve(item, scope)],
        ANY,
    )


def _asked(
    ask: Callable[[Scope], Callable[[Item, str], bool | None] | None],
) -> Function:
    """A question that the scope's helper answers, with a canonical as argument."""

    def build(planner: Planner, call: Call, focus: Types) -> Plan:
        source = source_of(planner, call, focus).run
        given = planner.plan(call.arguments[0], focus).run

        def truth(this: Item, scope: Scope) -> bool | None:
            helper, items = ask(scope), source(this, scope)
            url = only(given(this, scope), (str,), call.name)
            if helper is None or not items or not isinstance(url, str):
                return None
            return helper(single(items), url)

        return boolean(truth)

    return Function(1, 1, build)


def _html_checks(planner: Planner, call: Call, focus: Types) -> Plan:
    source = source_of(planner, call, focus).run

    def truth(this: Item, scope: Scope) -> bool | None:
        helper = scope.html_checks
        text = only(source(this, scope), (str,), call.name)
        return helper(text) if helper is not None and isinstance(text, str) else None

    return boolean(truth)


def _check_modifiers(planner: Planner, call: Call, focus: Types) -> Plan:
    source = source_of(planner, call, focus)
    known = [planner.plan(argument, focus).run for argument in call.arguments]

    def run(this: Item, scope: Scope) -> Items:
        items = source.run(this, scope)
        urls = {item.value for one in known for item in one(this, scope)}
        for item in items:
            for extension in children(item):
                if _is_modifier(item, extension) and extension.value.get("url") not in urls:
                    raise EvaluationError("There is a modifier extension that is not known")
        return items

    return Plan(run, source.types)


def _is_modifier(item: Item, extension: Item) -> bool:
    modifiers = item.value.get("modifierExtension") if type(item.value) is dict else None
    return type(modifiers) is list and any(one is extension.value for one in modifiers)


# Utilities -----------------------------------------------------------------------------------


def _trace(planner: Planner, call: Call, focus: Types) -> Plan:
    source = source_of(planner, call, focus)
    name = planner.plan(call.arguments[0], focus).run
    shown = planner.criterion(call.arguments[1], source.types).run if call.arguments[1:] else None

    def run(this: Item, scope: Scope) -> Items:
        items = source.run(this, scope)
        if scope.trace is not None:
            label = only(name(this, scope), (str,), "trace")
            told = [one for item in items for one in shown(item, scope)] if shown else items
            scope.trace(str(label or ""), told)
        return items

    return Plan(run, source.types)


def _clock(tell: Callable[[Scope], Item], type_: str) -> Function:
    def build(_planner: Planner, _call: Call, _focus: Types) -> Plan:
        return Plan(lambda _this, scope: [tell(scope)], frozenset({type_}))

    return Function(0, 0, build)


def _now(scope: Scope) -> Item:
    return Item(moment(scope.now.isoformat(timespec="milliseconds")), DATE_TIME)


def _today(scope: Scope) -> Item:
    return Item(moment(scope.now.date().isoformat()), DATE)


def _time_of_day(scope: Scope) -> Item:
    text = scope.now.time().isoformat(timespec="milliseconds")
    return Item(time_of_day(text), TIME)


FUNCTIONS: Final = {
    "is": Function(1, 1, _is),
    "as": Function(1, 1, _as),
    "type": Function(0, 0, on_collections(_type, frozenset({TYPE_INFO}))),
    "children": Function(0, 0, on_collections(_children, ANY, any_type=True)),
    "descendants": Function(0, 0, on_collections(_descendants, ANY, any_type=True)),
    "extension": Function(1, 1, _extension),
    "hasValue": Function(0, 0, on_collections(_has_value, _TRUTH)),
    "getValue": Function(0, 0, on_collections(_get_value, ANY, any_type=True)),
    "resolve": Function(0, 0, _resolve),
    "memberOf": _asked(lambda scope: scope.member_of),
    "conformsTo": _asked(lambda scope: scope.conforms_to),
    "htmlChecks": Function(0, 0, _html_checks),
    "htmlchecks": Function(0, 0, _html_checks),
    "checkModifiers": Function(0, 20, _check_modifiers),
    "trace": Function(1, 2, _trace),
    "now": _clock(_now, DATE_TIME),
    "today": _clock(_today, DATE),
    "timeOfDay": _clock(_time_of_day, TIME),
}
