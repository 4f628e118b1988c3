"""What a resource contributes to the facts by which access is decided.

A resource that cannot be read, or that something in it may turn round, contributes nothing that
opens anything; such a consent denies. What has ended (a stay, an episode, a care team) contributes
nothing.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from fhir_server.access.facts import consents
from fhir_server.access.facts.elements import codes, is_inactive, is_modified, span
from fhir_server.access.facts.naming import Unreadable, names, objects, own_codes, own_numbers
from fhir_server.access.facts.parts import (
    AnyPart,
    Contribution,
    EpisodePart,
    Member,
    Names,
    OrganisationPart,
    PatientPart,
    RelatedPart,
    RolePart,
    StayPart,
    TeamPart,
    keeping,
)
from fhir_server.fhir import canonicals
from fhir_server.fhir.dates import EARLIEST, interval, moment
from fhir_server.fhir.dates import LOCAL as LONDON
from fhir_server.fhir.json import Resource

Found = tuple[Names, AnyPart, Names]
"""Subjects, part, grantees."""

_OPEN_EPISODE: Final = frozenset({"planned", "waitlist", "active", "onhold"})
_OPEN_STAY: Final = frozenset({"arrived", "triaged", "in-progress", "onleave"})
_INPATIENT: Final = frozenset({"IMP", "ACUTE", "NONAC"})
"""v3-ActEncounterCode: inpatient, and the two kinds of it."""
_OPENING: Final = frozenset(
    {"RelatedPerson", "EpisodeOfCare", "CareTeam", "Encounter", "PractitionerRole"}
)
"""What can only open: who somebody is counts all the same, and a consent by denying."""


def contribution(resource: Resource) -> Contribution | None:
    """What it contributes; None for nothing."""
    kind = resource["resourceType"]
    reader = _READERS.get(kind)
    if reader is None:
        return None
    try:
        found = None if kind in _OPENING and is_modified(resource) else reader(resource)
    except (Unreadable, AttributeError, KeyError, TypeError, ValueError, RecursionError):
        return None
    if found is None:
        return None
    subjects, part, grantees = found
    return Contribution(
        f"{resource['resourceType']}/{resource['id']}",
        tuple(dict.fromkeys(subjects)),
        part,
        tuple(dict.fromkeys(grantees)),
    )


def _patient(resource: Resource) -> Found:
    own = f"Patient/{resource['id']}"
    numbers = own_numbers(resource)
    keeper = _keeper(resource)
    part = PatientPart(_born(resource.get("birthDate")), _died(resource), numbers, keeper)
    return (own, *numbers), part, (own, *map(keeping, keeper))


def _keeper(resource: Resource) -> Names:
    """Who manages the record; where that cannot be told, nobody, and all else counts as it is."""
    try:
        found = names(resource.get("managingOrganization"), resource)[:1]
    except Unreadable:
        return ()
    return found if found[0].startswith(("Organization/", "ods:")) else ()


def _born(text: Any) -> tuple[str, str] | None:
    """A year or month of birth is any day of it; what cannot be read is no birthday."""
    try:
        low, high = interval(text)
        days = [moment(at).astimezone(LONDON).date().isoformat() for at in (low, high - 1)]
    except (TypeError, ValueError, OverflowError):
        return None
    return days[0], days[1]


def _died(resource: Resource) -> int | None:
    """From when on; a death that cannot be dated has always been."""
    told = resource.get("deceasedDateTime")
    if told is None:
        return EARLIEST if resource.get("deceasedBoolean", False) is not False else None
    try:
        return interval(told).low
    except (TypeError, ValueError):
        return EARLIEST


def _related(resource: Resource) -> Found | None:
    if is_inactive(resource):
        return None
    part = RelatedPart(span(resource.get("period")), shows_responsibility(resource))
    return _subject(resource, "patient"), part, (f"RelatedPerson/{resource['id']}",)


def shows_responsibility(resource: Resource) -> bool:
    told = [
        extension
        for extension in objects(resource.get("extension"))
        if extension.get("url") == canonicals.PARENTAL_RESPONSIBILITY_EXTENSION
    ]
    if len(told) != 1:
        return False
    parts = {item.get("url"): item for item in objects(told[0].get("extension"))}
    evidence = parts.get("evidence", {}).get("valueCodeableConcept")
    return parts.get("held", {}).get("valueBoolean") is True and bool(
        codes(evidence, canonicals.PARENTAL_RESPONSIBILITY_EVIDENCE)
    )


def _episode(resource: Resource) -> Found | None:
    kinds = [
        code
        for concept in objects(resource.get("type"))
        for code in codes(concept, canonicals.EPISODE_TYPE)
    ]
    if resource.get("status") not in _OPEN_EPISODE or "keyworking" not in kinds:
        return None
    manager = names(resource["careManager"], resource) if "careManager" in resource else ()
    teams = tuple(names(team, resource)[0] for team in objects(resource.get("team")))
    part = EpisodePart(span(resource.get("period")), manager[:1], teams)
    return _subject(resource, "patient"), part, manager[:1]


def _team(resource: Resource) -> Found | None:
    if resource.get("status") != "active":
        return None
    members = tuple(_member(item, resource) for item in objects(resource.get("participant")))
    part = TeamPart(span(resource.get("period")), members)
    return _subject(resource, "subject"), part, tuple(member.names[0] for member in members)


def _member(participant: Any, team: Resource) -> Member:
    roles = [
        code
        for concept in objects(participant.get("role"))
        for code in codes(concept, canonicals.CARE_TEAM_ROLE)
    ]
    behalf = participant.get("onBehalfOf")
    return Member(
        names(participant.get("member"), team)[:1],
        "keyworker" in roles,
        () if behalf is None else names(behalf, team)[:1],
        span(participant.get("period")),
    )


def _stay(resource: Resource) -> Found | None:
    kind = resource.get("class") or {}
    if resource.get("status") not in _OPEN_STAY or kind.get("code") not in _INPATIENT:
        return None
    if kind.get("system", canonicals.ACT_CODE) != canonicals.ACT_CODE:
        return None
    provider = names(resource.get("serviceProvider"), resource)[:1]
    part = StayPart(span(resource.get("period")), provider)
    return _subject(resource, "subject"), part, provider


def _consent(resource: Resource) -> Found | None:
    part = consents.part(resource)
    if part is None:
        return None
    return _subject(resource, "patient"), part, consents.grantees(part)


def _role(resource: Resource) -> Found | None:
    if is_inactive(resource) or "practitioner" not in resource:
        return None
    practitioner = names(resource["practitioner"], resource)[:1]
    told = resource.get("organization")
    organisation = () if told is None else names(told, resource)[:1]
    part = RolePart(practitioner, organisation, span(resource.get("period")))
    return (*practitioner, *organisation), part, ()


def _organisation(resource: Resource) -> Found | None:
    """An organisation of several codes would be several: it is none."""
    found = own_codes(resource)
    if is_inactive(resource) or len(found) != 1:
        return None
    return found, OrganisationPart(), ()


def _subject(resource: Resource, element: str) -> Names:
    """Of whom it tells.

    Raises:
        Unreadable: when that is no patient, or cannot be told.
    """
    name = names(resource.get(element), resource)[0]
    if not name.startswith(("Patient/", "nhs:")):
        raise Unreadable(f"{element} names no patient")
    return (name,)


_READERS: Final[Mapping[str, Callable[[Resource], Found | None]]] = {
    "Patient": _patient,
    "RelatedPerson": _related,
    "EpisodeOfCare": _episode,
    "CareTeam": _team,
    "Encounter": _stay,
    "Consent": _consent,
    "PractitionerRole": _role,
    "Organization": _organisation,
}
TYPES: Final = frozenset(_READERS)
"""Resource types that contribute."""
