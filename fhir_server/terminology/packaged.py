"""Terminology of the FHIR packages that the settings name, by canonical address.

It is what every caller may use, as what is shipped.
Source: https://hl7.org/fhir/R4/references.html#canonical
"""

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property, partial
from typing import Any, Final, NamedTuple

from fhir_server.fhir import json
from fhir_server.fhir.filed import Filed
from fhir_server.fhir.json import Resource
from fhir_server.terminology.elements import items, text
from fhir_server.terminology.held import SHELF, Held, digest

TYPES: Final = ("CodeSystem", "ValueSet", "ConceptMap")
_HEADING: Final = ("id", "version", "status")
_STATUS: Final = {"active": 3, "draft": 2, "unknown": 1}
_NUMBERS: Final = re.compile(r"\d{1,18}", re.ASCII)


class Packaged:
    """What several packages have; nothing is read and worked out before it is asked for."""

    def __init__(self, resources: Iterable[Mapping[str, Any]] = ()) -> None:
        self._known: dict[tuple[str, str], list[_Known]] = {}
        for resource in resources:
            kind, url = resource.get("resourceType"), resource.get("url")
            if kind in TYPES and isinstance(url, str):
                self._known.setdefault((kind, url), []).append(_known(resource))

    def named(self, resource_type: str, canonical: str) -> Held | None:
        """The resource with this address, perhaps with `|version`; of several, the newest."""
        url, _, version = canonical.partition("|")
        known = [
            one
            for one in self._known.get((resource_type, url), ())
            if version in ("", text(one.heading, "version"))
        ]
        newest = max(known, key=lambda one: recency(one.heading), default=None)
        return newest.held() if newest else None

    def maps(self, system: str) -> list[Held]:
        """The concept maps that translate codes of the system, or into it."""
        return [known.held() for known, systems in self._maps if system in systems]

    @cached_property
    def _maps(self) -> "list[tuple[_Known, frozenset[str]]]":
        return [
            (one, _translated(one.held().resource))
            for (resource_type, _), several in self._known.items()
            for one in several
            if resource_type == "ConceptMap"
        ]


NONE: Final = Packaged()


class _Known(NamedTuple):
    """`held` reads the resource where it is not kept."""

    heading: Resource
    held: Callable[[], Held]


def _known(resource: Mapping[str, Any]) -> _Known:
    heading = {name: resource[name] for name in _HEADING if name in resource}
    if isinstance(resource, Filed):
        return _Known(heading, partial(_read, resource))
    body = json.encode(resource)
    held = Held(digest(body), dict(resource), size=len(body))
    return _Known(heading, lambda: held)


def _read(filed: Filed) -> Held:
    known = SHELF.get(filed.digest)
    return known or SHELF.put(Held(filed.digest, filed.fresh(), size=filed.size))


def _translated(concept_map: Mapping[str, object]) -> frozenset[str]:
    groups = items(concept_map, "group")
    return frozenset(text(group, name) for group in groups for name in ("source", "target"))


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
