"""What R4 itself says of a type beyond structure: invariants, extensible bindings, lengths.

`validation/structure.py` goes through a resource type by type and calls these; the invariants
that it has in Python itself are not in the table or are left out here.

Source: the definitions of R4's types, https://hl7.org/fhir/R4/resourcelist.html
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Final

from fhir_server.validation.invariants import invariant
from fhir_server.validation.places import Place
from fhir_server.validation.profiles.bindings import BoundRule
from fhir_server.validation.profiles.details import detail_rules
from fhir_server.validation.profiles.items import Item, gather
from fhir_server.validation.profiles.rules import Constraint, rules_of
from fhir_server.validation.profiles.say import Rule, Say
from fhir_server.validation.profiles.tree import Node, ancestry, base_children
from fhir_server.validation.report import Report

Check = Callable[[Mapping[str, Any], Place, Report], None]

BY_HAND: Final = frozenset({"dom-2", "dom-3", "dom-4", "dom-5", "txt-1", "txt-2"})
"""In Python where the resource is walked: https://hl7.org/fhir/R4/domainresource.html#invs"""
_SIMPLE_QUANTITY: Final = "http://hl7.org/fhir/StructureDefinition/SimpleQuantity"
_say: Final = Say(None)


@cache
def type_rules(type_name: str) -> tuple[Check, ...]:
    """The rules of a type or backbone, its elements' among them."""
    rules = (rule for name in ancestry(type_name) for rule in rules_of(name).constraint)
    whole = [_whole(rule) for rule in _invariants(tuple(rules), [type_name])]
    children = base_children(type_name).values()
    return (*whole, *(check for child in children if (check := _member(child)) is not None))


def _whole(rule: Rule) -> Check:
    def check(node: Mapping[str, Any], place: Place, report: Report) -> None:
        rule(Item(node, None, place), report)

    return check


def _invariants(constraints: Iterable[Constraint], types: Sequence[str]) -> list[Rule]:
    return [_invariant(each, types) for each in constraints if each.key not in BY_HAND]


def _invariant(constraint: Constraint, types: Sequence[str]) -> Rule:
    holds = invariant(constraint.expression, types)
    key, severity = constraint.key, constraint.severity
    text = f"must hold: {constraint.expression} ({key})"

    def rule(item: Item, report: Report) -> None:
        if not holds(item, report):
            _say(report, item.place, text, "invariant", key, severity)

    return rule


def _member(node: Node) -> Check | None:
    """The rules of one element, where it has any that are not those of its type."""
    rules = _element_rules(node)
    if not rules:
        return None
    items = gather(node)

    def check(holder: Mapping[str, Any], place: Place, report: Report) -> None:
        for item in items(holder, place):
            for rule in rules:
                rule(item, report)

    return check


def _element_rules(node: Node) -> tuple[Rule, ...]:
    bare = Node(node.name, node.element, {}, node.origin)
    rules = [*detail_rules(bare, _say)]
    binding = node.element.get("binding", {})
    if binding.get("strength") == "extensible":
        rules.append(BoundRule(binding["valueSet"], "extensible", _say))
    if node.profiles() == [_SIMPLE_QUANTITY]:
        rules.append(_no_comparator)
    if "." not in node.origin or "contentReference" in node.element:
        constraints = (Constraint(**each) for each in node.element.get("constraint", ()))
        rules += _invariants(constraints, node.fhir_types)
    return tuple(rules)


def _no_comparator(item: Item, report: Report) -> None:
    """sqty-1 of https://hl7.org/fhir/R4/datatypes.html#SimpleQuantity"""
    if isinstance(item.value, Mapping) and "comparator" in item.value:
        text = "comparator is not allowed in a SimpleQuantity (sqty-1)"
        _say(report, (item.place, "comparator"), text, "structure", "sqty-1")
