"""What R4 itself says of a type beyond structure: invariants, extensible bindings, lengths.

`validation/structure.py` goes through a resource type by type and calls these; the invariants
that it has in Python itself are not in the table or are left out here.

Source: the definitions of R4's types, https://hl7.org/fhir/R4/resourcelist.html
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Final

from fhir_server.fhirpath.invariant import compile_invariant
from fhir_server.fhirpath.items import Item as FhirPathItem
from fhir_server.validation.codes import Called
from fhir_server.validation.displays import display_issue
from fhir_server.validation.invariants import invariant, looks
from fhir_server.validation.places import Place, expression
from fhir_server.validation.primitives import shown
from fhir_server.validation.profiles.bindings import BoundRule
from fhir_server.validation.profiles.details import detail_rules
from fhir_server.validation.profiles.items import Item, gather
from fhir_server.validation.profiles.kept import PLAINLY_KEPT
from fhir_server.validation.profiles.rules import Constraint, rules_of
from fhir_server.validation.profiles.say import Rule, Say
from fhir_server.validation.profiles.tree import Node, ancestry, base_children
from fhir_server.validation.profiles.words import words
from fhir_server.validation.report import Report

Check = Callable[[Mapping[str, Any], Place, Report], None]

BY_HAND: Final = frozenset(["bdl-7", "dom-2", "dom-3", "dom-4", "dom-5", "ref-1", "txt-1", "txt-2"])
"""In Python where the resource is walked: https://hl7.org/fhir/R4/domainresource.html#invs"""
MISTAKEN: Final = frozenset({"cid-0"})
"""Names an element that its type, ChargeItemDefinition, does not have, so nothing can keep it."""
_NARRATIVE: Final = "dom-6"
"""Contained resources have none of their own: https://hl7.org/fhir/R4/narrative.html"""
_SIMPLE_QUANTITY: Final = "http://hl7.org/fhir/StructureDefinition/SimpleQuantity"
_say: Final = Say(None)


@cache
def type_rules(type_name: str) -> tuple[Check, ...]:
    """The rules of a whole object of a type or backbone; `element_rules` has its elements'."""
    constraints = (each for name in ancestry(type_name) for each in rules_of(name).constraint)
    wanted = [each for each in constraints if each.key not in BY_HAND | MISTAKEN]
    return (
        *([_invariants_of(type_name, wanted)] if wanted else ()),
        *([_local_reference] if type_name == "Reference" else ()),
        *([_display] if type_name == "Coding" else ()),
    )


def element_rules(type_name: str) -> dict[str, Check]:
    """The rules of the elements that have any, by name, of the object that holds them."""
    checks = {each.base_name: _member(each) for each in base_children(type_name).values()}
    return {name: check for name, check in checks.items() if check is not None}


def _invariants_of(type_name: str, constraints: Sequence[Constraint]) -> Check:
    """All of them at once: most objects keep every one, so what they share is made once."""
    tests = [
        (
            PLAINLY_KEPT.get(each.expression, _unknown),
            compile_invariant(each.expression, type_name).holds,
            each,
        )
        for each in constraints
    ]

    def check(node: Mapping[str, Any], place: Place, report: Report) -> None:
        value: FhirPathItem | None = None
        for is_kept, holds, constraint in tests:
            if is_kept(node):
                continue
            value = value or FhirPathItem(node, type_name)
            if not holds(value, report.scope):
                _broken(constraint, place, report)

    return check


def _unknown(_node: Mapping[str, Any]) -> bool:
    """Only the expression tells."""
    return False


def _broken(constraint: Constraint, place: Place, report: Report) -> None:
    if constraint.key == _NARRATIVE and report.container is not None:
        return
    text, note = (
        words(constraint.key, constraint.expression),
        looks(constraint.expression, place, report),
    )
    _say(report, place, text, "invariant", constraint.key, constraint.severity, note)


def _local_reference(node: Mapping[str, Any], place: Place, report: Report) -> None:
    """ref-1 of https://hl7.org/fhir/R4/references.html#Reference; `#` alone is the container.

    The expression of R4 refuses `#`, which https://hl7.org/fhir/R4/references.html#contained
    allows.
    """
    reference = node.get("reference")
    if not isinstance(reference, str) or not reference.startswith("#"):
        return
    # A contained resource without an id is told already; whom a reference meant is unknown.
    if report.resolve(reference) is None and not report.lacks_ids:
        text = f"{shown(reference)} is no contained resource (ref-1)"
        _say(report, (place, "reference"), text, "invariant", "ref-1")


def _display(node: Mapping[str, Any], place: Place, report: Report) -> None:
    """A wrong display may hide a wrong code: https://hl7.org/fhir/R4/datatypes.html#Coding.

    A warning, as many senders write displays of their own. An unknown system says nothing.
    """
    if "display" not in node:
        return
    display, code, system = node["display"], node.get("code"), node.get("system")
    try:
        if (system, code, display) in report.codes.well_called:
            return
    except TypeError:  # something else than texts, which is told already
        return
    if type(display) is not str or type(code) is not str or type(system) is not str:
        return
    version = node.get("version")
    canonical = f"{system}|{version}" if type(version) is str else system
    names = report.codes.other_names(canonical, code, display)
    if names:
        called = Called(system, code, display, "")
        report.append(display_issue(called, names, expression(place)))


def _element_invariant(constraint: Constraint, types: Sequence[str]) -> Rule:
    holds = invariant(constraint.expression, types)

    def rule(item: Item, report: Report) -> None:
        if not holds(item, report):
            _broken(constraint, item.place, report)

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
    if node.name == "implicitRules":
        rules.append(_no_other_rules)
    if "." not in node.origin or "contentReference" in node.element:
        constraints = (Constraint(**each) for each in node.element.get("constraint", ()))
        wanted = (each for each in constraints if each.key not in BY_HAND)
        rules += [_element_invariant(each, node.fhir_types) for each in wanted]
    return tuple(rules)


def _no_comparator(item: Item, report: Report) -> None:
    """sqty-1 of https://hl7.org/fhir/R4/datatypes.html#SimpleQuantity"""
    if isinstance(item.value, Mapping) and "comparator" in item.value:
        text = "comparator is not allowed in a SimpleQuantity (sqty-1)"
        _say(report, (item.place, "comparator"), text, "structure", "sqty-1")


def _no_other_rules(item: Item, report: Report) -> None:
    """They may turn the meaning of all else, so what does not know them must not go by it.

    https://hl7.org/fhir/R4/resource.html#implicitRules; no rules are known here.
    """
    what = f"the rules {shown(item.value)}" if isinstance(item.value, str) else "rules without name"
    text = f"{what} are not known here and cannot be ignored; leave implicitRules out"
    _say(report, item.place, text, "not-supported", "implicit-rules")
