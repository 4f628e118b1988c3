"""Invariants that are plainly kept, told without evaluating their expressions.

Each of these says yes only where the expression would; where it does not say yes the expression
is evaluated, so every issue is the general way's. They are for what most resources have many of.

Source: the constraints of R4's types, https://hl7.org/fhir/R4/datatypes.html
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from fhir_server.validation.primitives import ACCEPTED

Kept = Callable[[Mapping[str, Any]], bool]

_is_plain_day: Final = ACCEPTED["date"]
_DAY: Final = len("2026-11-22")


def _has_narrative(node: Mapping[str, Any]) -> bool:
    text = node.get("text")
    return type(text) is dict and type(text.get("div")) is str


def _lacks_one(first: str, second: str) -> Kept:
    """Of two elements that hold objects at least one is not there."""
    return lambda node: first not in node or second not in node


def _has_system(node: Mapping[str, Any]) -> bool:
    return type(node.get("system")) is str


def _is_in_order(node: Mapping[str, Any]) -> bool:
    """A period that is open, or begins and ends on whole days."""
    start, end = node.get("start"), node.get("end")
    if start is None or end is None:
        return True
    if type(start) is not str or type(end) is not str or len(start) != _DAY or len(end) != _DAY:
        return False
    return start <= end and _is_plain_day(start) is not None and _is_plain_day(end) is not None


PLAINLY_KEPT: Final[Mapping[str, Kept]] = {
    "text.`div`.exists()": _has_narrative,
    "detail.empty() or reference.empty()": _lacks_one("detail", "reference"),
    "start.hasValue().not() or end.hasValue().not() or (start <= end)": _is_in_order,
    "code.empty() or system.exists()": _has_system,
    "value.empty() or system.exists()": _has_system,
}
"""By expression, which is the same in every type that has the constraint."""
