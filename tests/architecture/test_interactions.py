"""One FHIR interaction is one file, opened by a link to its section of the standard."""

import ast
from pathlib import Path

import pytest

from fhir_server.interactions.table import ROUTER
from tests.support import REPOSITORY

FOLDER = REPOSITORY / "fhir_server" / "interactions"
TESTS = REPOSITORY / "tests" / "http"
STANDARD = "https://hl7.org/fhir/R4/"


def _performs(path: Path) -> bool:
    tree = ast.parse(path.read_text("utf-8"))
    return any(
        isinstance(node, ast.AsyncFunctionDef) and node.name == "perform" for node in tree.body
    )


PERFORMING = [path for path in sorted(FOLDER.glob("*.py")) if _performs(path)]
NAMES = [path.stem for path in PERFORMING]


def test_every_interaction_of_the_server_is_looked_at() -> None:
    assert set(NAMES) >= {"read", "vread", "create", "update", "delete", "history", "search"}


@pytest.mark.parametrize("path", PERFORMING, ids=NAMES)
def test_begins_with_a_link_to_the_standard(path: Path) -> None:
    opening = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    assert STANDARD in opening


@pytest.mark.parametrize("name", NAMES)
def test_is_in_the_table_of_routes(name: str) -> None:
    routed = {route.interaction.perform.__module__.rpartition(".")[2] for route in ROUTER.routes}
    # A transaction comes to the same address as a batch, which tells them apart by their type.
    assert name in routed | {"transaction"}


@pytest.mark.parametrize("name", NAMES)
def test_has_a_test_file_that_begins_with_the_same_link(name: str) -> None:
    path = TESTS / f"test_{name}.py"
    assert STANDARD in (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "")
