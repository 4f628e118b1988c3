"""FHIRPath Patch: changes to a resource, told as a Parameters resource.

Source: https://hl7.org/fhir/R4/fhirpatch.html.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from fhir_server.errors import FhirError, Issue, Kind
from fhir_server.fhir.definitions import ElementDefinition, TypeDefinition, type_definition
from fhir_server.fhir.json import Resource
from fhir_server.fhir.locate import BadPath, Place, locate

Parts = Mapping[str, Any]


class _BadOperation(ValueError):
    """An operation cannot be carried out; the text says why."""


def apply(resource: Resource, parameters: Resource) -> Resource:
    """The resource after all operations, in order; the one given stays as it is.

    Raises:
        FhirError: INVALID for an operation that is not well formed or does not fit the
            resource, with its place in the Parameters.
    """
    patched = copy.deepcopy(resource)
    for index, parameter in enumerate(parameters.get("parameter", ())):
        place = f"Parameters.parameter[{index}]"
        try:
            if parameter.get("name") != "operation":
                raise _BadOperation(f"'{parameter.get('name')}' is not known; 'operation' is")
            _carry_out(patched, parameter.get("part", ()))
        except (_BadOperation, BadPath) as error:
            raise FhirError(Kind.INVALID, Issue(str(error), place)) from None
    return patched


def _carry_out(resource: Resource, given: Sequence[Resource]) -> None:
    parts = {part["name"]: part for part in given}
    kind = _text(parts, "type")
    operation = _OPERATIONS.get(kind)
    if operation is None:
        raise _BadOperation(f"'{kind}' is not an operation; {', '.join(_OPERATIONS)} are")
    operation(resource, parts)


def _add(resource: Resource, parts: Parts) -> None:
    parent = _single(resource, _text(parts, "path"))
    if not isinstance(parent.value, dict):
        raise _BadOperation("A primitive value has no elements to add to")
    name, part = _text(parts, "name"), _part(parts, "value")
    element = _element(_definition(parent), name, part)
    value = _value(part, element)
    if element.repeats:
        parent.value.setdefault(element.name, []).append(value)
    elif any(other in parent.value for other in _alternatives(_definition(parent), element)):
        raise _BadOperation(f"{element.base_name} is there already; replace changes it")
    else:
        parent.value[element.name] = value


def _insert(resource: Resource, parts: Parts) -> None:
    holder, name, items, element = _collection(resource, _text(parts, "path"))
    index = _index(parts, "index")
    if index > len(items):
        raise _BadOperation(f"The index {index} is beyond the {len(items)} that are there")
    items.insert(index, _value(_part(parts, "value"), element))
    _keep_siblings(holder, name, lambda siblings: siblings.insert(index, None))


def _delete(resource: Resource, parts: Parts) -> None:
    path = _text(parts, "path")
    found = locate(path, resource)
    if len(found) > 1:
        raise _BadOperation(f"'{path}' names {len(found)} elements; one can be deleted at a time")
    if found:
        _remove(found[0])
        _drop_empty(resource)


def _remove(place: Place) -> None:
    if place.parent is None:
        raise _BadOperation("A patch cannot delete the resource itself")
    if place.index is None:
        del place.parent[place.name]
        place.parent.pop(f"_{place.name}", None)
        return
    index = place.index
    del place.parent[place.name][index]
    _keep_siblings(place.parent, place.name, lambda siblings: siblings.pop(index))
    if not place.parent[place.name]:
        del place.parent[place.name]
        place.parent.pop(f"_{place.name}", None)


def _drop_empty(node: Any) -> None:
    """What a deletion left without content is no element any more
    (https://hl7.org/fhir/R4/datatypes.html#Element, ele-1)."""
    if isinstance(node, dict):
        for name, value in list(node.items()):
            _drop_empty(value)
            if value in ({}, []):
                del node[name]
    elif isinstance(node, list):
        for item in node:
            _drop_empty(item)
        node[:] = [item for item in node if item != {}]


def _replace(resource: Resource, parts: Parts) -> None:
    place, part = _single(resource, _text(parts, "path")), _part(parts, "value")
    if place.parent is None or place.element is None:
        raise _BadOperation("A patch cannot replace the resource itself")
    if place.index is not None:
        place.parent[place.name][place.index] = _value(part, place.element)
        return
    # Of a choice, the new value may have another type and so another name.
    element = _element(type_definition(place.owner), place.element.base_name, part)
    if element.name != place.name:
        del place.parent[place.name]
        place.parent.pop(f"_{place.name}", None)
    place.parent[element.name] = _value(part, element)


def _move(resource: Resource, parts: Parts) -> None:
    holder, name, items, _ = _collection(resource, _text(parts, "path"))
    source, destination = _index(parts, "source"), _index(parts, "destination")
    if max(source, destination) >= len(items):
        raise _BadOperation(f"There are {len(items)} to move; the first has the number 0")
    items.insert(destination, items.pop(source))
    _keep_siblings(
        holder, name, lambda siblings: siblings.insert(destination, siblings.pop(source))
    )


_OPERATIONS: Final[Mapping[str, Callable[[Resource, Parts], None]]] = {
    "add": _add,
    "insert": _insert,
    "delete": _delete,
    "replace": _replace,
    "move": _move,
}


def _single(resource: Resource, path: str) -> Place:
    found = locate(path, resource)
    if len(found) != 1:
        raise _BadOperation(f"'{path}' names {len(found) or 'no'} elements; one is expected")
    return found[0]


def _collection(
    resource: Resource, path: str
) -> tuple[dict[str, Any], str, list[Any], ElementDefinition]:
    """The array that a path names, and where it stands."""
    found = locate(path, resource)
    arrays = {(id(place.parent), place.name) for place in found}
    if len(arrays) != 1 or found[0].index is None:
        raise _BadOperation(f"'{path}' does not name one list that is there")
    place = found[0]
    assert place.parent is not None  # noqa: S101 - what has an index stands in something
    assert place.element is not None  # noqa: S101
    return place.parent, place.name, place.parent[place.name], place.element


def _keep_siblings(
    holder: dict[str, Any], name: str, change: Callable[[list[Any]], object]
) -> None:
    """The extensions beside an array of primitives move along with it."""
    siblings = holder.get(f"_{name}")
    if isinstance(siblings, list):
        siblings += [None] * (len(holder[name]) - len(siblings))
        change(siblings)
        if not any(sibling is not None for sibling in siblings):
            del holder[f"_{name}"]


def _definition(place: Place) -> TypeDefinition:
    if place.type == "Resource":
        return type_definition(place.value["resourceType"])
    return type_definition(place.type)


def _element(definition: TypeDefinition, name: str, part: Resource) -> ElementDefinition:
    """The element of that name; of a choice, the one of the value's type."""
    if name in definition.elements:
        return definition.elements[name]
    value_name = _value_name(part)
    typed = name + value_name.removeprefix("value") if value_name else ""
    if name not in definition.choices or typed not in definition.elements:
        raise _BadOperation(f"'{name}' is not an element of {definition.name}")
    return definition.elements[typed]


def _alternatives(definition: TypeDefinition, element: ElementDefinition) -> Sequence[str]:
    return definition.choices.get(element.base_name, (element.name,))


def _value(part: Resource, element: ElementDefinition) -> Any:
    """A value[x], a resource, or an object put together from parts by name.

    A copy: it becomes a part of the resource, and the patch may be carried out again.
    """
    value_name = _value_name(part)
    if value_name is not None:
        return copy.deepcopy(part[value_name])
    if "resource" in part:
        return copy.deepcopy(part["resource"])
    if not part.get("part"):
        raise _BadOperation("The value is empty")
    return _built(type_definition(element.type), part["part"])


def _built(definition: TypeDefinition, parts: Sequence[Resource]) -> dict[str, Any]:
    built: dict[str, Any] = {}
    for part in parts:
        element = _element(definition, part["name"], part)
        value = _value(part, element)
        if element.repeats:
            built.setdefault(element.name, []).append(value)
        else:
            built[element.name] = value
    return built


def _value_name(part: Resource) -> str | None:
    return next((name for name in part if name.startswith("value")), None)


def _part(parts: Parts, name: str) -> Resource:
    if name not in parts:
        raise _BadOperation(f"The part '{name}' is missing")
    found: Resource = parts[name]
    return found


def _text(parts: Parts, name: str) -> str:
    part = _part(parts, name)
    value = part.get("valueString", part.get("valueCode"))
    if not isinstance(value, str):
        raise _BadOperation(f"The part '{name}' is text")
    return value


def _index(parts: Parts, name: str) -> int:
    value = _part(parts, name).get("valueInteger")
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _BadOperation(f"The part '{name}' is a whole number from 0")
    return value
