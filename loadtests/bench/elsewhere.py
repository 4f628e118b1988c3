"""What `fhir.resources` takes for the same bytes: to parse those sent, to write those answered."""

import json
import time
from collections.abc import Callable
from statistics import median
from typing import Any

from fhir.resources import R4B

_PASSES = 5
_SECONDS = 0.02
"""Of one pass, at the least."""


def cost(sent: bytes, answered: bytes) -> float | None:
    """Microseconds of CPU; None where it takes neither.

    Args:
        sent: the body of a request, or nothing.
        answered: the body of its answer, or nothing.
    """
    try:
        calls = [call for call in (_parsing(sent), _writing(answered)) if call]
    except (ValueError, LookupError):  # pydantic's errors are ValueErrors
        return None
    if not calls:
        return None
    return sum(_cpu_of(call) for call in calls)


def _parsing(body: bytes) -> Callable[[], Any] | None:
    if not body:
        return None
    model = _model(body)
    model.model_validate_json(body)
    return lambda: model.model_validate_json(body)


def _writing(body: bytes) -> Callable[[], Any] | None:
    if not body:
        return None
    parsed = _model(body).model_validate_json(body)
    return lambda: parsed.model_dump_json()


def _model(body: bytes) -> Any:
    return R4B.get_fhir_model_class(json.loads(body)["resourceType"])


def _cpu_of(call: Callable[[], Any]) -> float:
    """The median of some passes."""
    return median(_pass(call) for _ in range(_PASSES + 1)) * 1e6


def _pass(call: Callable[[], Any]) -> float:
    began, count = time.process_time(), 0
    while time.process_time() - began < _SECONDS:
        call()
        count += 1
    return (time.process_time() - began) / count
