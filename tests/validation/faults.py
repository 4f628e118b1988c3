"""Single faults of a resource, and whether two of them have to do with each other.

Beside the changes that R4 alone can tell of (`mutating`) those that a profile does: a code, url or
other text that is another one, an item that stands twice, one of several items that is left out.
"""

from collections.abc import Iterator
from typing import Any, Final

from fhir_server.fhir.definitions import type_definition
from fhir_server.validation.objects import is_primitive
from fhir_server.validation.places import Place, expression
from tests.validation.mutating import Json, Mutation, Path, mutations

_ALTERED: Final = ("canonical", "code", "id", "string", "uri", "url")


def faults(resource: Json) -> Iterator[Mutation]:
    """Each is one; leaving out an array of several items would be as many."""
    for each in mutations(resource):
        is_drop = each.kind in ("optional", "required")
        if not is_drop or _size(resource, each.path) < 2:
            yield each
    root: Place = (None, resource["resourceType"])
    yield from _of_items(resource, resource["resourceType"], (), root)


def _size(resource: Json, path: Path) -> int:
    value: Any = resource
    for step in path:
        value = value[step]
    return len(value) if isinstance(value, list) else 1


def _of_items(node: Json, type_name: str, path: Path, place: Place) -> Iterator[Mutation]:
    definition = type_definition(type_name)
    for name, value in node.items():
        element = definition.elements.get(name)
        if element is None or name == "resourceType":
            continue
        at: Place = (place, element.base_name)
        made = f"{element.owner}.{name}"
        if isinstance(value, list):
            yield from _of_array(value, (element.type, made), (*path, name), at)
        elif is_primitive(element) and element.type in _ALTERED:
            altered = f"{value}x"
            yield Mutation("altered", element.type, made, expression(at), (*path, name), altered)
        for index, item in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(item, dict):
                inner = (at, index) if isinstance(value, list) else at
                steps = (*path, name, *((index,) if isinstance(value, list) else ()))
                of = item["resourceType"] if element.type == "Resource" else element.type
                yield from _of_items(item, of, steps, inner)


def _of_array(values: list[Any], of: tuple[str, str], path: Path, at: Place) -> Iterator[Mutation]:
    type_, made = of
    for index in range(len(values)):
        without = [each for n, each in enumerate(values) if n != index]
        if without:
            yield Mutation("left out", type_, made, expression(at), path, without)
        twice = [*values, values[index]]
        yield Mutation("twice", type_, made, expression(at), path, twice)
