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
Told = set[tuple[str, str | None, str | None, str | None]]


def _told(issue: Issue) -> tuple[str, str | None, str | None, str | None]:
    return issue.severity, issue.code, issue.expression, issue.rule


def _expected(example: Path) -> Told:
    file = example.with_suffix(".outcome.json")
    outcome: Any = json.loads(file.read_text("utf-8")) if file.exists() else {"issue": ()}
    return {
        (
            issue["severity"],
            issue["code"],
            issue["expression"][0],
            issue["details"]["coding"][0]["code"],
        )
        for issue in outcome["issue"]
    }


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: f"{path.parts[-3]}/{path.stem}")
def test_it_finds_what_is_wrong_and_nothing_else(example: Path) -> None:
    """But for what is told whatever the profile: no narrative, an extension's wrong address."""
    findings = CHECKER.check(fhir_json.decode_resource(example.read_bytes()))
    found = {
        _told(issue)
        for issue in findings.issues
        if issue.severity != "information" and issue.rule not in ("dom-6", "address")
    }
    assert found == _expected(example)
    assert not [one for one in findings.questions if one.strength == "required"]
