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

_PLAIN: Final = re.compile(r"([A-Z][A-Za-z]+)/[A-Za-z0-9\-.]{1,64}", re.ASCII)


def plain_reference(targets: tuple[str, ...]) -> Callable[[Mapping[str, Any]], bool]:
    """Whether a Reference is plainly right: `Type/id` of an allowed type, and a display perhaps.

    Of any other nothing is said.
    """
    allowed = frozenset(targets or resource_types())

    def is_plain(node: Mapping[str, Any]) -> bool:
        reference = node.get("reference")
        found = _PLAIN.fullmatch(reference) if isinstance(reference, str) else None
        if found is None or found[1] not in allowed:
            return False
        return len(node) == 1 or (len(node) == 2 and _is_plain_text(node.get("display")))

    return is_plain


def _is_plain_text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_STRING and value.isprintable()


def check_target(
    targets: tuple[str, ...],
) -> Callable[[Mapping[str, Any], Place, Report], None]:
    """Only a relative reference tells the type of its target; `targets` () allows any."""
    allowed = frozenset(targets)

    def check(node: Mapping[str, Any], place: Place, report: Report) -> None:
        reference = node.get("reference")
        found = RELATIVE.fullmatch(reference) if isinstance(reference, str) else None
        if found is None or found[1] in allowed:
            return
        if not is_resource_type(found[1]):
            text = f"{shown(found[1])} in {shown(found[0])} is not a resource type of R4"
            add(report, (place, "reference"), text, "value")
        elif allowed:
            text = f"must refer to {' or '.join(sorted(allowed))}, not to {found[1]}"
            add(report, (place, "reference"), text, "value")

    return check
