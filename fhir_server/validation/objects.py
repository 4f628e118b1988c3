"""What R4 says of an object as a whole: which elements it needs, and which exclude each other.

Sources: https://hl7.org/fhir/R4/elementdefinition.html (cardinality),
https://hl7.org/fhir/R4/formats.html#choice, https://hl7.org/fhir/R4/extensibility.html#Extension.
"""

from typing import Final, NamedTuple

from fhir_server.fhir.definitions import ElementDefinition, TypeDefinition, type_definition
from fhir_server.validation.containing import check_full_urls, check_not_empty
from fhir_server.validation.dangling import dangling
from fhir_server.validation.places import Place, expression
from fhir_server.validation.primitives import PRIMITIVES
from fhir_server.validation.profiles.base import Check, type_rules
from fhir_server.validation.profiles.say import Say
from fhir_server.validation.report import Node, Note, Report, add

_VALUES: Final = frozenset(type_definition("Extension").choices["value"])
"""What most extensions have: a url and one of these."""
_VALUE: Final = frozenset({"value"})
_OF_FHIRPATH: Final = {("Resource", "id"), ("Element", "id"), ("Extension", "url")}
"""Elements whose type R4 defines as FHIRPath's own string."""


class Group(NamedTuple):
    """An element with its JSON names: one and its sibling, or all of a choice."""

    base_name: str
    first: str
    names: frozenset[str]
    text: str


def is_primitive(element: ElementDefinition) -> bool:
    return element.type in PRIMITIVES


def has_sibling(element: ElementDefinition) -> bool:
    """Whether its value can have an id and extensions: not the strings that are none of FHIR's.

    https://hl7.org/fhir/R4/fhirpath.html#types; XHTML has neither (narrative.html).
    """
    is_bare = (element.owner, element.name) in _OF_FHIRPATH or element.type == "xhtml"
    return is_primitive(element) and not is_bare


def _names(element: ElementDefinition) -> frozenset[str]:
    sibling = {f"_{element.name}"} if has_sibling(element) else set()
    return frozenset({element.name} | sibling)


def _groups(definition: TypeDefinition) -> list[Group]:
    grouped: dict[str, list[ElementDefinition]] = {}
    for element in definition.elements.values():
        grouped.setdefault(element.base_name, []).append(element)
    return [
        Group(base, members[0].name, frozenset().union(*map(_names, members)), _missing(members))
        for base, members in grouped.items()
    ]


def _missing(members: list[ElementDefinition]) -> str:
    names = [member.name for member in members]
    return f"{names[0]} is missing" if len(names) == 1 else f"one of {', '.join(names)} is missing"


def required_groups(definition: TypeDefinition) -> list[Group]:
    needed = {element.base_name for element in definition.elements.values() if element.min > 0}
    return [group for group in _groups(definition) if group.base_name in needed]


def object_rules(definition: TypeDefinition, *, is_alone: bool = False) -> list[Check]:
    """`is_alone` for an object with one member, which may be the id."""
    choices = [group for group in _groups(definition) if group.base_name in definition.choices]
    rules = [_at_most_one_each(choices)] if choices else []
    if definition.name == "Extension":
        rules = [_unless_simple(rules[0], _value_xor_extension)]
    if is_alone and definition.kind != "resource":
        rules.append(_more_than_an_id)
    if definition.name == "Bundle":
        rules += [check_full_urls, check_not_empty, dangling]
    return [*rules, *type_rules(definition.name)]


def _at_most_one_each(groups: list[Group]) -> Check:
    names = frozenset[str]().union(*(group.names for group in groups))

    def check(node: Node, place: Place, report: Report) -> None:
        if len(names.intersection(node)) < 2:
            return
        for group in groups:
            present = {name.removeprefix("_") for name in group.names.intersection(node)}
            if len(present) > 1:
                text = f"has only one type: give one of {', '.join(sorted(present))}"
                add(report, (place, group.base_name), text, "structure")

    return check


def _unless_simple(*rules: Check) -> Check:
    """The rules of extensions, but for those that plainly are a url and a value."""

    def check(node: Node, place: Place, report: Report) -> None:
        if len(node) == 2 and "url" in node and not _VALUES.isdisjoint(node):
            return
        for rule in rules:
            rule(node, place, report)

    return check


def _value_xor_extension(node: Node, place: Place, report: Report) -> None:
    """ext-1 of https://hl7.org/fhir/R4/extensibility.html#Extension"""
    has_value = any(key.startswith(("value", "_value")) for key in node)
    if has_value == ("extension" in node):
        text = "an extension has either a value or extensions" + (
            ", not both (ext-1)" if has_value else "; this one has neither (ext-1)"
        )
        looks = Note(((expression(place), _VALUE),))
        Say(None)(report, place, text, "invariant", "ext-1", note=looks)


def _more_than_an_id(node: Node, place: Place, report: Report) -> None:
    """ele-1 of https://hl7.org/fhir/R4/element.html"""
    if len(node) == 1 and "id" in node:
        text = "an element needs content besides its id (ele-1)"
        Say(None)(report, place, text, "invariant", "ele-1")
