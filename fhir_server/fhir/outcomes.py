"""OperationOutcome: what went wrong, where, and what is allowed.

Source: https://hl7.org/fhir/R4/operationoutcome.html.
"""

from collections.abc import Iterable

from fhir_server.errors import FhirError, Issue
from fhir_server.fhir.json import Resource


def outcome_of(error: FhirError) -> Resource:
    return outcome(error.issues, default_code=error.kind.code)


def outcome(issues: Iterable[Issue], *, default_code: str) -> Resource:
    """One issue for each problem; `default_code` for those that have no code of their own."""
    return {
        "resourceType": "OperationOutcome",
        "issue": [_issue(issue, default_code) for issue in issues],
    }


def _issue(issue: Issue, default_code: str) -> Resource:
    rendered: Resource = {
        "severity": issue.severity,
        "code": issue.code or default_code,
        "diagnostics": issue.text,
    }
    if issue.profile:
        rendered["details"] = {"coding": [{"system": issue.profile, "code": issue.rule}]}
        rendered["diagnostics"] += f" ({issue.rule} of {issue.profile})"
    if issue.expression:
        rendered["expression"] = [issue.expression]
    return rendered
