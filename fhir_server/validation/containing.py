"""Resources in resources: contained ones, and references that only a Bundle can answer.

Sources: https://hl7.org/fhir/R4/references.html#contained and the constraints dom-2 to dom-5 of
https://hl7.org/fhir/R4/domainresource.html#invs;
https://hl7.org/fhir/R4/bundle.html#references.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from fhir_server.validation.places import Place
from fhir_server.validation.report import Node, Report, add
from fhir_server.validation.resolving import Entries

_SELF_CONTAINED: Final = ("document", "message")
_LOCAL: Final = ("urn:uuid:", "urn:oid:")


def check_contained(node: Node, place: Place, report: Report) -> None:
    if "id" not in node:
        add(report, (place, "id"), "a contained resource needs an id to be referred to", "required")
    if "contained" in node:
        text = "a contained resource must not contain resources itself (dom-2)"
        add(report, (place, "contained"), text, "invariant")
    meta = node.get("meta")
    for name in meta if isinstance(meta, Mapping) else ():
        if name in ("versionId", "lastUpdated"):
            text = f"a contained resource has no {name} of its own (dom-4)"
            add(report, ((place, "meta"), name), text, "invariant")
        elif name == "security":
            text = "a contained resource has no security labels of its own (dom-5)"
            add(report, ((place, "meta"), name), text, "invariant")


def check_container(resource: Node, place: Place, report: Report) -> None:
    """dom-3: something refers to each contained resource, or it refers to what contains it."""
    contained = resource.get("contained")
    if not isinstance(contained, list):
        return
    said = set(_local_references(resource))
    for index, each in enumerate(contained):
        if not isinstance(each, Mapping) or "id" not in each:
            continue
        if f"#{each['id']}" not in said and "#" not in _local_references(each):
            text = f"nothing refers to the contained resource '#{str(each['id'])[:64]}' (dom-3)"
            add(report, ((place, "contained"), index), text, "invariant")


def _local_references(value: Any) -> Iterator[str]:
    """Whatever begins with `#`, wherever it stands: canonicals and uris refer like that too."""
    if isinstance(value, str):
        if value.startswith("#"):
            yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _local_references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _local_references(inner)


def check_full_urls(bundle: Node, place: Place, report: Report) -> None:
    """bdl-7 of https://hl7.org/fhir/R4/bundle.html#invs: one entry a version of a resource."""
    entries = bundle.get("entry")
    if bundle.get("type") == "history" or not isinstance(entries, list):
        return
    seen: set[tuple[str, str]] = set()
    for index, entry in enumerate(entries):
        url = entry.get("fullUrl") if isinstance(entry, Mapping) else None
        if not isinstance(url, str):
            continue
        name = (url, _version(entry.get("resource")))
        if name in seen:
            text = f"Another entry has the fullUrl '{url[:200]}' too (bdl-7)"
            add(report, (((place, "entry"), index), "fullUrl"), text, "invariant")
        seen.add(name)


def _version(resource: Any) -> str:
    meta = resource.get("meta") if isinstance(resource, Mapping) else None
    return str(meta.get("versionId", "")) if isinstance(meta, Mapping) else ""


def dangling(bundle: Node, place: Place, report: Report) -> None:
    """References of a document or message that nothing outside the Bundle can answer."""
    if bundle.get("type") not in _SELF_CONTAINED:
        return
    entries = bundle.get("entry")
    known = report.entries(bundle)
    for index, entry in enumerate(entries if isinstance(entries, list) else ()):
        resource = entry.get("resource") if isinstance(entry, Mapping) else None
        if isinstance(resource, Mapping):
            at = (((place, "entry"), index), "resource")
            _check_references(resource, resource, at, known, report)


def _check_references(
    value: Any, source: Node, place: Place, known: Entries, report: Report
) -> None:
    if isinstance(value, Mapping):
        reference = str(value.get("reference", ""))
        if reference.startswith(_LOCAL) and known.find(reference, source) is None:
            text = f"{reference[:100]} is no fullUrl of the Bundle, and nothing else knows it"
            add(report, (place, "reference"), text, "not-found")
        for name, inner in value.items():
            if isinstance(inner, Mapping | list):
                _check_references(inner, source, (place, name), known, report)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            if isinstance(inner, Mapping | list):
                _check_references(inner, source, (place, index), known, report)
