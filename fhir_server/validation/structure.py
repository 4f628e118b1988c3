"""Structural validation: is this JSON a resource as R4 defines its type?

Every type is compiled once, when it is first met, into a closure over a table of its members;
a check then walks the resource's own keys. Nothing is built for what is right: places are
linked tuples, written out only in an issue.

Sources: https://hl7.org/fhir/R4/json.html (representation, siblings with `_`, null),
https://hl7.org/fhir/R4/elementdefinition.html (cardinality, bindings, targets),
https://hl7.org/fhir/R4/references.html#contained, extensibility.html, terminologies.html#required.
"""

from collections.abc import Callable
from difflib import get_close_matches
from functools import cache
from typing import Any, Final, NamedTuple

from fhir_server.errors import Issue
from fhir_server.fhir.definitions import (
    ElementDefinition,
    TypeDefinition,
    is_resource_type,
    resource_types,
    type_definition,
)
from fhir_server.validation.bindings import bound_codes, bound_concepts
from fhir_server.validation.containing import (
    check_contained,
    check_container,
    check_full_urls,
    check_not_empty,
    dangling,
)
from fhir_server.validation.places import Place
from fhir_server.validation.primitives import PRIMITIVES, PrimitiveCheck, json_type, shown
from fhir_server.validation.profiles.base import element_rules, type_rules
from fhir_server.validation.report import Met, Node, Report, add
from fhir_server.validation.targets import check_target

Check = Callable[[Node, Place, Report], None]
"""Checks one JSON object."""
Member = Callable[[Any, Node, Place, Report], None]
"""Checks the value of one key; the object that holds it is at hand for the `_` sibling."""

MAX_ISSUES: Final = 500
"""More are only counted: nobody reads them, and an answer must not outgrow its request."""
_MAX_SUGGESTIONS: Final = 20
"""Names suggested in one run: comparing them is the one slow step, so a sender cannot buy many."""
_MAX_SUGGESTED_LENGTH: Final = 64


_GRAVITY: Final = ("fatal", "error", "warning", "information")


class _Group(NamedTuple):
    """An element with its JSON names: one and its sibling, or all of a choice."""

    base_name: str
    first: str
    names: frozenset[str]
    text: str


def check_resource(resource: Node, *, expected_type: str | None = None) -> list[Issue]:
    """Every error of a resource against R4's definition, each once; [] when there is none.

    `expected_type` is the type that the address names. Profiles, what is known of extensions,
    and warnings are the business of `validation.checker`.
    """
    report = Report()
    check_base(resource, report, expected_type)
    return bounded([issue for issue in report if issue.severity == "error"])


def check_base(resource: Node, report: Report, expected_type: str | None = None) -> None:
    """Put every problem on the report, and in `report.met` the resources that were met."""
    name = resource.get("resourceType")
    known = isinstance(name, str) and is_resource_type(name)
    place: Place = (None, str(name) if known else "Resource")
    if known and expected_type not in (None, name):
        add(report, (place, "resourceType"), f"must be {expected_type}, not {name}", "structure")
    try:
        _check_any_resource(resource, place, report)
    except RecursionError:
        add(report, place, "the resource is nested too deeply to be checked", "too-long")


def bounded(issues: list[Issue]) -> list[Issue]:
    """The first `MAX_ISSUES`, and how many there are besides; errors go before what is less."""
    if len(issues) <= MAX_ISSUES:
        return issues
    issues = sorted(issues, key=lambda issue: _GRAVITY.index(issue.severity))
    rest = issues[MAX_ISSUES:]
    told = Issue(f"and {len(rest)} further problems", severity=rest[0].severity)
    return [*issues[:MAX_ISSUES], told]


def _check_any_resource(node: Node, place: Place, report: Report) -> None:
    """A resource that stands for itself: the one that came in, or one in a Bundle."""
    bundles = report.bundles
    if report.resource.get("resourceType") == "Bundle":
        bundles = (*bundles, report.entries(report.resource))
    _check_met(Met(node, place, None, bundles), report)


