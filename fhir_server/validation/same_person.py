"""Whether a plan, an involvement or a rating refers to what is of the same young person.

Where it is stored: a goal of somebody else in a plan tells one family of another.
Source: docs/profiles/kw-care-plan.md
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final, NamedTuple

import msgspec

from fhir_server.errors import Issue
from fhir_server.fhir import canonicals
from fhir_server.fhir.json import Resource
from fhir_server.fhir.references import parse_local
from fhir_server.terminology.library import Reads


class _Kind(NamedTuple):
    """Resources that have a code of the service's `system` at `element`, of whom `person` tells."""

    element: str
    system: str
    person: str
    of_one: tuple[str, ...]
    """Elements that refer to what has a `subject`."""


_KINDS: Final = {
    "CarePlan": _Kind(
        "category", canonicals.CARE_PLAN_CATEGORY, "subject", ("careTeam", "goal", "encounter")
    ),
    "EpisodeOfCare": _Kind("type", canonicals.EPISODE_TYPE, "patient", ("team",)),
    "Flag": _Kind("category", canonicals.FLAG_CATEGORY, "subject", ("encounter",)),
}


class _Told(msgspec.Struct):
    """What is looked at of a stored resource: to decode all of it takes three times as long."""

    subject: Any = None


_subject_of: Final = msgspec.json.Decoder(_Told).decode
_SMALL: Final = 4096
"""Bytes of what is remembered as a whole."""
_MOST: Final = 100
"""References of one resource that are followed."""


async def unfit_people(resource: Resource | None, data: Reads, base: str) -> list[Issue]:
    """What it refers to that is somebody else's; one that was entered in error is left alone."""
    kind = _KINDS.get(str((resource or {}).get("resourceType")))
    if resource is None or kind is None or resource.get("status") == "entered-in-error":
        return []
    whose = local_name(resource.get(kind.person), base)
    if not whose or not _is_of(resource, kind):
        return []
    issues = []
    for reference, place in [*_references(resource, kind)][:_MOST]:
        other = await _person_of(local_name(reference, base), data, base)
        if other and other != whose:
            text = f"{reference['reference']} is not of {whose}, whose {place[0]} this is"
            issues.append(Issue(text, ".".join(place), "business-rule", "error"))
    return issues


def local_name(reference: Any, base: str) -> str:
    """`Patient/1` as this server names it; '' where a reference leads elsewhere or nowhere."""
    text = reference.get("reference", "") if isinstance(reference, dict) else ""
    local = parse_local(text, base)
    return "" if local is None else f"{local.type}/{local.id}"


async def _person_of(name: str, data: Reads, base: str) -> str:
    type_name, _, resource_id = name.partition("/")
    found = await data.read(type_name, resource_id) if name else None
    if found is None or found.deleted:
        return ""
    return (_whose_again if len(found.body) <= _SMALL else _whose)(found.body, base)


def _whose(body: bytes, base: str) -> str:
    return local_name(_subject_of(body).subject, base)


@lru_cache(maxsize=1024)
def _whose_again(body: bytes, base: str) -> str:
    """As `_whose`; plan after plan refers to the same goals and the same team."""
    return _whose(body, base)


def _is_of(resource: Resource, kind: _Kind) -> bool:
    return any(
        coding.get("system") == kind.system
        for concept in resource.get(kind.element, ())
        for coding in concept.get("coding", ())
    )


def _references(resource: Resource, kind: _Kind) -> Iterator[tuple[Resource, tuple[str, str]]]:
    """Each with its place: the type, and the element."""
    name = resource["resourceType"]
    for element in kind.of_one:
        given = resource.get(element, ())
        if isinstance(given, dict):
            yield given, (name, element)
        else:
            yield from ((one, (name, f"{element}[{at}]")) for at, one in enumerate(given))
