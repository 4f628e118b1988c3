"""Resources in resources: contained ones, and references that only a Bundle can answer.

Sources: https://hl7.org/fhir/R4/references.html#contained and the constraints dom-2 to dom-5 of
https://hl7.org/fhir/R4/domainresource.html#invs;
https://hl7.org/fhir/R4/bundle.html#references.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from fhir_server.errors import Issue
from fhir_server.fhir.definitions import is_resource_type
from fhir_server.validation.places import Place, expression
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
    """dom-3: something refers to each contained resource, or it refers to what contains it.

    To which of two with one id a reference leads, nothing tells.
    """
    contained = resource.get("contained")
    if not isinstance(contained, list):
        return
    said, seen = set(_local_references(resource)), set()
    for index, each in enumerate(contained):
        if not isinstance(each, Mapping) or "id" not in each:
            continue
        name, at = f"#{each['id']}", ((place, "contained"), index)
        if name in seen:
            text = f"another contained resource has the id '{name[1:65]}' too"
            add(report, (at, "id"), text, "invariant")
        elif name not in said and "#" not in _local_references(each):
            text = f"nothing refers to the contained resource '{name[:65]}' (dom-3)"
            add(report, at, text, "invariant")
        seen.add(name)


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
    """bdl-7 of https://hl7.org/fhir/R4/bundle.html#invs: one entry a version of a resource.

    A fullUrl is absolute and does not disagree with the resource (Bundle.entry.fullUrl of
    https://hl7.org/fhir/R4/bundle-definitions.html).
    """
    entries = bundle.get("entry")
    if bundle.get("type") == "history" or not isinstance(entries, list):
        return
    seen: set[tuple[str, str]] = set()
    for index, entry in enumerate(entries):
        url = entry.get("fullUrl") if isinstance(entry, Mapping) else None
        if not isinstance(url, str):
            continue
        at, resource = (((place, "entry"), index), "fullUrl"), entry.get("resource")
        name = (url, _version(resource))
        if name in seen:
            text = f"Another entry has the fullUrl '{url[:200]}' too (bdl-7)"
            add(report, at, text, "invariant")
        elif isinstance(resource, Mapping):
            _check_agreement(url, resource, at, report)
        seen.add(name)


def _check_agreement(url: str, resource: Node, at: Place, report: Report) -> None:
    """Whether a fullUrl can be that of its resource; bdl-8 looks at those of versions."""
    if ":" not in url:  # NHS England's own examples have such
        text = f"a fullUrl is absolute, not '{url[:200]}'"
        report.append(Issue(text, expression(at), "value", "warning"))
        return
    type_name, _, resource_id = "/".join(url.split("/")[-2:]).partition("/")
    if not is_resource_type(type_name):
        return  # not the address of a resource on a FHIR server
    actual = resource.get("resourceType"), resource.get("id", resource_id)
    if actual != (type_name, resource_id):
        text = f"the fullUrl is that of {type_name}/{resource_id[:64]}; the resource is another"
        add(report, at, text, "value")


def check_not_empty(bundle: Node, place: Place, report: Report) -> None:
    """The first entry of a document or message is what it is about (bdl-11, bdl-12)."""
    kind = bundle.get("type")
    if kind in _SELF_CONTAINED and "entry" not in bundle:
        first = "Composition" if kind == "document" else "MessageHeader"
        add(report, (place, "entry"), f"a {kind} has entries, the first a {first}", "required")


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
