"""One checker for each profile, compiled from its tree into closures.

The base check always runs, so a profile's checker looks only at what the profile adds to R4:
each element is compared with R4's own, and what is the same costs nothing.

Sources: https://hl7.org/fhir/R4/profiling.html,
https://hl7.org/fhir/R4/elementdefinition.html#interpretation
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from fhir_server.validation.invariants import invariant, looks
from fhir_server.validation.places import Place
from fhir_server.validation.primitives import PRIMITIVES
from fhir_server.validation.profiles.bindings import BoundRule
from fhir_server.validation.profiles.details import detail_rules, only_text
from fhir_server.validation.profiles.items import Item, gather, is_resource
from fhir_server.validation.profiles.library import Library
from fhir_server.validation.profiles.say import Rule, Say
from fhir_server.validation.profiles.slicing import EXTENSIONS, Discriminators, Slice, Slicing
from fhir_server.validation.profiles.targets import target_rule
from fhir_server.validation.profiles.tree import Element, Node, ProfileError, type_code
from fhir_server.validation.profiles.values import Test
from fhir_server.validation.profiles.words import asked
from fhir_server.validation.report import Report

Check = Callable[[Mapping[str, Any], Place, Report], None]
"""Checks one JSON object against a profile."""
Member = Callable[[Mapping[str, Any], Place, Report], None]
"""Checks one element in the object that has it."""
CheckOf = Callable[[str], Check | None]

_STRENGTHS: Final = ("required", "extensible")
_SAID_OTHERWISE: Final = frozenset({"sqty-1", "kw-inpatient-encounter-5"})
"""Invariants that say once more what the cardinality of an element says, or what is said of the
addresses of extensions wherever they stand."""


class _Member(NamedTuple):
    """`name` and `sibling` are '' where it has to run even if neither is there.

    `is_right` tells of what stands there without its sibling that there is nothing to check; of
    what it does not tell that, nothing is known.
    """

    name: str
    sibling: str
    is_right: Test
    check: Member


class _Limits(NamedTuple):
    least: int
    most: int | None


def compile_profile(canonical: str, library: Library, check_of: CheckOf) -> Check | None:
    """The checker of a profile, None where it is not known.

    Raises:
        ProfileError: naming the element and the reason, for a profile that cannot be checked.
    """
    tree = library.tree(canonical)
    if tree is None:
        return None
    rules = _Compiler(canonical.partition("|")[0], library, check_of).rules(tree, tree.name)

    def check(node: Mapping[str, Any], place: Place, report: Report) -> None:
        item = Item(node, None, place)
        for rule in rules:
            rule(item, report)

    return check


class _Compiler:
    """Compiles the nodes of one profile."""

    def __init__(self, canonical: str, library: Library, check_of: CheckOf) -> None:
        self._canonical = canonical
        self._library = library
        self._check_of = check_of
        self._say = Say(canonical)
        self._discriminators = Discriminators(library.tree, library.type_of, self._fits)

    def rules(self, node: Node, where: str) -> tuple[Rule, ...]:
        """What is to be checked of each value of a node; () where R4 says all of it."""
        if not node.touched:
            return ()
        return (
            *detail_rules(node, self._say),
            *self._binding(node),
            *self._types(node, where),
            *target_rule(node, self._library, self._fits, self._say),
            *self._members(node, where),
            *self._invariants(node, where),
        )

    def _binding(self, node: Node) -> list[Rule]:
        binding = node.element.get("binding")
        if not binding or binding == node.base.get("binding") or "valueSet" not in binding:
            return []
        strength = binding.get("strength")
        if strength not in _STRENGTHS:
            return []
        types = {type_code(entry) for entry in node.element.get("type", ())}
        return [BoundRule(binding["valueSet"], strength, self._say, types)]

    def _invariants(self, node: Node, where: str) -> list[Rule]:
        known = {each["key"]: each for each in node.base.get("constraint", ())}
        return [
            rule
            for each in node.element.get("constraint", ())
            if each != known.get(each["key"])
            and "expression" in each
            and each["key"] not in _SAID_OTHERWISE
            for rule in self._invariant(node, each, where)
        ]

    def _invariant(self, node: Node, constraint: Element, where: str) -> list[Rule]:
        key, expression = constraint["key"], constraint["expression"]
        try:
            holds = invariant(expression, node.fhir_types)
        except ValueError as error:
            raise ProfileError(self._canonical, where, f"{key}: {error}") from None
        text, say = constraint.get("human") or asked(key, expression), self._say
        severity = constraint.get("severity", "error")

        def rule(item: Item, report: Report) -> None:
            if not holds(item, report):
                note = looks(expression, item.place, report)
                say(report, item.place, text, "invariant", key, severity, note)

        return [rule]

    # Types and profiles of types ---------------------------------------------------------------

    def _types(self, node: Node, where: str) -> list[Rule]:
        entries, base = node.element.get("type", ()), node.base.get("type", ())
        rules: list[Rule] = []
        allowed = {type_code(entry) for entry in entries}
        if base and allowed != {type_code(entry) for entry in base} and not node.slice_name:
            rules.append(self._allowed(node, allowed))
        if node.profiles() and entries != base and allowed != {"Extension"}:
            rules.append(self._profiles(entries, where))
        return rules

    def _allowed(self, node: Node, allowed: set[str]) -> Rule:
        """A choice, or a resource in another, that may have fewer types."""
        say, listed = self._say, " or ".join(sorted(allowed))

        def rule(item: Item, report: Report) -> None:
            found = _type_of(item)
            if found and found not in allowed:
                say(report, item.place, f"must be {listed}, not {found}", "structure", "type")

        resources = node.types and is_resource(node.types[0])
        return _passed if resources and allowed & {"Resource", "DomainResource"} else rule

    def _profiles(self, entries: list[Element], where: str) -> Rule:
        by_type = {type_code(e): tuple(e["profile"]) for e in entries if e.get("profile")}
        for profile in (url for urls in by_type.values() for url in urls):
            if not self._library.is_known(profile):
                raise ProfileError(self._canonical, where, f"its profile {profile} is not known")
        only = next(iter(by_type.values())) if len(entries) == 1 else ()

        def rule(item: Item, report: Report) -> None:
            profiles = by_type.get(_type_of(item), only)
            if profiles and isinstance(item.value, dict):
                self._check_profiles(profiles, item, report)

        return rule

    def _check_profiles(self, profiles: tuple[str, ...], item: Item, report: Report) -> None:
        """Of several profiles one is enough; of one alone every problem is told."""
        if len(profiles) > 1:
            if not any(self._fits(profile, item.value, report) for profile in profiles):
                text = f"must fit one of {', '.join(profiles)}"
                self._say(report, item.place, text, "structure", "profile")
            return
        check = self._check_of(profiles[0])
        if check is not None:
            check(item.value, item.place, report)

    def _fits(self, profile: str, value: Any, report: Report) -> bool:
        check = self._check_of(profile)
        if check is None or not isinstance(value, dict):
            return check is None
        key, verdicts = (profile, id(value)), report.verdicts
        if key not in verdicts:
            verdicts[key] = True  # where it leads back to itself, what is around it tells
            try:
                verdicts[key] = self._is_fitting(profile, check, value, report)
            except RecursionError:
                verdicts[key] = False  # else every resource on the way would go all of it again
                raise
        return verdicts[key]

    def _is_fitting(
        self, profile: str, check: Check, value: dict[str, Any], report: Report
    ) -> bool:
        scratch = report.scratch()
        if "resourceType" in value:
            type_name = self._library.type_of(profile)
            if type_name not in (value["resourceType"], "Resource", "DomainResource"):
                return False
            scratch.resource = value
        check(value, (None, str(value.get("resourceType", ""))), scratch)
        return not scratch.has_errors

    # Elements ----------------------------------------------------------------------------------

    def _members(self, node: Node, where: str) -> list[Rule]:
        children = (node.children or {}).values()
        made = (self._member(each, f"{where}.{each.name}") for each in children if each.touched)
        members = tuple(each for each in made if each is not None)
        if not members:
            return []

        def rule(item: Item, report: Report) -> None:
            holder, place = item.value, item.place
            if not holder or type(holder) is not dict:
                holder = _holder(item, node)
                if holder is None:
                    return
            for name, sibling, is_right, member in members:
                there = holder.get(name)
                if not name or sibling in holder or not (there is None or is_right(there)):
                    member(holder, place, report)

        return [rule]

    def _member(self, node: Node, where: str) -> _Member | None:
        """None where the profile adds nothing."""
        limits, rules = _limits(node), self.rules(node, where)
        slicing = self._slicing(node, where)
        if limits == _Limits(0, None) and not rules and slicing is None:
            return None
        least, most = limits
        items, check_count = gather(node), self._count(node, limits)
        in_slices = 0 if slicing is None else slicing.least

        def member(holder: Mapping[str, Any], place: Place, report: Report) -> None:
            found = items(holder, place)
            count = len(found)
            told_by_slices = least <= in_slices or (in_slices and not count)
            too_few = count < least and not told_by_slices
            if too_few or (most is not None and count > most):
                check_count(count, place, report)
            for item in found:
                for rule in rules:
                    rule(item, report)
            if slicing is not None:
                slicing(found, place, report)

        if least or node.is_choice or in_slices:
            return _Member("", "", _unknown, member)
        is_right = _test_of(node, rules, slicing) if most is None else None
        return _Member(node.name, f"_{node.name}", is_right or _unknown, member)

    def _count(self, node: Node, limits: _Limits) -> Callable[[int, Place, Report], None]:
        least, most = limits
        name, say = node.base_name, self._say

        def check(count: int, place: Place, report: Report) -> None:
            if count < least:
                text = f"{name} is missing" if least == 1 else f"needs {least} {name}, has {count}"
                say(report, (place, name), text, "required", "min")
            if most is not None and count > most:
                text = (
                    f"{name} is not allowed" if not most else f"has {count} {name}, at most {most}"
                )
                say(report, (place, name), text, "structure", "max")

        return check

    def _slicing(self, node: Node, where: str) -> Slicing | None:
        slices = [
            self._slice(node, each, number, where)
            for number, each in enumerate(node.slices.values())
        ]
        rules = node.element.get("slicing", {}).get("rules", "open")
        says_nothing = all(not s.least and s.most is None and not s.rules for s in slices)
        if not slices or (says_nothing and rules == "open"):
            return None
        return Slicing(node, slices, self._say)

    def _slice(self, node: Node, each: Node, number: int, where: str) -> Slice:
        at = f"{where}:{each.slice_name}"
        most = None if each.element["max"] == node.base["max"] else _number(each.element["max"])
        rules = self.rules(each, at)
        try:
            tests = self._discriminators.tests(node, each, number)
        except ValueError as error:
            raise ProfileError(self._canonical, at, str(error)) from None
        urls = self._discriminators.urls(each) if node.name in EXTENSIONS else frozenset[str]()
        signs = self._discriminators.signs(node, each)
        return Slice(each.slice_name, tests, each.element["min"], most, rules, urls, signs)


def _test_of(node: Node, rules: tuple[Rule, ...], slicing: Slicing | None) -> Test | None:
    if slicing is None:
        return only_text(node, rules)
    return None if rules else slicing.is_right


def _unknown(_value: Any) -> bool:
    return False


def _holder(item: Item, node: Node) -> Mapping[str, Any] | None:
    """What has the elements of a value that is no object, or an empty one.

    None where R4 refuses it, as nothing can be in it.
    """
    if (item.type or node.origin) not in PRIMITIVES:
        return None
    return item.sibling if isinstance(item.sibling, dict) else {}


def _limits(node: Node) -> _Limits:
    """What a profile asks beyond R4; (0, None) for nothing."""
    element, base = node.element, node.base
    least = element["min"] if element["min"] > base["min"] else 0
    most = None if element["max"] == base["max"] else _number(element["max"])
    return _Limits(least, most)


def _number(most: str) -> int | None:
    return None if most == "*" else int(most)


def _type_of(item: Item) -> str:
    """Of a choice by its name, of a resource by what it says."""
    if item.type:
        return item.type
    return str(item.value.get("resourceType", "")) if isinstance(item.value, dict) else ""


def _passed(_item: Item, _report: Report) -> None:
    """Any resource will do."""
