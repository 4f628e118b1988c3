"""The server's own FHIRPath says of each invariant what fhirpathpy says."""

from collections.abc import Iterator
from typing import Any

import pytest

from fhir_server.fhirpath.invariant import compile_invariant, compile_path
from fhir_server.fhirpath.plan import Scope
from tests.profiles.rules import (
    FOLDERS,
    Element,
    definition,
    element_type,
    elements,
    holds,
    load,
    node_path,
    rules,
)

INVARIANTS = [
    pytest.param(folder.name, element, constraint, id=constraint["key"])
    for folder in FOLDERS
    for element in elements(folder.name)
    for constraint in element.get("constraint", ())
]


def _type(element: Element) -> str:
    """Of what the invariant is asked."""
    path = str(element["path"])
    if path.endswith("value[x]"):
        return "CodeableConcept"
    return path if "." not in path else element_type(path)


def _nodes(name: str, element: Element, resource: dict[str, Any]) -> Iterator[Any]:
    if element["path"] == definition(name)["type"] != "Extension":
        yield resource
        return
    path = node_path(name, element["id"]).removeprefix(f"{resource['resourceType']}.")
    find = compile_path(path, resource["resourceType"])
    yield from (item.value for item in find(resource, Scope(resource)))


@pytest.mark.parametrize(("name", "element", "constraint"), INVARIANTS)
def test_both_engines_agree_on_an_invariant(
    name: str, element: Element, constraint: dict[str, str]
) -> None:
    invariant = compile_invariant(constraint["expression"], _type(element))
    (rule,) = [rule for rule in rules(name) if rule.name == constraint["key"]]
    found = set()
    for path in sorted((FOLDERS[0].parent / name / "examples").glob("*.json")):
        if ".outcome." not in path.name:
            resource = load(path)
            scope = Scope(resource)
            kept = all(invariant(node, scope) for node in _nodes(name, element, resource))
            assert kept == holds(rule, resource), path
            found.add(kept)
    assert found == {True, False}
