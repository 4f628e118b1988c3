"""fhirpathpy as an oracle: what it gives for an expression, in the form of `ask.plain`.

It is told of FHIR's functions that it has not got as far as a resource alone can answer them.
"""

import copy
from typing import Any, Final

from fhirpathpy import evaluate
from fhirpathpy.engine.nodes import FP_Quantity, FP_Type
from fhirpathpy.models import models

_ADDED: Final = {
    "hasValue": {
        "fn": lambda items: [
            len(items) == 1 and not isinstance(items[0], dict | list | type(None))
        ],
        "arity": {0: []},
    },
    # No reference of the resources that it is asked of resolves within them.
    "resolve": {"fn": lambda _items: [], "arity": {0: []}},
    "htmlChecks": {"fn": lambda _items: [], "arity": {0: []}},
}
_OPTIONS: Final = {"traceFn": lambda *_told: None, "userInvocationTable": _ADDED}
FAILED: Final = "failed"


def theirs(
    expression: str,
    node: dict[str, Any],
    type_name: str,
    resource: dict[str, Any],
    root: dict[str, Any],
) -> list[Any] | str:
    """The items, or FAILED when it raises: it does for whatever it does not like."""
    named = "resourceType" in node and expression[:1].isupper()
    try:
        found = evaluate(
            copy.deepcopy(node),
            # With a base it does not know the resource's type at the beginning of a path.
            expression if named else {"base": type_name, "expression": expression},
            {"resource": resource, "rootResource": root},
            models["r4"],
            _OPTIONS,
        )
        return [_plain(value) for value in found]
    except Exception:
        return FAILED


def _plain(value: Any) -> Any:
    if isinstance(value, FP_Quantity):
        return str(value)
    return f"@{value}" if isinstance(value, FP_Type) else value
