"""Filtering, projection, subsetting, combining and `aggregate`.

Sources: https://hl7.org/fhirpath/N1/#filtering-and-projection, #subsetting, #combining,
#aggregates.
"""

from typing import Final

from fhir_server.fhirpath.ast import Call, Given, Node
from fhir_server.fhirpath.functions.api import (
    Function,
    on_collections,
    only,
    source_of,
    type_argument,
)
from fhir_server.fhirpath.items import NOTHING, Item, Items
from fhir_server.fhirpath.operators import distinct
from fhir_server.fhirpath.plan import Plan, Planner, Run, Scope, single, truth_of
from fhir_server.fhirpath.problems import EvaluationError
from fhir_server.fhirpath.rebase import rebased
from fhir_server.fhirpath.types import ANY, Types, has_type, narrowed, united
from fhir_server.fhirpath.values import key

MOST_ITEMS: Final = 500_000
"""That `repeat` may come to: more than any resource has that can be sent."""


def filtered(planner: Planner, source: Plan, criterion: Node) -> Plan:
    holds = truth_of(planner.criterion(criterion, source.types))
    source_run = source.run

    def run(this: Item, scope: Scope) -> Items:
        before, found = scope.index, []
        for index, item in enumerate(source_run(this, scope)):
            scope.index = index
            if holds(item, scope):
                found.append(item)
        scope.index = before
        return found

    return Plan(run, source.types)


def _where(planner: Planner, call: Call, focus: Types) -> Plan:
    return filtered(planner, source_of(planner, call, focus), call.arguments[0])


def _select(planner: Planner, call: Call, focus: Types) -> Plan:
    source = source_of(planner, call, focus)
    projection = planner.criterion(call.arguments[0], source.types)
    source_run, project = source.run, projection.run

    def run(this: Item, scope: Scope) -> Items:
        before, found = scope.index, []
        for index, item in enumerate(source_run(this, scope)):
            scope.index = index
            found += project(item, scope)
        scope.index = before
        return found

    return Plan(run, projection.types)


def _repeat(planner: Planner, call: Call, focus: Types) -> Plan:
    source = source_of(planner, call, focus)
    types, argument = source.types, call.arguments[0]
    # The projection is applied to its own results, so their types are looked for until no
    # new ones come; a chain of types is short.
    for _ in range(_MOST_TYPES):
        wider = united(types, planner.criterion(argument, types).types)
        if wider == types:
            break
        types = wider
    projection = planner.criterion(argument, types)
    return Plan(_repeated(source.run, projection.run), projection.types)


_MOST_TYPES: Final = 20


def _repeated(source: Run, project: Run) -> Run:
    def run(this: Item, scope: Scope) -> Items:
        waiting, found, known = source(this, scope), [], set()
        while waiting:
            fresh = []
            for item in (inner for one in waiting for inner in project(one, scope)):
                name = key(item)
                if name not in known:
                    known.add(name)
                    fresh.append(item)
            found += fresh
            if len(found) > MOST_ITEMS:
                raise EvaluationError(f"repeat() finds more than {MOST_ITEMS} items")
            waiting = fresh
        return found

    return run


def _of_type(planner: Planner, call: Call, focus: Types) -> Plan:
    wanted = type_argument(call)
    return kept_of_type(source_of(planner, call, focus), wanted)


def kept_of_type(source: Plan, wanted: str) -> Plan:
    run = source.run
    return Plan(
        lambda this, scope: [item for item in run(this, scope) if has_type(item.type, wanted)],
        narrowed(source.types, wanted),
    )


def _iif(planner: Planner, call: Call, focus: Types) -> Plan:
    """The focus of its arguments is the whole input, not each item of it."""
    if call.source is None:
        return _choice(planner, call.arguments, focus)
    source = planner.plan(call.source, focus)
    given = Given(source.types)
    choice = _choice(planner, tuple(rebased(one, given) for one in call.arguments), focus)
    source_run, choose = source.run, choice.run

    def run(this: Item, scope: Scope) -> Items:
        scope.given[given] = source_run(this, scope)
        return choose(this, scope)

    return Plan(run, choice.types)


def _choice(planner: Planner, arguments: tuple[Node, ...], focus: Types) -> Plan:
    holds = truth_of(planner.plan(arguments[0], focus))
    plans = [planner.plan(one, focus) for one in arguments[1:]]
    then, otherwise = plans[0].run, plans[1].run if len(plans) > 1 else None

    def run(this: Item, scope: Scope) -> Items:
        if holds(this, scope):
            return then(this, scope)
        return otherwise(this, scope) if otherwise else NOTHING

    return Plan(run, united(*(plan.types for plan in plans)))


def _aggregate(planner: Planner, call: Call, focus: Types) -> Plan:
    source = source_of(planner, call, focus)
    aggregator = planner.criterion(call.arguments[0], source.types).run
    initial = planner.plan(call.arguments[1], focus).run if len(call.arguments) > 1 else None
    source_run = source.run

    def run(this: Item, scope: Scope) -> Items:
        total = initial(this, scope) if initial else NOTHING
        before = scope.index, scope.total
        for index, item in enumerate(source_run(this, scope)):
            scope.index, scope.total = index, total
            total = aggregator(item, scope)
        scope.index, scope.total = before
        return total

    return Plan(run, ANY)


# Subsetting and combining --------------------------------------------------------------------


def _single(items: Items) -> Items:
    if items:
        single(items)
    return items


def _number(given: Items, name: str) -> int | None:
    value = only(given, (int,), name)
    return value if isinstance(value, int) else None


def _skip(items: Items, given: Items) -> Items:
    number = _number(given, "skip")
    return NOTHING if number is None else items[max(number, 0) :]


def _take(items: Items, given: Items) -> Items:
    number = _number(given, "take")
    return NOTHING if number is None else items[: max(number, 0)]


def at_index(items: Items, given: Items) -> Items:
    number = _number(given, "[]")
    return NOTHING if number is None or number < 0 else items[number : number + 1]


def _intersect(items: Items, other: Items) -> Items:
    known = set(map(key, other))
    return distinct([item for item in items if key(item) in known])


def _exclude(items: Items, other: Items) -> Items:
    known = set(map(key, other))
    return [item for item in items if key(item) not in known]


def _combined(unite: bool) -> Function:
    def build(planner: Planner, call: Call, focus: Types) -> Plan:
        source = source_of(planner, call, focus)
        other = planner.plan(call.arguments[0], focus)

        def run(this: Item, scope: Scope) -> Items:
            found = source.run(this, scope) + other.run(this, scope)
            return distinct(found) if unite else found

        return Plan(run, united(source.types, other.types))

    return Function(1, 1, build)


FUNCTIONS: Final = {
    "where": Function(1, 1, _where),
    "select": Function(1, 1, _select),
    "repeat": Function(1, 1, _repeat),
    "ofType": Function(1, 1, _of_type),
    "iif": Function(2, 3, _iif),
    "aggregate": Function(1, 2, _aggregate),
    "single": Function(0, 0, on_collections(_single)),
    "first": Function(0, 0, on_collections(lambda items: items[:1])),
    "last": Function(0, 0, on_collections(lambda items: items[-1:])),
    "tail": Function(0, 0, on_collections(lambda items: items[1:])),
    "skip": Function(1, 1, on_collections(_skip)),
    "take": Function(1, 1, on_collections(_take)),
    "intersect": Function(1, 1, on_collections(_intersect)),
    "exclude": Function(1, 1, on_collections(_exclude)),
    "union": _combined(unite=True),
    "combine": _combined(unite=False),
}
