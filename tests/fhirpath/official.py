"""The constraints of HL7's and UK Core's definitions, and resources to ask them of."""

import re
import tarfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from fhir_server.fhir import json
from fhir_server.fhir.definitions import type_definition
from tests.support import PACKAGE, SHARED

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
