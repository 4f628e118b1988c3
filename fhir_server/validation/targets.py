"""The types that a reference may point to: https://hl7.org/fhir/R4/references.html."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from fhir_server.fhir.definitions import is_resource_type, resource_types
from fhir_server.validation.places import Place
from fhir_server.validation.primitives import MAX_STRING, shown
from fhir_server.validation.report import Report, add

RELATIVE: Final = re.compile(
    r"([A-Za-z]+)(?:/[A-Za-z0-9\-.]{1,64}(?:/_history/[A-Za-z0-9\-.]{1,64})?|\?.*)", re.ASCII
)
"""`Type/id`, with a version perhaps, or the criteria of a conditional reference."""
_ON_A_SERVER: Final = re.compile(
    r"https?://[^?#]+/([A-Z][A-Za-z]+)/[A-Za-z0-9\-.]{1,64}(?:/_history/[A-Za-z0-9\-.]{1,64})?",
    re.ASCII,
)
"""The address of a resource on some FHIR server, where the name is a type of R4:
https://hl7.org/fhir/R4/references.html#literal"""
_DEFINITIONS: Final = "http://hl7.org/fhir/StructureDefinition/"
"""`Reference.type` is relative to this."""
_AT_HAND: Final = ("#", "urn:uuid:", "urn:oid:")
"""Contained, or in the same Bundle."""

_is_id: Final = re.compile(r"[A-Za-z0-9\-.]{1,64}", re.ASCII).fullmatch
Check = Callable[[Mapping[str, Any], Place, Report], None]


def unless_plain(targets: tuple[str, ...], whole: Check) -> Check:
    """The whole check of a Reference, but for those that are plainly right.

    These are `Type/id` of an allowed type, with a display perhaps; most are of that kind.
    """
    allowed = frozenset(targets or resource_types())

    def check(node: Mapping[str, Any], place: Place, report: Report) -> None:
        reference = node.get("reference")
        if type(reference) is str:
            name, _, id_ = reference.partition("/")
            if name in allowed and _is_id(id_) and (len(node) == 1 or _has_but_display(node)):
                return
        whole(node, place, report)

    return check


def _has_but_display(node: Mapping[str, Any]) -> bool:
    display = node.get("display")
    return (
        len(node) == 2
        and type(display) is str
        and 0 < len(display) <= MAX_STRING
        and display.isprintable()
    )


def check_target(
    targets: tuple[str, ...],
) -> Callable[[Mapping[str, Any], Place, Report], None]:
    """A reference tells the type of its target, and so does its `type`: both have to be allowed.

    `targets` () allows any.
    """
    allowed = frozenset(targets)
    listed = " or ".join(sorted(allowed))

    def check(node: Mapping[str, Any], place: Place, report: Report) -> None:
        reference, named = node.get("reference"), named_type(node)
        found = type_at(reference, report) if isinstance(reference, str) else None
        if found is not None and not is_resource_type(found):
            text = f"{shown(found)} in {shown(str(reference))} is not a resource type of R4"
            add(report, (place, "reference"), text, "value")
        elif found is not None and allowed and found not in allowed:
            text = f"must refer to {listed}, not to {found}"
            add(report, (place, "reference"), text, "value")
        elif found is not None and named not in (None, found):
            text = f"type says {named}, and the reference is to {found}"
            add(report, (place, "type"), text, "value")
        elif found is None and named is not None and allowed and named not in allowed:
            add(report, (place, "type"), f"must refer to {listed}, not to {named}", "value")

    return check


def named_type(node: Mapping[str, Any]) -> str | None:
    """What `Reference.type` says; None for what is no resource type of R4, a logical model's say.

    https://hl7.org/fhir/R4/references-definitions.html#Reference.type
    """
    given = node.get("type")
    name = given.removeprefix(_DEFINITIONS) if isinstance(given, str) else ""
    return name if is_resource_type(name) else None


def type_at(reference: str, report: Report) -> str | None:
    """None where neither the reference nor what came in with it tells."""
    found = RELATIVE.fullmatch(reference)
    if found is not None:
        return found[1]
    elsewhere = _ON_A_SERVER.fullmatch(reference)
    if elsewhere is not None and is_resource_type(elsewhere[1]):
        return elsewhere[1]
    at_hand = report.resolve(reference) if reference.startswith(_AT_HAND) else None
    name = None if at_hand is None else at_hand.get("resourceType")
    return name if isinstance(name, str) and is_resource_type(name) else None
