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
from functools import cache, partial
from typing import Any, Final

from fhir_server.errors import MAX_ISSUES, Issue
from fhir_server.fhir.definitions import (
    ElementDefinition,
    TypeDefinition,
    is_resource_type,
    resource_types,
    type_definition,
)
from fhir_server.validation.bindings import accepted_codes, bound_codes, bound_concepts
from fhir_server.validation.containing import (
    check_contained,
    check_container,
)
from fhir_server.validation.echoes import told_once
from fhir_server.validation.objects import (
    has_sibling,
    is_primitive,
    object_rules,
    required_groups,
)
from fhir_server.validation.places import Place
from fhir_server.validation.primitives import (
    ACCEPTED,
    MAX_STRING,
    PRIMITIVES,
    Accepts,
    PrimitiveCheck,
    json_type,
    shown,
)
from fhir_server.validation.profiles.base import element_rules
from fhir_server.validation.report import Met, Node, Report, add
from fhir_server.validation.targets import check_target, unless_plain

Check = Callable[[Node, Place, Report], None]
"""Checks one JSON object."""
Member = Callable[[Any, Node, Place, Report], None]
"""Checks the value of one key; the object that holds it is at hand for the `_` sibling."""

_MAX_SUGGESTIONS: Final = 20
"""Names suggested in one run: comparing them is the one slow step, so a sender cannot buy many."""
_MAX_SUGGESTED_LENGTH: Final = 64


def check_resource(resource: Node, *, expected_type: str | None = None) -> list[Issue]:
    """Every error of a resource against R4's definition, each once; [] when there is none.

    `expected_type` is the type that the address names. Profiles, what is known of extensions,
    and warnings are the business of `validation.checker`.
    """
    report = Report()
    check_base(resource, report, expected_type)
    told = told_once(report, report.notes, resource)
    return bounded([issue for issue in told if issue.severity == "error"])


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
    """The first of them, which stand the gravest first, and how many there are besides."""
    rest = len(issues) - MAX_ISSUES
    if rest <= 0:
        return issues
    text = f"and {rest} further problems"
    return [*issues[:MAX_ISSUES], Issue(text, severity=issues[MAX_ISSUES].severity)]


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
    plain = _plain(definition)
    members = {key: (plain.get(key), member) for key, member in _members(definition).items()}
    required = tuple((group.first, group) for group in required_groups(definition))
    rules, rules_of_one = (
        tuple(object_rules(definition)),
        tuple(object_rules(definition, is_alone=True)),
    )

    def check(node: Node, place: Place, report: Report) -> None:
        for key, value in node.items():
            if key not in members:
                _unknown(key, definition, place, report)
                continue
            accepts, member = members[key]
            if accepts and type(value) is str and 0 < len(value) <= MAX_STRING and accepts(value):
                continue
            member(value, node, place, report)
        for first, group in required:
            if first not in node and group.names.isdisjoint(node):
                add(report, (place, group.base_name), group.text, "required")
        for rule in rules if len(node) > 1 else rules_of_one:
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
            _array(element, partial(_extension, element.name, definition.name))
            if is_extension
            else _member(element)
        )
        if has_sibling(element):
            members[f"_{name}"] = _sibling_array(element) if element.repeats else _sibling(element)
        rule = rules.get(element.base_name)
        if rule is not None:
            members[name] = _with_rule(members[name], rule)
            if f"_{name}" in members:
                members[f"_{name}"] = _with_rule(members[f"_{name}"], rule, unless=name)
    return members


def _plain(definition: TypeDefinition) -> dict[str, Accepts]:
    """What tells that a value is plainly right, of the primitives that have no rule besides."""
    rules = element_rules(definition.name)
    found = {
        name: _accepts(element)
        for name, element in definition.elements.items()
        if not element.repeats and element.base_name not in rules
    }
    return {name: accepts for name, accepts in found.items() if accepts is not None}


def _accepts(element: ElementDefinition) -> Accepts | None:
    if element.value_set is None or not is_primitive(element):
        return ACCEPTED.get(element.type)
    return accepted_codes(element.value_set, element.type)


def _with_rule(member: Member, rule: Check, unless: str = "") -> Member:
    """A rule of the element, once: with its sibling only where it has no value (`unless`)."""

    def both(value: Any, node: Node, place: Place, report: Report) -> None:
        member(value, node, place, report)
        if unless not in node:
            rule(node, place, report)

    return both


def _accept(_value: Any, _node: Node, _place: Place, _report: Report) -> None:
    """`resourceType` was read before the type was known."""


def _unknown(key: str, definition: TypeDefinition, place: Place, report: Report) -> None:
    if key == "resourceType":
        text = "resourceType belongs to resources only"
    else:
        text = f"{shown(key)} is not an element of {definition.name}"
        if len(report) < _MAX_SUGGESTIONS:
            text += _did_you_mean(key, tuple(definition.elements))
    add(report, (place, key), text, "structure")


# Members -------------------------------------------------------------------------------------


def _member(element: ElementDefinition) -> Member:
    if is_primitive(element):
        check = _primitive_check(element)
        return _primitive_array(element, check) if element.repeats else _primitive(element, check)
    make = partial(_item_check, element)
    return _array(element, make) if element.repeats else _single(element, make)


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


def _single(element: ElementDefinition, make: Callable[[], Check]) -> Member:
    """`make` compiles the type, which may hold itself, when the first value is met."""
    name, base_name = element.name, element.base_name
    item: Check | None = None

    def member(value: Any, _node: Node, place: Place, report: Report) -> None:
        nonlocal item
        if isinstance(value, dict) and value:
            item = item or make()
            item(value, (place, base_name), report)
        else:
            add(report, (place, base_name), f"{name} {_object_problem(value)}", "structure")

    return member


def _array(element: ElementDefinition, make: Callable[[], Check]) -> Member:
    name = element.name
    item: Check | None = None

    def member(value: Any, _node: Node, place: Place, report: Report) -> None:
        nonlocal item
        if (type(value) is not list or not value) and not _is_filled_array(
            value, element, place, report
        ):
            return
        item = item or make()
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
    if element.type == "Reference":
        whole = _both(_compiled("Reference"), check_target(element.targets))
        return unless_plain(element.targets, whole)
    check = _compiled(element.type)
    if element.value_set is not None:
        check = _both(check, bound_concepts(element.value_set, element.type))
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
    is_modifier, of_type = name == "modifierExtension", _compiled("Extension")

    def check(node: Node, place: Place, report: Report) -> None:
        of_type(node, place, report)
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
