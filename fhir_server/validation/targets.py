"""The types that a reference may point to: https://hl7.org/fhir/R4/references.html."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from fhir_server.fhir.definitions import is_resource_type
from fhir_server.validation.places import Place
from fhir_server.validation.primitives import shown
from fhir_server.validation.report import Report, add

RELATIVE: Final = re.compile(
    r"([A-Za-z]+)(?:/[A-Za-z0-9\-.]{1,64}(?:/_history/[A-Za-z0-9\-.]{1,64})?|\?.*)", re.ASCII
)
"""`Type/id`, with a version perhaps, or the criteria of a conditional reference."""


def check_target(
    targets: tuple[str, ...],
) -> Callable[[Mapping[str, Any], Place, Report], None]:
    """What it refers to may be at hand; else only a relative reference tells the type of its
    target. `targets` () allows any."""
    allowed = frozenset(targets)

    def check_resolved(name: object, place: Place, report: Report) -> None:
        """What is no type of R4 is told where it stands."""
        if isinstance(name, str) and is_resource_type(name) and name not in allowed:
            text = f"must refer to {' or '.join(sorted(allowed))}, not to {name}"
            add(report, place, text, "value")

    def check(node: Mapping[str, Any], place: Place, report: Report) -> None:
        reference = node.get("reference")
        # `#` is what contains a resource; where nothing does, it tells nothing.
        is_told = allowed and (reference != "#" or report.container is not None)
        target = report.resolve(reference) if is_told else None
        if target is not None:
            check_resolved(target.get("resourceType"), (place, "reference"), report)
            return
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
