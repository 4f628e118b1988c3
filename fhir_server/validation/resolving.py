"""Where references lead, as far as what came in says: contained resources and entries of Bundles.

Sources: https://hl7.org/fhir/R4/references.html#contained,
https://hl7.org/fhir/R4/bundle.html#references. Nothing is fetched and no store is asked.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

Node = Mapping[str, Any]

_RESTFUL: Final = re.compile(r"(.*/)?([A-Z][A-Za-z]+/[A-Za-z0-9\-.]{1,64})", re.ASCII)
_VERSION: Final = re.compile(r"/_history/[A-Za-z0-9\-.]{1,64}\Z", re.ASCII)


class Entries:
    """The resources in a Bundle, by their fullUrls."""

    def __init__(self, bundle: Node) -> None:
        self.bundle = bundle
        self._by_url: dict[str, Node] = {}
        self._by_id: dict[str, Node] = {}
        self._beside: dict[int, dict[str, Node]] = {}
        """By the id of an entry's resource, what a relative reference from it may lead to."""
        bases: dict[str, dict[str, Node]] = {}
        for url, resource in _entries(bundle):
            self._by_id.setdefault(f"{resource.get('resourceType')}/{resource.get('id')}", resource)
            if url:
                self._by_url.setdefault(url, resource)
            restful = _RESTFUL.fullmatch(url)
            if restful is not None:
                beside = bases.setdefault(restful[1] or "", {})
                beside.setdefault(restful[2], resource)
                self._beside[id(resource)] = beside

    def find(self, reference: str, source: Node) -> Node | None:
        """The entry that a reference from `source`, itself an entry, leads to."""
        reference = _VERSION.sub("", reference)
        if reference in self._by_url:
            return self._by_url[reference]
        found = _RESTFUL.fullmatch(reference)
        if found is None or found[1]:
            return None
        # A relative reference from an entry without a RESTful fullUrl goes by type and id.
        return self._beside.get(id(source), self._by_id).get(reference)


def _entries(bundle: Node) -> Iterator[tuple[str, Node]]:
    entries = bundle.get("entry")
    for entry in entries if isinstance(entries, list) else ():
        resource = entry.get("resource") if isinstance(entry, Mapping) else None
        if isinstance(resource, Mapping):
            url = entry.get("fullUrl")
            yield url if isinstance(url, str) else "", resource


def contained_by_id(container: Node) -> dict[str, Node]:
    """The first of those that have the same id, and one that has none by ''."""
    contained = container.get("contained")
    found: dict[str, Node] = {}
    for each in contained if isinstance(contained, list) else ():
        if isinstance(each, Mapping):
            name = each.get("id", "")
            found.setdefault(name if isinstance(name, str) else "", each)
    return found
