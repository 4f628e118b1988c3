"""A Consent as facts: https://hl7.org/fhir/R4/consent.html

Whatever of it cannot be read takes from a permit and adds to a denial, never the other way.
"""

from collections.abc import Iterator
from typing import Any, Final

from fhir_server.access.facts.elements import codes, is_modified, span
from fhir_server.access.facts.naming import Unreadable, names, objects
from fhir_server.access.facts.parts import (
    ALWAYS,
    REGISTER,
    UNKNOWN,
    ConsentPart,
    Names,
    Provision,
    Span,
)
from fhir_server.fhir import canonicals
from fhir_server.fhir.dates import interval
from fhir_server.fhir.definitions import is_resource_type
from fhir_server.fhir.json import Resource

_ACTION: Final = "http://terminology.hl7.org/CodeSystem/consentaction"
_RESOURCE_TYPES: Final = "http://hl7.org/fhir/resource-types"
_DECIDED: Final = frozenset({"active", "inactive", "rejected"})
_RECOGNISED: Final = (
    *("Practitioner/", "PractitionerRole/", "Organization/", "ods:"),
    *("RelatedPerson/", "Patient/", "nhs:", "CareTeam/"),
)
"""Whom a caller can be found to be; a group or a device may be anybody."""
_DEEPEST: Final = 10
_MOST: Final = 200
"""Rules that are read of a consent."""


def part(resource: Resource) -> ConsentPart | None:
    """None for a consent that is not decided, or is about nothing that the server decides by."""
    about = _categories(resource)
    if resource.get("status") not in _DECIDED or not about:
        return None
    active = resource["status"] == "active"
    try:
        if not is_modified(resource):
            return _readable(resource, active, about)
    except (Unreadable, AttributeError, KeyError, TypeError, ValueError, RecursionError):
        pass
    return ConsentPart(active, about, unreadable=True)


def _readable(resource: Resource, active: bool, about: Names) -> ConsentPart:
    outcome, assessed = _competence(resource)
    rule = resource.get("provision")
    return ConsentPart(
        active,
        about,
        _decided(resource.get("dateTime"), active),
        _basis(resource.get("policyRule")),
        tuple(names(giver, resource)[:1] for giver in objects(resource.get("performer"))),
        outcome,
        assessed,
        documented="sourceAttachment" in resource or "sourceReference" in resource,
        doubtful=_is_doubtful(resource),
        rule=None if rule is None else _Rules(resource).read(rule),
    )


def grantees(consent: ConsentPart) -> Names:
    """All whom it names, and those who sign the register where it is about that."""
    found = [names[0] for names in consent.givers]
    found += [name for rule in _all(consent.rule) for actor in rule.actors for name in actor]
    if consent.active and "register" in consent.categories:
        found.append(REGISTER)
    return tuple(name for name in found if name != UNKNOWN)


def _all(rule: Provision | None) -> Iterator[Provision]:
    if rule is not None:
        yield rule
        for inner in rule.within:
            yield from _all(inner)


def _categories(resource: Resource) -> Names:
    concepts = resource.get("category")
    concepts = concepts if isinstance(concepts, list) else []
    found = (
        coding.get("code")
        for concept in concepts
        if isinstance(concept, dict)
        for coding in concept.get("coding") or ()
        if isinstance(coding, dict) and coding.get("system") == canonicals.CONSENT_CATEGORY
    )
    return tuple(sorted({code for code in found if isinstance(code, str)}))


def _decided(text: Any, active: bool) -> int | None:
    """A refusal may have come at the end of the day that it names."""
    if text is None:
        return None
    low, high = interval(text)
    return low if active else high - 1


def _basis(rule: Any) -> str:
    found = [*codes(rule, canonicals.NHS_PROXY_LEGAL_BASIS), *codes(rule, canonicals.CONSENT_BASIS)]
    return found[0] if len(found) == 1 else ""


def _competence(resource: Resource) -> tuple[str, int | None]:
    told = [
        extension
        for extension in objects(resource.get("extension"))
        if extension.get("url") == canonicals.COMPETENCE_EXTENSION
    ]
    if not told:
        return "", None
    if len(told) > 1:
        raise Unreadable("Two assessments of competence")
    parts = {item.get("url"): item for item in objects(told[0].get("extension"))}
    outcome, day = parts["outcome"]["valueCode"], parts["date"]["valueDate"]
    return str(outcome), interval(day).low


def _is_doubtful(resource: Resource) -> bool:
    checks = objects(resource.get("verification"))
    is_refuted = any(check.get("verified") is not True for check in checks)
    return is_refuted or "patient-privacy" not in codes(
        resource.get("scope"), canonicals.CONSENT_SCOPE
    )


class _Rules:
    """Reads the provisions of one consent."""

    def __init__(self, consent: Resource) -> None:
        self._consent = consent
        self._left = _MOST

    def read(self, rule: Any, depth: int = 1) -> Provision:
        """A rule that does not say what it does denies.

        Raises:
            Unreadable: for more rules, or deeper ones, than are read.
        """
        self._left -= 1
        if depth > _DEEPEST or self._left < 0:
            raise Unreadable("More rules than are read of a consent")
        permits = rule.get("type") == "permit"
        return Provision(
            permits,
            _time(rule.get("period"), permits),
            tuple(self._actor(actor, permits) for actor in objects(rule.get("actor"))),
            tuple(_coded(rule, "purpose", canonicals.ACT_REASON)),
            tuple(_types(rule)),
            tuple(_label(coding) for coding in objects(rule.get("securityLabel"))),
            _is_narrow(rule),
            tuple(self.read(inner, depth + 1) for inner in objects(rule.get("provision"))),
        )

    def _actor(self, actor: Any, permits: bool) -> Names:
        """For a permit the surest of the names; for a denial all, and whoever it may mean."""
        found = names(actor.get("reference"), self._consent)
        if permits:
            return found[:1]
        return found if found[0].startswith(_RECOGNISED) else (*found, UNKNOWN)


def _time(period: Any, permits: bool) -> Span:
    try:
        return span(period)
    except Unreadable:
        if permits:
            raise
        return ALWAYS


def _coded(rule: Any, element: str, system: str) -> Iterator[str]:
    for coding in objects(rule.get(element)):
        code = coding.get("code")
        known = coding.get("system") == system and isinstance(code, str)
        yield code if known else UNKNOWN


def _types(rule: Any) -> Iterator[str]:
    for code in _coded(rule, "class", _RESOURCE_TYPES):
        yield code if is_resource_type(code) else UNKNOWN


def _label(coding: Any) -> tuple[str, str]:
    system, code = coding.get("system"), coding.get("code")
    known = isinstance(system, str) and isinstance(code, str)
    return (system, code) if known else (UNKNOWN, UNKNOWN)


def _is_narrow(rule: Any) -> bool:
    """About certain contents, certain resources, data of certain dates, or no reading."""
    if {"code", "data", "dataPeriod"} & rule.keys():
        return True
    actions = [code for concept in objects(rule.get("action")) for code in codes(concept, _ACTION)]
    return "action" in rule and "access" not in actions
