"""The server's own checker on the examples of the profiles: what is expected stands beside them."""

import json
from pathlib import Path
from typing import Any

import pytest

from fhir_server.errors import Issue
from fhir_server.fhir import json as fhir_json
from fhir_server.fhir.definitions import PROFILES
from fhir_server.validation.checker import Checker

EXAMPLES = sorted(
    path for path in PROFILES.glob("*/examples/*.json") if not path.name.endswith(".outcome.json")
)
CHECKER = Checker()
LANGUAGES = "http://hl7.org/fhir/ValueSet/all-languages"
"""BCP 47 is a grammar, not a list."""
ADDRESS = ("error", "extension", "Encounter.hospitalization.extension[0].url", "address")
TOLD_OTHERWISE = {"kw-inpatient-encounter-5": ADDRESS}
"""Rules for other validators, where this server says more exactly what is wrong."""
Told = set[tuple[str, str | None, str | None, str | None]]


def _told(issue: Issue) -> tuple[str, str | None, str | None, str | None]:
    return issue.severity, issue.code, issue.expression, issue.rule


def _expected(example: Path) -> Told:
    file = example.with_suffix(".outcome.json")
    outcome: Any = json.loads(file.read_text("utf-8")) if file.exists() else {"issue": ()}
    return {_expected_of(issue) for issue in outcome["issue"]}


def _expected_of(issue: Any) -> tuple[str, str | None, str | None, str | None]:
    rule = issue["details"]["coding"][0]["code"]
    told = issue["severity"], issue["code"], issue["expression"][0], rule
    return TOLD_OTHERWISE.get(rule, told)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: f"{path.parts[-3]}/{path.stem}")
def test_it_finds_what_is_wrong_and_nothing_else(example: Path) -> None:
    """But for dom-6, which is a warning for every resource without a narrative."""
    findings = CHECKER.check(fhir_json.decode_resource(example.read_bytes()))
    found = {
        _told(issue)
        for issue in findings.issues
        if issue.severity != "information" and issue.rule != "dom-6"
    }
    assert found == _expected(example)
    open_ones = {one.value_set for one in findings.questions if one.strength == "required"}
    assert open_ones <= {LANGUAGES}
