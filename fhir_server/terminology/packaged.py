"""Terminology of the FHIR packages that the settings name, by canonical address.

It stands in memory beside what is shipped, and is what every caller may use.
Source: https://hl7.org/fhir/R4/references.html#canonical
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from fhir_server.fhir import json
from fhir_server.fhir.json import Resource
from fhir_server.terminology.elements import items, text
from fhir_server.terminology.held import Held, digest

TYPES: Final = ("CodeSystem", "ValueSet", "ConceptMap")
_STATUS: Final = {"active": 3, "draft": 2, "unknown": 1}
_NUMBERS: Final = re.compile(r"\d{1,18}", re.ASCII)


class Packaged:
    """What several packages have; nothing is worked out of it before it is asked for."""

    def __init__(self, resources: Iterable[Resource] = ()) -> None:
        self._held: dict[tuple[str, str], list[Held]] = {}
        for resource in resources:
            key = (text(resource, "resourceType"), text(resource, "url"))
            if key[0] in TYPES and key[1]:
                self._held.setdefault(key, []).append(_held(resource))

    def named(self, resource_type: str, canonical: str) -> Held | None:
        """The resource with this address, perhaps with `|version`; of several, the newest."""
        url, _, version = canonical.partition("|")
        known = [
            one
            for one in self._held.get((resource_type, url), ())
            if version in ("", text(one.resource, "version"))
        ]
        return max(known, key=lambda one: recency(one.resource), default=None)

    def maps(self, system: str) -> list[Held]:
        """The concept maps that translate codes of the system, or into it."""
        return [
            one
            for (resource_type, _), several in self._held.items()
            for one in several
            if resource_type == "ConceptMap" and system in _translated(one.resource)
        ]


NONE: Final = Packaged()


def _held(resource: Resource) -> Held:
    body = json.encode(resource)
    return Held(digest(body), resource, size=len(body))


def _translated(concept_map: Mapping[str, object]) -> set[str]:
    groups = items(concept_map, "group")
    return {text(group, name) for group in groups for name in ("source", "target")}


def recency(resource: Resource) -> tuple[object, ...]:
    """Active before draft before retired; then the version, 1.10 after 1.9; then the last edit."""
    version = text(resource, "version")
    return (
        _STATUS.get(text(resource, "status"), 0),
        [int(part) for part in _NUMBERS.findall(version)],
        version,
        text(resource.get("meta"), "lastUpdated"),
        text(resource, "id"),
    )
