"""What is known of dependencies' vulnerabilities fails the build; what is not known is told."""

import json
from typing import Any

import pytest

from tools.audit_dependencies import main

GOOD: dict[str, Any] = {"name": "good", "version": "1", "vulns": []}
BAD: dict[str, Any] = {
    "name": "bad",
    "version": "1",
    "vulns": [{"id": "PYSEC-2026-1", "fix_versions": ["2"], "description": "It is bad"}],
}
UNKNOWN: dict[str, Any] = {"name": "unknown", "skip_reason": "not found on PyPI"}
OWN: dict[str, Any] = {"name": "keyworking-fhir-server", "skip_reason": "not found on PyPI"}


def _audited(*dependencies: dict[str, Any]) -> int:
    return main(lambda: json.dumps({"dependencies": dependencies, "fixes": []}))


def test_a_vulnerability_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert _audited(GOOD, BAD, UNKNOWN) == 1
    assert "bad 1: PYSEC-2026-1, fixed in: 2" in capsys.readouterr().out


def test_none_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert _audited(GOOD, OWN) == 0
    told = capsys.readouterr()
    assert "no known vulnerabilities" in told.out
    assert "NOT AUDITED" not in told.err


@pytest.mark.parametrize("dependencies", [(GOOD, UNKNOWN), (UNKNOWN,), ()])
def test_what_was_not_looked_up_is_told_loudly_and_does_not_fail(
    capsys: pytest.CaptureFixture[str], dependencies: tuple[dict[str, Any], ...]
) -> None:
    assert _audited(*dependencies) == 0
    told = capsys.readouterr()
    assert "NOT AUDITED" in told.err
    assert "no known vulnerabilities" not in told.out


def test_a_service_that_cannot_be_reached_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(lambda: "") == 0
    assert "NOT AUDITED. Nothing was looked up" in capsys.readouterr().err


def test_one_that_is_accepted_by_its_cve_fails_nothing() -> None:
    accepted = {"id": "GHSA-wj6h-64fc-37mp", "aliases": ["CVE-2024-23342"], "fix_versions": []}
    assert _audited({**GOOD, "vulns": [accepted]}) == 0
    assert _audited({**GOOD, "vulns": [accepted, *BAD["vulns"]]}) == 1
