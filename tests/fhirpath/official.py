"""The constraints of HL7's and UK Core's definitions, and resources to ask them of."""

import re
import tarfile
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from fhir_server.fhir import json
from fhir_server.fhir.definitions import type_definition
from fhir_server.fhirpath.items import Item, children, typed
from tests.support import PACKAGE, SHARED, caseload

UK_CORE: Final = SHARED / "fhir" / "uk.core.r4.tgz"
_SYSTEM_TYPE: Final = "http://hl7.org/fhirpath/System."
_RESOURCE: Final = re.compile(r"package/[A-Z]\w+-.*\.json")


class Constraint(NamedTuple):
    """`types` are those of the element that it stands on."""

    key: str
    expression: str
    types: tuple[str, ...]


@cache
def package_resources(path: Path) -> tuple[dict[str, Any], ...]:
    """Every resource of a FHIR package, decoded as a request would be."""
    with tarfile.open(path) as archive:
        files = [
            archive.extractfile(member) for member in archive if _RESOURCE.fullmatch(member.name)
        ]
        decoded = [json.decode(file.read()) for file in files if file is not None]
    return tuple(one for one in decoded if isinstance(one, dict) and "resourceType" in one)


@cache
def constraints() -> tuple[Constraint, ...]:
    """All of both packages, each once for the types that it is asked of."""
    found = {
        constraint
        for package in (PACKAGE, UK_CORE)
        for resource in package_resources(package)
        if resource["resourceType"] == "StructureDefinition" and resource["kind"] != "logical"
        for constraint in _constraints(resource)
    }
    return tuple(sorted(found))


def _constraints(definition: dict[str, Any]) -> Iterator[Constraint]:
    for view in ("snapshot", "differential"):
        elements = definition.get(view, {}).get("element", [])
        for element in elements:
            for constraint in element.get("constraint", ()):
                types = _types(element, definition, elements)
                if "expression" in constraint and types:
                    yield Constraint(constraint["key"], constraint["expression"], types)


def _types(
    element: dict[str, Any], definition: dict[str, Any], elements: list[dict[str, Any]]
) -> tuple[str, ...]:
    """() for an element whose types stand only in the definition that this one is based on."""
    path: str = element["path"]
    if "." not in path:
        return (definition["type"],)
    if _is_type(path):
        return (path,)
    if "contentReference" in element:
        return (element["contentReference"].rpartition("#")[2].partition(":")[0],)
    codes = [_code(one["code"]) for one in element.get("type", ())]
    if not codes and elements is not definition.get("snapshot", {}).get("element"):
        snapshot = definition.get("snapshot", {}).get("element", [])
        same = [one for one in snapshot if one["path"] == path and one.get("type")]
        codes = [_code(one["code"]) for one in same[0]["type"]] if same else []
    return tuple(sorted({code for code in codes if _is_type(code)}))


def _code(code: str) -> str:
    return "string" if code.startswith(_SYSTEM_TYPE) else code


def _is_type(name: str) -> bool:
    try:
        type_definition(name)
    except KeyError:
        return False
    return True


class Place(NamedTuple):
    """An item of a resource, and the resources that it is in."""

    item: Item
    resource: Item
    root: Item


def places(resource: dict[str, Any]) -> Iterator[Place]:
    """Every element of a resource, as a validator meets it."""
    item = Item(resource, typed(resource, "Resource"))
    yield from _places(Place(item, item, item))


def _places(place: Place) -> Iterator[Place]:
    yield place
    item = place.item
    if type(item.value) is not dict and item.sibling is None:
        return
    for child in children(item):
        if type(child.value) is not dict or "resourceType" not in child.value:
            yield from _places(place._replace(item=child))
        elif item.type == "Bundle.entry":
            yield from _places(Place(child, child, child))
        else:
            yield from _places(place._replace(item=child, resource=child))


@cache
def base_invariants() -> dict[str, dict[str, str]]:
    """Type -> key -> expression: the errors of R4's types, where they stand on a type."""
    found: dict[str, dict[str, str]] = {}
    for definition in package_resources(PACKAGE):
        if definition["resourceType"] != "StructureDefinition":
            continue
        if definition["kind"] == "logical" or definition.get("derivation") == "constraint":
            continue
        for element in definition["snapshot"]["element"]:
            if _is_type(element["path"]):
                found[element["path"]] = {
                    one["key"]: one["expression"]
                    for one in element.get("constraint", ())
                    if one["severity"] == "error" and "expression" in one
                }
    return found


def resources(most: int) -> Iterator[dict[str, Any]]:
    """Examples of HL7 and NHS England, the synthetic caseload, and up to `most` resources of
    each type from the packages."""
    for path in sorted((SHARED / "examples").glob("*.json")):
        yield json.decode(path.read_bytes())
    for transaction in caseload():
        yield from (entry["resource"] for entry in transaction["entry"])
    left = Counter[str]()
    for package in (PACKAGE, UK_CORE):
        for resource in package_resources(package):
            left[resource["resourceType"]] += 1
            if left[resource["resourceType"]] <= most:
                yield resource