def _check_met(met: Met, report: Report) -> None:
    node, place = met.resource, met.place
    name = node.get("resourceType")
    if isinstance(name, str) and is_resource_type(name):
        around = report.here()
        report.enter(met)
        report.met.append(met)
        _compiled(name)(node, place, report)
        if "contained" in node and met.container is None:
            check_container(node, place, report)
        report.enter(around)
    else:
        add(report, (place, "resourceType"), _type_problem(node, name), "structure")


def _type_problem(node: Node, name: object) -> str:
    if "resourceType" not in node:
        return "resourceType is missing: it names the type of the resource"
    if not isinstance(name, str):
        return f"resourceType must be a string, not {json_type(name)}"
    return f"{shown(name)} is not a resource type of R4{_did_you_mean(name, resource_types())}"


def _did_you_mean(name: str, known: tuple[str, ...]) -> str:
    if len(name) > _MAX_SUGGESTED_LENGTH:
        return ""
    close = get_close_matches(name, known, n=2, cutoff=0.7)
    return f"; did you mean {' or '.join(close)}?" if close else ""


# Types ---------------------------------------------------------------------------------------


@cache
def _compiled(name: str) -> Check:
    """The check of a type; types within it are compiled when they are met."""
    definition = type_definition(name)
    members = _members(definition)
    required = tuple(_required(definition))
    rules = tuple(_rules(definition))

    def check(node: Node, place: Place, report: Report) -> None:
        for key, value in node.items():
            member = members.get(key)
            if member is None:
                _unknown(key, definition, place, report)
            else:
                member(value, node, place, report)
        for group in required:
            if group.first not in node and group.names.isdisjoint(node):
                add(report, (place, group.base_name), group.text, "required")
        for rule in rules:
            rule(node, place, report)

    return check


def _members(definition: TypeDefinition) -> dict[str, Member]:
    members: dict[str, Member] = {}
    if definition.kind == "resource":
        members["resourceType"] = _accept
    rules = element_rules(definition.name)
    for name, element in definition.elements.items():
        is_extension = element.type == "Extension" and definition.name != "Parameters"
        members[name] = (
            _array(element, _extension(element.name, definition.name))
            if is_extension
            else _member(element)
        )
        if _is_primitive(element) and element.type != "xhtml":
            members[f"_{name}"] = _sibling_array(element) if element.repeats else _sibling(element)
        rule = rules.get(element.base_name)
        if rule is not None:
            members[name] = _with_rule(members[name], rule)
            if f"_{name}" in members:
                members[f"_{name}"] = _with_rule(members[f"_{name}"], rule, unless=name)
    return members


def _with_rule(member: Member, rule: Check, unless: str = "") -> Member:
    """A rule of the element, once: with its sibling only where it has no value (`unless`)."""

    def both(value: Any, node: Node, place: Place, report: Report) -> None:
        member(value, node, place, report)
        if unless not in node:
            rule(node, place, report)

    return both


def _accept(_value: Any, _node: Node, _place: Place, _report: Report) -> None:
    """`resourceType` was read before the type was known."""


def _is_primitive(element: ElementDefinition) -> bool:
    return element.type in PRIMITIVES


def _names(element: ElementDefinition) -> frozenset[str]:
    sibling = {f"_{element.name}"} if _is_primitive(element) else set()
    return frozenset({element.name} | sibling)


def _groups(definition: TypeDefinition) -> list[_Group]:
    grouped: dict[str, list[ElementDefinition]] = {}
    for element in definition.elements.values():
        grouped.setdefault(element.base_name, []).append(element)
    return [
        _Group(base, members[0].name, frozenset().union(*map(_names, members)), _missing(members))
        for base, members in grouped.items()
    ]


def _missing(members: list[ElementDefinition]) -> str:
    names = [member.name for member in members]
    return f"{names[0]} is missing" if len(names) == 1 else f"one of {', '.join(names)} is missing"


def _required(definition: TypeDefinition) -> list[_Group]:
    needed = {element.base_name for element in definition.elements.values() if element.min > 0}
    return [group for group in _groups(definition) if group.base_name in needed]


def _unknown(key: str, definition: TypeDefinition, place: Place, report: Report) -> None:
    if key == "resourceType":
        text = "resourceType belongs to resources only"
    else:
        text = f"{shown(key)} is not an element of {definition.name}"
        if len(report) < _MAX_SUGGESTIONS:
            text += _did_you_mean(key, tuple(definition.elements))
    add(report, (place, key), text, "structure")


