"""The language as data: every function and operator, with empty input and too many items.

The cases are cut along the chapters of https://hl7.org/fhirpath/N1/; HL7's own test suite
(https://github.com/FHIR/fhir-test-cases) tells what they have to cover.
"""

from collections.abc import Iterator
from typing import Any, Final

import pytest

from fhir_server.fhir import json
from fhir_server.fhirpath.ast import Binary, Call, TypeTest
from fhir_server.fhirpath.compile import FUNCTIONS
from fhir_server.fhirpath.fixed import nodes
from fhir_server.fhirpath.operators import OPERATIONS
from fhir_server.fhirpath.parse import parse
from fhir_server.fhirpath.problems import (
    BadExpression,
    BadSyntax,
    EvaluationError,
    FhirPathError,
)
from tests.fhirpath.ask import FOLDER, answer, resource

_ERRORS: Final = {
    "syntax": BadSyntax,
    "expression": BadExpression,
    "evaluation": EvaluationError,
}


def cases() -> Iterator[tuple[str, str, str, Any]]:
    """Chapter, expression, name of the input, expected."""
    for path in sorted((FOLDER / "cases").glob("*.json")):
        chapter = json.decode(path.read_bytes())
        for expression, expected in chapter["cases"].items():
            yield path.stem, expression, chapter["input"], expected


@pytest.mark.parametrize(
    ("expression", "name", "expected"),
    [
        pytest.param(*case[1:], id=f"{case[0]}: {case[1]}".encode("ascii", "replace").decode())
        for case in cases()
    ],
)
def test_an_expression_gives_what_the_standard_says(
    expression: str, name: str, expected: Any
) -> None:
    if isinstance(expected, dict):
        with pytest.raises(_ERRORS[expected["error"]]):
            answer(expression, resource(name))
    else:
        found = answer(expression, resource(name))
        assert [(type(one) is bool, one) for one in found] == [
            (type(one) is bool, one) for one in expected
        ]


def test_every_function_and_operator_has_a_case() -> None:
    seen: set[str] = set()
    for _, expression, _, _ in cases():
        try:
            tree = parse(expression)
        except FhirPathError:
            continue
        for node in nodes(tree):
            if isinstance(node, Call):
                seen.add(node.name)
            elif isinstance(node, Binary | TypeTest):
                seen.add(node.operator)
    assert {*FUNCTIONS, *OPERATIONS, "is", "as"} - {"htmlchecks"} <= seen
