"""The items of FHIRPath collections, and the way from one to its children.

An item of a FHIR type holds what stands in the JSON: an object, or the value of a primitive with
its sibling (`birthDate` and `_birthDate`); a primitive that has only the sibling has the value
None and is an item all the same. An item of a system type holds a value of `values.py`.

Source: https://hl7.org/fhir/R4/fhirpath.html#polymorphism and json.html#primitive.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, Final, NamedTuple

from fhir_server.fhir.definitions import TypeDefinition, is_resource_type, type_definition
from fhir_server.fhirpath.types import BOOLEAN, STRING


class Item:
    """One item; not changed after it is made, nor is the list it stands in."""

    __slots__ = ("sibling", "type", "value")

    def __init__(self, value: Any, type_: str, sibling: Any = None) -> None:
        self.value = value
        self.type = type_
        self.sibling = sibling

    def __repr__(self) -> str:
        return f"Item({self.value!r}, {self.type!r})"


Items = list[Item]

TYPE_INFO: Final = "System.TypeInfo"
"""What `type()` gives: an object with `namespace` and `name`."""

NOTHING: Final[Items] = []
BOOLEANS: Final[dict[bool | None, Items]] = {
    True: [Item(True, BOOLEAN)],
    False: [Item(False, BOOLEAN)],
    None: NOTHING,
}


class Key(NamedTuple):
    """A JSON property in which a step may find its items."""

    name: str
    type: str
    primitive: bool
    repeats: bool


@cache
def _definition(type_name: str) -> TypeDefinition | None:
    try:
        return type_definition(type_name)
    except KeyError:
        return None


@cache
def is_primitive(type_name: str) -> bool:
    definition = _definition(type_name)
    return definition is not None and definition.kind == "primitive"


@cache
def keys(type_name: str, step: str) -> tuple[Key, ...]:
    """Where a step goes from a type; () where the type has no such element."""
    if type_name == TYPE_INFO and step in ("namespace", "name"):
        return (Key(step, STRING, primitive=True, repeats=False),)
    definition = _definition(type_name)
    if definition is None:
        return ()
    names = definition.choices.get(step, (step,))
    return tuple(
        Key(name, element.type, is_primitive(element.type), element.repeats)
        for name in names
        if (element := definition.elements.get(name)) is not None and element.base_name == step
    )


def typed(value: Any, declared: str) -> str:
    """The type of an object: a resource says by itself which it is."""
    if declared in ("Resource", "DomainResource"):
        name = value.get("resourceType")
        if isinstance(name, str) and is_resource_type(name):
            return name
    return declared


def step(item: Item, name: str, found: Items) -> None:
    """Add to `found` what stands under the name."""
    node = item.sibling if is_primitive(item.type) else item.value
    if type(node) is dict:
        for key in keys(item.type, name):
            follow(node, key, found)


def follow(node: dict[str, Any], key: Key, found: Items) -> None:
    if key.primitive:
        _primitives(node, key, found)
        return
    inner = node.get(key.name)
    for value in inner if type(inner) is list else (inner,):
        if type(value) is dict:
            found.append(Item(value, typed(value, key.type)))


def chooser(to: Sequence[Key]) -> Callable[[dict[str, Any], Items], None]:
    """What follows all the keys of a choice of many types, such as `Extension.value[x]`.

    It looks at the few members that an object has, not for the dozens that it may have.
    """
    by_name = {key.name: key for key in to}
    by_sibling = {"_" + key.name: key for key in to if key.primitive}

    def follow_chosen(node: dict[str, Any], found: Items) -> None:
        for name in node:
            key = by_name.get(name)
            if key is None:
                key = by_sibling.get(name)
                if key is None or key.name in node:
                    continue
            follow(node, key, found)

    return follow_chosen


def _primitives(node: dict[str, Any], key: Key, found: Items) -> None:
    value, sibling = node.get(key.name), node.get("_" + key.name)
    if sibling is None and type(value) is not list:
        if value is not None and type(value) is not dict:
            found.append(Item(value, key.type))
        return
    values = value if type(value) is list else [value]
    siblings = sibling if type(sibling) is list else [sibling]
    for index in range(max(len(values), len(siblings))):
        one = values[index] if index < len(values) else None
        beside = siblings[index] if index < len(siblings) else None
        beside = beside if type(beside) is dict and beside else None
        if type(one) not in (dict, list) and (one is not None or beside is not None):
            found.append(Item(one, key.type, beside))


@cache
def _all_keys(type_name: str) -> dict[str, Key]:
    """By JSON property, with those of siblings."""
    definition = _definition(type_name)
    if definition is None:
        return {}
    found: dict[str, Key] = {}
    for name, element in definition.elements.items():
        key = Key(name, element.type, is_primitive(element.type), element.repeats)
        found[name] = key
        if key.primitive:
            found["_" + name] = key
    return found


def children(item: Item) -> Items:
    """All items one step further, in the order of the JSON."""
    node = item.sibling if is_primitive(item.type) else item.value
    found: Items = []
    if type(node) is dict:
        known = _all_keys(item.type)
        for name in node:
            _child(node, name, known, found)
    return found


def _child(node: dict[str, Any], name: str, known: dict[str, Key], found: Items) -> None:
    key = known.get(name)
    if key is None:
        return
    if key.name == name or key.name not in node:
        follow(node, key, found)


def descendants(item: Item) -> Iterator[Item]:
    """All items below, parents before their children."""
    waiting = children(item)
    while waiting:
        found: Items = []
        for one in waiting:
            yield one
            if one.sibling is not None or type(one.value) is dict:
                found += children(one)
        waiting = found
