"""The elements of a profile as a tree, with what R4 itself says beside each.

A node holds an element as a StructureDefinition has it (`min`, `max`, `type`, `fixedCode`, ...;
https://hl7.org/fhir/R4/elementdefinition.html) without its id and path, which follow from the
place in the tree. Children are there from the start for backbone elements only: those of a data
type are made when a profile or a discriminator walks into it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from fhir_server.fhir.definitions import TypeDefinition, base_type, type_definition
from fhir_server.validation.profiles.rules import rules_of

Element = Mapping[str, Any]
CHOICE: Final = "[x]"
CANONICAL: Final = "http://hl7.org/fhir/StructureDefinition/"


class ProfileError(ValueError):
    """A profile that cannot be used: which, at which element, and why."""

    def __init__(self, profile: str, element: str, reason: str) -> None:
        self.profile = profile
        at = f", element {element}" if element else ""
        super().__init__(f"profile {profile}{at} cannot be used: {reason}")


@dataclass(slots=True)
class Node:
    """`origin` is the R4 path or type that its children come from, '' for a choice of types.

    `touched` is true where a profile says something of it or of what is in it.
    """

    name: str
    element: Element
    base: Element
    origin: str
    children: "dict[str, Node] | None" = None
    slices: "dict[str, Node]" = field(default_factory=dict)
    slice_name: str = ""
    touched: bool = False

    def copy(self) -> "Node":
        children = self.children
        return Node(
            self.name,
            self.element,
            self.base,
            self.origin,
            None if children is None else {name: each.copy() for name, each in children.items()},
            {name: each.copy() for name, each in self.slices.items()},
            self.slice_name,
            self.touched,
        )

    def settled(self) -> "Node":
        """A copy of what is checked elsewhere: nothing of it is new."""
        node = self.copy()
        for each in node.walk():
            each.base, each.touched = each.element, False
        return node

    def walk(self) -> "Iterator[Node]":
        yield self
        for each in [*(self.children or {}).values(), *self.slices.values()]:
            yield from each.walk()

    @property
    def is_choice(self) -> bool:
        return self.name.endswith(CHOICE)

    @property
    def base_name(self) -> str:
        return self.name.removesuffix(CHOICE)

    @property
    def types(self) -> list[str]:
        """Codes of its types, `string` for what the definitions write as a type of FHIRPath."""
        return [type_code(entry) for entry in self.element.get("type", ())]

    @property
    def fhir_types(self) -> list[str]:
        """The types that its expressions start from; of a backbone, its path."""
        return [self.origin] if self.origin else self.types

    def profiles(self) -> list[str]:
        """Canonicals that its value has to fit one of."""
        return [url for entry in self.element.get("type", ()) for url in entry.get("profile", ())]


def type_code(entry: Mapping[str, Any]) -> str:
    code: str = entry["code"]
    return "string" if code.startswith("http://hl7.org/fhirpath/") else code


def base_tree(type_name: str) -> Node:
    """R4's own definition of a resource or data type; KeyError where there is none."""
    element: dict[str, Any] = {"min": 0, "max": "*", **_of_rules(type_name)}
    constraints = [each for name in ancestry(type_name) for each in _constraints(name)]
    if constraints:
        element["constraint"] = constraints
    return Node(type_name, element, element, type_name, base_children(type_name))


def ancestry(type_name: str) -> Iterator[str]:
    base = base_type(type_name)
    if base:
        yield from ancestry(base)
    yield type_name


def base_children(origin: str) -> dict[str, Node]:
    """The elements of a type or backbone by name, choices as `value[x]`."""
    definition = type_definition(origin)
    names = dict.fromkeys(element.base_name for element in definition.elements.values())
    nodes = [_child(definition, name) for name in names]
    return {node.name: node for node in nodes}


def _child(definition: TypeDefinition, base_name: str) -> Node:
    choice = base_name in definition.choices
    members = [each for each in definition.elements.values() if each.base_name == base_name]
    first, name = members[0], base_name + (CHOICE if choice else "")
    path = f"{first.owner}.{name}"
    rules = _of_rules(path)
    element: dict[str, Any] = {
        "min": first.min,
        "max": "*" if first.max is None else f"{first.max}",
    }
    if "." in first.type and first.type != path:
        element["contentReference"] = f"#{first.type}"
    else:
        profile = rules.pop("profile", None)
        element["type"] = [_type(each.type, each.targets, profile) for each in members]
    element |= rules
    origin = first.type if len(members) == 1 else ""
    children = base_children(path) if origin == path else None
    return Node(name, element, element, origin, children)


def _type(name: str, targets: tuple[str, ...], profile: list[str] | None) -> dict[str, Any]:
    entry: dict[str, Any] = {"code": base_type(name) if "." in name else name}
    if profile and name == "Quantity":  # R4 has none on other types
        entry["profile"] = profile
    if targets:
        entry["targetProfile"] = [CANONICAL + target for target in targets]
    return entry


def _of_rules(path: str) -> dict[str, Any]:
    """The rules of an element under their names in an ElementDefinition."""
    rules = rules_of(path)
    binding = rules.binding
    found: dict[str, Any] = {
        "constraint": _constraints(path),
        "binding": binding and {"strength": binding.strength, "valueSet": binding.value_set},
        "isModifier": rules.is_modifier,
        "profile": list(rules.profile),
        "maxLength": rules.max_length,
        "minValueInteger": rules.min_value,
        "maxValueInteger": rules.max_value,
    }
    return {name: value for name, value in found.items() if value}


def _constraints(path: str) -> list[Element]:
    return [
        {"key": each.key, "severity": each.severity, "expression": each.expression}
        for each in rules_of(path).constraint
    ]
