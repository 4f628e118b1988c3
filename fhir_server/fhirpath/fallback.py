"""Expressions beyond the compiler, evaluated by fhirpathpy: slow, and right.

Only what uses a function that the compiler has not comes here (`split`, `encode` and other
functions newer than FHIRPath's first normative release); none of R4's or UK Core's does. Regular
expressions do not: Python's would let a client's text run for ever.

fhirpathpy: https://github.com/beda-software/fhirpath-py, MIT licence.
"""

import copy
from collections.abc import Callable
from decimal import Decimal
from functools import cache
from threading import Lock
from typing import Any, Final

from fhir_server.fhirpath.ast import Call, Node
from fhir_server.fhirpath.fixed import nodes
from fhir_server.fhirpath.items import Item, Items
from fhir_server.fhirpath.moments import moment
from fhir_server.fhirpath.plan import Plan, Scope
from fhir_server.fhirpath.problems import BadExpression, EvaluationError
from fhir_server.fhirpath.types import ANY, is_resource
from fhir_server.fhirpath.values import item_of

_REGULAR: Final = frozenset({"matches", "matchesFull", "replaceMatches"})
_ONE_AT_A_TIME: Final = Lock()


def fallen_back(expression: str, node: Node, type_name: str) -> Plan:
    """The plan of an expression whose parse is `node`.

    Raises:
        BadExpression: when fhirpathpy has not got the function either.
    """
    called = {one.name for one in nodes(node) if isinstance(one, Call)}
    if called & _REGULAR:
        raise BadExpression("Regular expressions and functions newer than N1 cannot be mixed")
    if unknown := sorted(called - _functions()):
        raise BadExpression(f"{unknown[0]}() is not a function that is known here")
    return Plan(lambda this, scope: _evaluated(expression, this, scope, type_name), ANY)


@cache
def _functions() -> frozenset[str]:
    # Loaded only for the rare expression that needs it: it takes as long as the server's start.
    from fhirpathpy.engine.invocations import invocation_registry

    return frozenset(invocation_registry)


@cache
def _engine() -> tuple[Callable[..., list[Any]], dict[str, Any]]:
    from fhirpathpy import evaluate
    from fhirpathpy.models import models

    return evaluate, models["r4"]


def _evaluated(expression: str, this: Item, scope: Scope, type_name: str) -> Items:
    evaluate, model = _engine()
    variables = {"resource": scope.resource.value, "rootResource": scope.root.value}
    # With a base it does not know a resource by the name of its type.
    named = is_resource(type_name) and expression[:1].isupper()
    path = expression if named else {"base": type_name, "expression": expression}
    try:
        # It marks what it evaluates, and keeps its state in the module.
        with _ONE_AT_A_TIME:
            found = evaluate(copy.deepcopy(this.value), path, copy.deepcopy(variables), model)
    except Exception as error:  # it raises whatever comes
        raise EvaluationError(f"fhirpathpy: {error}") from error
    return [_item(value) for value in found]


def _item(value: Any) -> Item:
    if isinstance(value, dict):
        return Item(value, "Element")
    if isinstance(value, bool | str | int | Decimal):
        return item_of(value)
    text = str(value)  # its own dates and quantities
    return item_of(moment(text) or text)
