"""Resources in resources: contained ones, and those of Bundles.

Sources: https://hl7.org/fhir/R4/references.html#contained and the constraints dom-2 to dom-5 of
https://hl7.org/fhir/R4/domainresource.html#invs; https://hl7.org/fhir/R4/bundle.html#invs.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Final

from fhir_server.errors import Issue
from fhir_server.fhir.definitions import is_resource_type, type_definition
from fhir_server.fhir.references import is_id
from fhir_server.validation.places import Place, expression
from fhir_server.validation.report import Node, Report, add, is_cause, last_name

_REFERRING: Final = frozenset({"Reference", "canonical", "uri", "url"})
SELF_CONTAINED: Final = ("document", "message")


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
    said, seen, orphans = set(_local_references(resource)), set(), []
    for index, each in enumerate(contained):
        if not isinstance(each, Mapping) or "id" not in each:
            continue
        name, at = f"#{each['id']}", ((place, "contained"), index)
        if name in seen:
            text = f"another contained resource has the id '{name[1:65]}' too"
            add(report, (at, "id"), text, "invariant")
        elif name not in said and "#" not in _local_references(each):
            orphans.append((at, f"nothing refers to the contained resource '{name[:65]}' (dom-3)"))
        seen.add(name)
    # One that R4 refuses may well be the reference that is missed.
    unread = _unread_references(resource, place, report) if orphans else 0
    for at, text in orphans[unread:]:
        add(report, at, text, "invariant")


def _unread_references(resource: Node, place: Place, report: Report) -> int:
    """How many references in a resource, and in what it contains, R4 refuses."""
    whole = [resource, *(each for each in resource["contained"] if isinstance(each, Mapping))]
    types = (each.get("resourceType") for each in whole)
    names = {"reference"}.union(
        *(_referring(name) for name in types if is_resource_type(str(name)))
    )
    within = f"{expression(place)}."
    places = (
        str(issue.expression)
        for issue in report
        if issue.profile is None and (is_cause(issue) or issue.rule == "ref-1")
    )
    return sum(each.startswith(within) and last_name(each) in names for each in places)


@cache
def _referring(type_name: object) -> frozenset[str]:
    """The elements of a type, and of its backbones, that can refer."""
    elements = type_definition(str(type_name)).elements.values()
    inner = (_referring(each.type) for each in elements if each.type.startswith(f"{type_name}."))
    named = {each.base_name for each in elements if each.type in _REFERRING}
    return frozenset(named).union(*inner)


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
    actual, own = resource.get("resourceType"), resource.get("id", resource_id)
    if not isinstance(actual, str) or not isinstance(own, str) or not is_id(own):
        return  # that is told where it stands
    if (actual, own) != (type_name, resource_id):
        text = f"the fullUrl is that of {type_name}/{resource_id[:64]}; the resource is another"
        add(report, at, text, "value")


def check_not_empty(bundle: Node, place: Place, report: Report) -> None:
    """The first entry of a document or message is what it is about (bdl-11, bdl-12)."""
    kind = bundle.get("type")
    if kind in SELF_CONTAINED and "entry" not in bundle:
        first = "Composition" if kind == "document" else "MessageHeader"
        add(report, (place, "entry"), f"a {kind} has entries, the first a {first}", "required")


def _version(resource: Any) -> str:
    meta = resource.get("meta") if isinstance(resource, Mapping) else None
    return str(meta.get("versionId", "")) if isinstance(meta, Mapping) else ""
