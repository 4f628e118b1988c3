"""StructureDefinitions with their snapshot, for readers who do not make one themselves.

The tables of R4 and UK Core have no prose: where an element has no definition of its own, it says
of which element of R4 it is.
Source: https://hl7.org/fhir/R4/structuredefinition.html#snapshot (sdf-3, sdf-8a, sdf-8b, sdf-10),
https://hl7.org/fhir/R4/elementdefinition.html (eld-18)
"""

from collections.abc import Iterator, Mapping
from typing import Any

from fhir_server.fhir.definitions import type_definition
from fhir_server.validation.profiles.library import Definition, Library
from fhir_server.validation.profiles.tree import Node, ProfileError

Element = dict[str, Any]


def with_snapshot(definition: Definition, library: Library) -> Definition:
    """The definition as the library knows it, with a snapshot where it has none.

    Raises:
        ProfileError: for one that the library does not know, or that cannot be used.
    """
    if "snapshot" in definition:
        return definition
    canonical = "|".join(filter(None, (definition["url"], str(definition.get("version", "")))))
    tree = library.tree(canonical)
    if tree is None:
        raise ProfileError(canonical, "", "it is not known")
    base = {"path": tree.name, "min": 0, "max": "*"}
    return {**definition, "snapshot": {"element": [*_written(tree, tree.name, tree.name, base)]}}


def _written(node: Node, element_id: str, path: str, base: Element) -> Iterator[Element]:
    slice_name = {"sliceName": node.slice_name} if node.slice_name else {}
    yield {"id": element_id, "path": path, **slice_name, **_whole(node.element, base)}
    for child in (node.children or {}).values():
        place = f"{element_id}.{child.name}"
        yield from _written(child, place, f"{path}.{child.name}", _base(node, child))
    for each in node.slices.values():
        yield from _written(each, f"{element_id}:{each.slice_name}", path, base)


def _whole(element: Mapping[str, Any], base: Element) -> Element:
    """With what a snapshot has to say of each element and the tables leave out."""
    definition = element.get("definition") or element.get("short") or f"As {base['path']} of R4."
    whole = {**element, "definition": definition, "base": base}
    if whole.get("isModifier"):
        whole.setdefault("isModifierReason", "R4 says so.")
    if "binding" in whole and not whole["binding"].get("valueSet"):
        strength = whole["binding"]["strength"]
        whole["binding"] = {"strength": strength, "description": "R4 names no value set."}
    if "constraint" in whole:
        whole["constraint"] = [_named(each) for each in whole["constraint"]]
    return whole


def _named(constraint: Element) -> Element:
    human = constraint.get("human") or f"Must hold: {constraint.get('expression', 'see its key')}"
    return {**constraint, "human": human}


def _base(parent: Node, child: Node) -> Element:
    """The element of R4 that it stands for; that of a resource that all have, by its first type."""
    elements = type_definition(parent.origin).elements.values()
    first = next(each for each in elements if each.base_name == child.base_name)
    most = "*" if first.max is None else f"{first.max}"
    return {"path": f"{first.owner}.{child.name}", "min": first.min, "max": most}
