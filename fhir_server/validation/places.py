"""Where a problem is.

A place is a linked tuple (parent, step); a step is an element's name or an index. It is written
as FHIRPath only in an issue: https://hl7.org/fhir/R4/operationoutcome.html
(`OperationOutcome.issue.expression`).
"""

import re
from typing import Final, Optional

Place = tuple[Optional["Place"], str | int]

_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_MAX_NAME: Final = 64


def expression(place: Place) -> str:
    """`CarePlan.activity[2].detail.status`"""
    steps: list[str] = []
    rest: Place | None = place
    while rest is not None:
        rest, step = rest
        steps.append(f"[{step}]" if isinstance(step, int) else f".{_name(step)}")
    return "".join(reversed(steps)).removeprefix(".")


def _name(key: str) -> str:
    """What is no FHIRPath identifier stands in backticks."""
    if len(key) <= _MAX_NAME and _IDENTIFIER.fullmatch(key):
        return key
    cut = key if len(key) <= _MAX_NAME else key[:_MAX_NAME] + "…"
    return "`" + "".join(c if c.isprintable() and c not in "`\\" else "?" for c in cut) + "`"
