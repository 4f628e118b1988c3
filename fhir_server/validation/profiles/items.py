"""The values of an element in a JSON object, each with its place.

Source: https://hl7.org/fhir/R4/json.html. Shapes that are wrong are the base check's business
and are passed over here.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from fhir_server.fhir.definitions import type_definition
from fhir_server.validation.places import Place
from fhir_server.validation.primitives import PRIMITIVES
from fhir_server.validation.profiles.snapshot import choice_key
from fhir_server.validation.profiles.tree import Node, type_code


class Item(NamedTuple):
    """`sibling` is what stands under `_name`; `type` is '' where only the definition tells it."""

    value: Any
    sibling: Any
    place: Place
    type: str = ""


Gather = Callable[[Mapping[str, Any], Place], list[Item]]


def gather(node: Node) -> Gather:
    """Finds the items of an element in the object that has it."""
    if node.is_choice:
        return _of_choice(node)
    primitive = node.origin in PRIMITIVES
    return _of_primitive(node.name) if primitive else _of_complex(node.name)


def _of_complex(name: str) -> Gather:
    def items(holder: Mapping[str, Any], place: Place) -> list[Item]:
        value = holder.get(name)
        if value is None:
            return []
        whole = (place, name)
        if isinstance(value, list):
            return [Item(each, None, (whole, index)) for index, each in enumerate(value)]
        return [Item(value, None, whole)]

    return items


def _of_primitive(name: str) -> Gather:
    sibling_name = f"_{name}"

    def items(holder: Mapping[str, Any], place: Place) -> list[Item]:
        value, sibling = holder.get(name), holder.get(sibling_name)
        if value is None and sibling is None:
            return []
        whole = (place, name)
        if not isinstance(value, list) and not isinstance(sibling, list):
            return [Item(value, sibling, whole)]
        values = value if isinstance(value, list) else []
        siblings = sibling if isinstance(sibling, list) else []
        return [
            Item(_at(values, index), _at(siblings, index), (whole, index))
            for index in range(max(len(values), len(siblings)))
        ]

    return items


def _at(values: list[Any], index: int) -> Any:
    return values[index] if index < len(values) else None


def choice_keys(node: Node, entries: list[Mapping[str, Any]]) -> dict[str, str]:
    """JSON name, and that of the sibling of a primitive, -> type."""
    keys: dict[str, str] = {}
    for entry in entries:
        key, code = choice_key(node.base_name, entry), type_code(entry)
        keys[key] = code
        if code in PRIMITIVES:
            keys[f"_{key}"] = code
    return keys


def _of_choice(node: Node) -> Gather:
    """Whatever type it has, also one that the profile does not allow."""
    keys = choice_keys(node, node.base.get("type", ()))
    base_name = node.base_name

    def items(holder: Mapping[str, Any], place: Place) -> list[Item]:
        for key in holder:
            if key in keys:
                name = key.removeprefix("_")
                whole = (place, base_name)
                return [Item(holder.get(name), holder.get(f"_{name}"), whole, keys[key])]
        return []

    return items


def is_resource(type_name: str) -> bool:
    """Whether a value of the type names its type itself."""
    try:
        return type_definition(type_name).kind == "resource"
    except KeyError:
        return False
