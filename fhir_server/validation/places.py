"""Where a problem is.

A place is a linked tuple (parent, step); a step is an element's name or an index. It is written
as FHIRPath only in an issue: https://hl7.org/fhir/R4/operationoutcome.html
(`OperationOutcome.issue.expression`).
"""

from typing import Optional

from fhir_server.fhir.steps import step as named

Place = tuple[Optional["Place"], str | int]


def expression(place: Place) -> str:
    """`CarePlan.activity[2].detail.status`"""
    steps: list[str] = []
    rest: Place | None = place
    while rest is not None:
        rest, step = rest
        steps.append(f"[{step}]" if isinstance(step, int) else f".{named(step)}")
    return "".join(reversed(steps)).removeprefix(".")
