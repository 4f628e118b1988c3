"""Existence: https://hl7.org/fhirpath/N1/#existence, and `not` of its boolean logic."""

from collections.abc import Callable
from typing import Final

from fhir_server.fhirpath import shapes
from fhir_server.fhirpath.ast import Call
from fhir_server.fhirpath.functions.api import Function, on_collections, source_of
from fhir_server.fhirpath.functions.filtering import filtered
from fhir_server.fhirpath.items import BOOLEANS, Item, Items
from fhir_server.fhirpath.operators import distinct
from fhir_server.fhirpath.plan import (
    Plan,
    Planner,
    Scope,
    Truth,
    boolean,
    truth_of,
)
from fhir_server.fhirpath.problems import EvaluationError
from fhir_server.fhirpath.types import BOOLEAN, INTEGER, Types
from fhir_server.fhirpath.values import key, value_of


def _exists(planner: Planner, call: Call, focus: Types) -> Plan:
    return boolean(_presence(planner, call, focus))


def _empty(planner: Planner, call: Call, focus: Types) -> Plan:
    there = _presence(planner, call, focus)
    return boolean(lambda this, scope: not there(this, scope))


def _presence(planner: Planner, call: Call, focus: Types) -> Truth:
    source = source_of(planner, call, focus)
    if call.arguments:
        source = filtered(planner, source, call.arguments[0])
    if source.path is not None:
        return shapes.present(source.path)
    run = source.run
    there: Truth = lambda this, scope: bool(run(this, scope))  # noqa: E731 - a plan, as all are
    return _with_texts(planner, call, focus, there)


def _with_texts(planner: Planner, call: Call, focus: Types, otherwise: Truth) -> Truth:
    """`path.where(name = 'text' and …).exists()`, which definitions ask of codes and extensions."""
    where = call.source
    if call.arguments or not isinstance(where, Call) or where.name != "where":
        return otherwise
    objects = source_of(planner, where, focus)
    texts = shapes.texts_of(where.arguments[0])
    if not objects.path or not texts:
        return otherwise
    return shapes.any_with(objects.path, texts, otherwise)


def _not(planner: Planner, call: Call, focus: Types) -> Plan:
    inner = truth_of(source_of(planner, call, focus))

    def truth(this: Item, scope: Scope) -> bool | None:
        found = inner(this, scope)
        return None if found is None else not found

    return boolean(truth)


def _all(planner: Planner, call: Call, focus: Types) -> Plan:
    source = source_of(planner, call, focus)
    holds = truth_of(planner.criterion(call.arguments[0], source.types))
    run = source.run

    def truth(this: Item, scope: Scope) -> bool:
        before, result = scope.index, True
        for index, item in enumerate(run(this, scope)):
            scope.index = index
            if holds(item, scope) is not True:
                result = False
                break
        scope.index = before
        return result

    return boolean(truth)


def _count(items: Items) -> Items:
    return [Item(len(items), INTEGER)]


def _booleans(
    judge: Callable[[list[bool]], bool],
) -> Callable[[Items], Items]:
    def compute(items: Items) -> Items:
        values = [value for item in items if isinstance(value := value_of(item), bool)]
        if len(values) < len(items):
            raise EvaluationError("allTrue() and the like take booleans")
        return BOOLEANS[judge(values)]

    return compute


def _subset(items: Items, other: Items) -> Items:
    return BOOLEANS[set(map(key, items)) <= set(map(key, other))]


def _superset(items: Items, other: Items) -> Items:
    return _subset(other, items)


def _is_distinct(items: Items) -> Items:
    return BOOLEANS[len(set(map(key, items))) == len(items)]


_TRUTH: Final = frozenset({BOOLEAN})

FUNCTIONS: Final = {
    "empty": Function(0, 0, _empty),
    "exists": Function(0, 1, _exists),
    "not": Function(0, 0, _not),
    "all": Function(1, 1, _all),
    "allTrue": Function(0, 0, on_collections(_booleans(all), _TRUTH)),
    "anyTrue": Function(0, 0, on_collections(_booleans(any), _TRUTH)),
    "allFalse": Function(0, 0, on_collections(_booleans(lambda found: not any(found)), _TRUTH)),
    "anyFalse": Function(0, 0, on_collections(_booleans(lambda found: not all(found)), _TRUTH)),
    "subsetOf": Function(1, 1, on_collections(_subset, _TRUTH)),
    "supersetOf": Function(1, 1, on_collections(_superset, _TRUTH)),
    "count": Function(0, 0, on_collections(_count, frozenset({INTEGER}))),
    "distinct": Function(0, 0, on_collections(distinct)),
    "isDistinct": Function(0, 0, on_collections(_is_distinct, _TRUTH)),
}
