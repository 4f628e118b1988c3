"""Functions of at most 50 lines, modules of at most 500: what is longer is cut, not tolerated."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import REPOSITORY

LONGEST_FUNCTION = 50
LONGEST_MODULE = 500


def _modules(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((REPOSITORY / folder).rglob("*.py"))]


MODULES = _modules("fhir_operations", "fhir_server", "operations", "tools")
STORIES = _modules("tests/stories")
"""Told in steps."""
TESTS = _modules("loadtests", "tests")
"""But for the stories, of any length of functions: the tables of cases are often part of them."""


def _name(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def _functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = min([function.lineno, *(one.lineno for one in function.decorator_list)])
    return (function.end_lineno or first) - first + 1


def test_there_are_modules_to_look_at() -> None:
    assert len(MODULES) > 50
    assert len(TESTS) > 50


def test_no_module_is_too_long() -> None:
    lines = {_name(path): len(path.read_text("utf-8").splitlines()) for path in MODULES + TESTS}
    assert {name: count for name, count in lines.items() if count > LONGEST_MODULE} == {}


@pytest.mark.parametrize("path", MODULES + STORIES, ids=_name)
def test_no_function_is_too_long(path: Path) -> None:
    too_long = {
        function.name: _length(function)
        for function in _functions(ast.parse(path.read_text("utf-8")))
        if _length(function) > LONGEST_FUNCTION
    }
    assert not too_long