# Rules of a whole object ---------------------------------------------------------------------


def _rules(definition: TypeDefinition) -> list[Check]:
    rules = [
        _at_most_one(group)
        for group in _groups(definition)
        if group.base_name in definition.choices
    ]
    if definition.name == "Extension":
        rules.append(_value_xor_extension)
    if definition.kind != "resource":
        rules.append(_more_than_an_id)
    if definition.name == "Bundle":
        rules += [check_full_urls, check_not_empty, dangling]
    return [*rules, *type_rules(definition.name)]


def _at_most_one(group: _Group) -> Check:
    def check(node: Node, place: Place, report: Report) -> None:
        present = {name.removeprefix("_") for name in group.names.intersection(node)}
        if len(present) > 1:
            text = f"has only one type: give one of {', '.join(sorted(present))}"
            add(report, (place, group.base_name), text, "structure")

    return check


def _value_xor_extension(node: Node, place: Place, report: Report) -> None:
    """ext-1 of https://hl7.org/fhir/R4/extensibility.html#Extension"""
    has_value = any(key.startswith(("value", "_value")) for key in node)
    if has_value == ("extension" in node):
        text = "an extension has either a value or extensions" + (
            ", not both (ext-1)" if has_value else "; this one has neither (ext-1)"
        )
        add(report, place, text, "invariant")


def _more_than_an_id(node: Node, place: Place, report: Report) -> None:
    """ele-1 of https://hl7.org/fhir/R4/element.html"""
    if len(node) == 1 and "id" in node:
        add(report, place, "an element needs content besides its id (ele-1)", "invariant")


# Members -------------------------------------------------------------------------------------


def _member(element: ElementDefinition) -> Member:
    if _is_primitive(element):
        check = _primitive_check(element)
        return _primitive_array(element, check) if element.repeats else _primitive(element, check)
    item = _item_check(element)
    return _array(element, item) if element.repeats else _single(element, item)


def _primitive_check(element: ElementDefinition) -> PrimitiveCheck:
    check = PRIMITIVES[element.type]
    return check if element.value_set is None else bound_codes(element.value_set, check)


def _issue_type(element: ElementDefinition) -> str:
    return "value" if element.value_set is None else "code-invalid"


def _primitive(element: ElementDefinition, check: PrimitiveCheck) -> Member:
    code = _issue_type(element)

    def member(value: Any, _node: Node, place: Place, report: Report) -> None:
        problem = check(value)
        if problem is not None:
            add(report, (place, element.base_name), f"{element.name} {problem}", code)

    return member


def _primitive_array(element: ElementDefinition, check: PrimitiveCheck) -> Member:
    name, sibling_name, code = element.name, f"_{element.name}", _issue_type(element)

    def member(value: Any, node: Node, place: Place, report: Report) -> None:
        if not _is_filled_array(value, element, place, report):
            return
        sibling = node.get(sibling_name)
        for index, item in enumerate(value):
            problem = check(item)
            if problem is not None and not (item is None and _has_item(sibling, index)):
                add(report, ((place, name), index), f"{name} {problem}", code)
        if isinstance(sibling, list) and len(sibling) != len(value):
            text = f"{name} and _{name} must have as many items: {len(value)} and {len(sibling)}"
            add(report, (place, name), text, "structure")

    return member


def _has_item(values: object, index: int) -> bool:
    return isinstance(values, list) and index < len(values) and values[index] is not None


def _is_filled_array(
    value: object, element: ElementDefinition, place: Place, report: Report
) -> bool:
    if isinstance(value, list) and value:
        return True
    name = element.name
    problem = (
        f"{name} must not be an empty array; leave it out instead"
        if isinstance(value, list)
        else f"{name} may repeat and must be an array, not {json_type(value)}"
    )
    add(report, (place, element.base_name), problem, "structure")
    return False


def _single(element: ElementDefinition, item: Check) -> Member:
    name, base_name = element.name, element.base_name

    def member(value: Any, _node: Node, place: Place, report: Report) -> None:
        if isinstance(value, dict) and value:
            item(value, (place, base_name), report)
        else:
            add(report, (place, base_name), f"{name} {_object_problem(value)}", "structure")

    return member


