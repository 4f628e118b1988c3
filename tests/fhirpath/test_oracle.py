"""The cases against fhirpathpy: where the two differ, and why, stands in differences.json."""

from typing import Any, Final

import pytest

from fhir_server.fhir import json
from fhir_server.fhirpath.problems import FhirPathError
from tests.fhirpath.ask import FOLDER, answer, resource
from tests.fhirpath.oracle import FAILED, theirs
from tests.fhirpath.test_cases import cases

_DIFFERENCES: Final[dict[str, list[str]]] = json.decode((FOLDER / "differences.json").read_bytes())
_KNOWN: Final = {expression for listed in _DIFFERENCES.values() for expression in listed}
_CASES: Final = {expression: name for _, expression, name, _ in cases()}


def _ours(expression: str, node: dict[str, Any]) -> list[Any] | str:
    try:
        return answer(expression, node)
    except FhirPathError:
        return FAILED


def _agree(expression: str) -> bool:
    node = resource(_CASES[expression])
    return _ours(expression, node) == theirs(expression, node, node["resourceType"], node, node)


def test_the_differences_are_of_cases_that_there_are() -> None:
    assert _CASES.keys() >= _KNOWN


@pytest.mark.parametrize("expression", sorted(_CASES.keys() - _KNOWN))
def test_the_compiler_agrees_with_fhirpathpy(expression: str) -> None:
    assert _agree(expression)


@pytest.mark.parametrize("expression", sorted(_KNOWN))
def test_a_difference_is_still_one(expression: str) -> None:
    assert not _agree(expression)
