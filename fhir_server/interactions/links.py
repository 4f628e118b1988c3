"""Links between the entries of a transaction, told anew once the server has given ids.

https://hl7.org/fhir/R4/http.html#trules: references, elements of type uri and url, `href` and
`src` in narratives. Canonicals stay. So do oid and uuid elements, for which no address of a
resource is a value, and a uri that is an http address: that is what a conformance resource is
called by everyone (`ValueSet.url`), wherever it is stored.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from fhir_server.errors import FhirError, Kind
from fhir_server.fhir.definitions import ElementDefinition, type_definition
from fhir_server.fhir.json import Resource

Names = Mapping[str, str]
"""From an entry's fullUrl to the `Type/id` that it has on this server."""

_TEMPORARY: Final = ("urn:uuid:", "urn:oid:")
_RESTFUL: Final = re.compile(r"(https?://.+)/[A-Z][A-Za-z]+/[A-Za-z0-9\-.]{1,64}", re.ASCII)
_CONDITIONAL: Final = re.compile(r"[A-Z][A-Za-z]+\?.*", re.ASCII)
_FEW: Final = 128
"""Addresses that are looked for in a text, before it is quicker to go through its tree."""
_ESCAPED: Final = re.compile(r'["\\\x00-\x1f]')
"""Characters that stand otherwise in JSON."""
_NARRATIVE_LINK: Final = re.compile(r"""(\s(?:href|src)\s*=\s*)(["'])([^"'<>]*)\2""")


def relinked(resource: Resource, text: bytes, full_url: str, names: Names) -> Resource:
    """A copy in which links to other entries say where those are stored; itself without links.

    Args:
        text: the resource in JSON, here and below: a look at it is no walk through the tree.
        full_url: that of the resource's own entry: relative references stand in its place
            (https://hl7.org/fhir/R4/bundle.html#references).

    Raises:
        FhirError: INVALID, for a reference to `urn:uuid:` or `urn:oid:` that names no entry.
    """
    restful = _RESTFUL.fullmatch(full_url)
    root = restful[1] if restful else ""
    if not _may_link(text, names, root):
        return resource
    links = _Links(names, root)
    return links.object(resource, resource["resourceType"], resource["resourceType"])


def _may_link(text: bytes, names: Names, root: str) -> bool:
    """Whether there may be a link to an entry."""
    if b"urn:" in text:
        return True
    others = [name for name in names if not name.startswith(_TEMPORARY)]
    if len(others) > _FEW:
        return True
    return any(
        _ESCAPED.search(name) or name.encode() in text or (root and name.startswith(root))
        for name in others
    )


def conditional_references(node: Any, text: bytes, place: str) -> Iterator[tuple[str, str]]:
    """References of the form `Type?criteria`, each with its place."""
    return _conditional(node, place) if b"?" in text else iter(())


def _conditional(node: Any, place: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, dict):
        text = node.get("reference")
        if isinstance(text, str) and _CONDITIONAL.fullmatch(text):
            yield text, f"{place}.reference"
        for name, value in node.items():
            yield from _conditional(value, f"{place}.{name}")
    elif isinstance(node, list):
        for index, item in enumerate(node):
            yield from _conditional(item, f"{place}[{index}]")


def with_types(node: Any, text: bytes, names: Names) -> Any:
    """A copy whose references to entries tell the types of those, for a check before it is stored.

    Nothing is known yet of the shape of what came in; without such references, it comes back.
    """
    return _with_types(node, names) if _may_link(text, names, "") else node


def _with_types(node: Any, names: Names) -> Any:
    if isinstance(node, dict):
        return {
            name: names.get(value, value)
            if name == "reference" and isinstance(value, str)
            else _with_types(value, names)
            for name, value in node.items()
        }
    return [_with_types(item, names) for item in node] if isinstance(node, list) else node


@dataclass(frozen=True, slots=True)
class _Links:
    names: Names
    root: str
    """The base of the resource's sender, '' where its fullUrl does not tell one."""

    def object(self, node: Resource, type_name: str, place: str) -> Resource:
        definition = type_definition(node.get("resourceType", type_name))
        copy: Resource = {}
        for name, value in node.items():
            element = definition.elements.get(name.removeprefix("_"))
            within = f"{place}.{name}"
            if element is None:
                copy[name] = value
            elif type_name == "Reference" and name == "reference":
                copy[name] = self.reference(value, within)
            elif isinstance(value, list):
                copy[name] = [
                    self.value(item, element, f"{within}[{index}]")
                    for index, item in enumerate(value)
                ]
            else:
                copy[name] = self.value(value, element, within)
        return copy

    def value(self, value: Any, element: ElementDefinition, place: str) -> Any:
        if isinstance(value, dict):
            return self.object(value, element.type, place)
        if not isinstance(value, str):
            return value
        match element.type:
            case "uri" if value.startswith(_TEMPORARY):
                return self.names.get(value, value)
            case "url":
                return self.names.get(value, value)
            case "xhtml":
                return _NARRATIVE_LINK.sub(self.narrative, value)
        return value

    def reference(self, text: str, place: str) -> str:
        found = self.names.get(text) or self.names.get(f"{self.root}/{text}")
        if found is None and text.startswith(_TEMPORARY):
            raise FhirError.at(
                Kind.INVALID, place, f"'{text}' is the fullUrl of no entry that is written here"
            )
        return found or text

    def narrative(self, link: re.Match[str]) -> str:
        opening, quote, target = link.groups()
        return f"{opening}{quote}{self.names.get(target, target)}{quote}"