def _array(element: ElementDefinition, item: Check) -> Member:
    name = element.name

    def member(value: Any, _node: Node, place: Place, report: Report) -> None:
        if not _is_filled_array(value, element, place, report):
            return
        whole = (place, name)
        for index, entry in enumerate(value):
            if isinstance(entry, dict) and entry:
                item(entry, (whole, index), report)
            else:
                add(report, (whole, index), f"{name} {_object_problem(entry)}", "structure")

    return member


def _object_problem(value: object) -> str:
    if isinstance(value, dict):
        return "must not be an empty object; leave it out instead"
    return f"must be an object, not {json_type(value)}"


def _item_check(element: ElementDefinition) -> Check:
    """The check of one object that is the element's value."""
    if element.type == "Resource":
        return _contained if element.name == "contained" else _check_any_resource
    check = _of_type(element.type)
    if element.type == "Reference":
        check = _both(check, check_target(element.targets))
    if element.value_set is not None:
        check = _both(check, bound_concepts(element.value_set, element.type))
    return check


def _of_type(name: str) -> Check:
    """A type may hold itself (Extension, Questionnaire.item), so it is looked up when met."""

    def check(node: Node, place: Place, report: Report) -> None:
        _compiled(name)(node, place, report)

    return check


def _both(first: Check, second: Check) -> Check:
    def check(node: Node, place: Place, report: Report) -> None:
        first(node, place, report)
        second(node, place, report)

    return check


def _contained(node: Node, place: Place, report: Report) -> None:
    container = report.container or report.resource
    _check_met(Met(node, place, container, report.bundles), report)
    check_contained(node, place, report)


def _extension(name: str, holder: str) -> Check:
    """An extension of the type or backbone `holder`, with what is known of its url."""
    is_modifier = name == "modifierExtension"

    def check(node: Node, place: Place, report: Report) -> None:
        _compiled("Extension")(node, place, report)
        if report.extensions is not None:
            report.extensions.check(node, place, report, holder, is_modifier)

    return check


# Siblings of primitives ----------------------------------------------------------------------


def _sibling(element: ElementDefinition) -> Member:
    """`_birthDate`: the id and the extensions of `birthDate`."""
    name, base_name = f"_{element.name}", element.base_name

    def member(value: Any, node: Node, place: Place, report: Report) -> None:
        if isinstance(value, dict) and value:
            _check_sibling(value, element.name in node, (place, base_name), report, element.type)
        else:
            add(report, (place, base_name), f"{name} {_object_problem(value)}", "structure")

    return member


def _sibling_array(element: ElementDefinition) -> Member:
    """`_given`: as long as `given`, null where a value has neither id nor extensions."""
    name = element.name

    def member(value: Any, node: Node, place: Place, report: Report) -> None:
        if not isinstance(value, list) or not value:
            text = f"_{name} must be an array that is not empty, not {json_type(value)}"
            add(report, (place, name), text, "structure")
            return
        values = node.get(name)
        for index, item in enumerate(value):
            _check_sibling_item(item, (name, index, values), place, report, element.type)

    return member


def _check_sibling_item(
    item: object, where: tuple[str, int, object], place: Place, report: Report, type_: str
) -> None:
    name, index, values = where
    has_value = _has_item(values, index)
    at: Place = ((place, name), index)
    if isinstance(item, dict) and item:
        _check_sibling(item, has_value, at, report, type_)
    elif item is not None:
        add(report, at, f"_{name} {_object_problem(item)}", "structure")
    elif values is None:
        add(report, at, f"_{name} must not be null where {name} has no value", "value")


def _check_sibling(value: Node, has_value: bool, place: Place, report: Report, type_: str) -> None:
    for key in value:
        if key not in ("id", "extension"):
            text = f"{shown(key)} is not allowed here: only id and extension are"
            add(report, (place, key), text, "structure")
    known = {key: value[key] for key in ("id", "extension") if key in value}
    if has_value and known.keys() == {"id"}:
        problem = PRIMITIVES["string"](known["id"])
        if problem is not None:
            add(report, (place, "id"), f"id {problem}", "value")
    elif known:
        _compiled(type_)(known, place, report)
