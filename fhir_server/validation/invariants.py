"""Invariants: the one place where FHIRPath comes in.

Source: https://hl7.org/fhir/R4/elementdefinition.html (`ElementDefinition.constraint`).
"""

from collections.abc import Callable
from typing import Any

from fhir_server.validation.places import Report

Invariant = Callable[[Any, Any, Report], bool]
"""(value, its `_` sibling, report) -> does it hold."""


def compile_invariant(expression: str, type_name: str) -> Invariant | None:  # noqa: ARG001
    """None where expressions cannot be evaluated yet, and so are not checked."""
    return None
