"""Where a profile says that references lead: https://hl7.org/fhir/R4/references.html."""

from collections.abc import Mapping
from typing import Any

from fhir_server.validation.profiles.items import Item
from fhir_server.validation.profiles.library import Library
from fhir_server.validation.profiles.say import Rule, Say
from fhir_server.validation.profiles.slicing import Fits
from fhir_server.validation.profiles.tree import Node
from fhir_server.validation.report import Report
from fhir_server.validation.targets import RELATIVE, named_type, type_at


def target_rule(node: Node, library: Library, fits: Fits, say: Say) -> list[Rule]:
    """[] where R4 says the same, or where a target is not known here."""
    targets = _targets(node.element)
    types = [library.type_of(target) for target in targets]
    if not targets or targets == _targets(node.base) or None in types or "Resource" in types:
        return []
    allowed = frozenset(str(name) for name in types)
    has_profiles = any(library.definition(target) for target in targets)
    listed = " or ".join(targets if has_profiles else sorted(allowed))

    def fits_one(resource: Mapping[str, Any], report: Report) -> bool:
        return any(fits(target, resource, report) for target in targets)

    def rule(item: Item, report: Report) -> None:
        reference = item.value.get("reference") if isinstance(item.value, Mapping) else item.value
        resource = report.resolve(reference)
        found = _type_name(resource, reference, item, report)
        if found and found not in allowed:
            text = f"must refer to {listed}, not to {found}"
        elif resource is not None and has_profiles and not fits_one(resource, report):
            text = f"must refer to {listed}; what it refers to does not fit"
        else:
            return
        if not _is_told(item, report):
            say(report, item.place, text, "value", "targetProfile")

    return [rule]


def _targets(element: Mapping[str, Any]) -> list[str]:
    return [url for entry in element.get("type", ()) for url in entry.get("targetProfile", ())]


def _is_told(item: Item, report: Report) -> bool:
    """Whether R4 itself refuses what the reference says of its target."""
    return report.has_wrong(item.place, ("reference", "type"))


def _type_name(
    resource: Mapping[str, Any] | None, reference: Any, item: Item, report: Report
) -> str:
    """'' where neither the target, nor the reference, nor its `type` tells."""
    if resource is not None:
        return str(resource.get("resourceType", ""))
    if isinstance(item.value, Mapping):
        found = type_at(reference, report) if isinstance(reference, str) else None
        return found or named_type(item.value) or ""
    # The address in a canonical says nothing: it is a name.
    relative = RELATIVE.fullmatch(reference) if isinstance(reference, str) else None
    return "" if relative is None else str(relative[1])
