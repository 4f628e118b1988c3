"""Expressions asked of committed resources, and answers in a form to compare."""

from functools import cache
from typing import Any, Final

from fhir_server.fhir import json
from fhir_server.fhirpath.invariant import compile_path
from fhir_server.fhirpath.items import Item
from fhir_server.fhirpath.moments import Moment
from fhir_server.fhirpath.plan import Scope
from fhir_server.fhirpath.values import Quantity, value_of
from tests.support import REPOSITORY

FOLDER: Final = REPOSITORY / "tests" / "fhirpath"


@cache
def resource(name: str) -> dict[str, Any]:
    decoded: dict[str, Any] = json.decode((FOLDER / "inputs" / f"{name}.json").read_bytes())
    return decoded


def answer(expression: str, node: dict[str, Any], type_name: str | None = None) -> list[Any]:
    """The items of the result, as `plain` tells them."""
    path = compile_path(expression, type_name or node["resourceType"])
    return [plain(item) for item in path(node, Scope(node))]


def plain(item: Item) -> Any:
    """Booleans, strings and numbers as they are; moments as literals, quantities as text."""
    value = value_of(item)
    if value is None or type(item.value) is dict:
        return item.value
    if isinstance(value, Moment):
        return f"@{value}"
    return str(value) if isinstance(value, Quantity) else value
