"""What the rules of one consent permit one caller.

At the root stands what the consent permits or denies; rules within a rule are exceptions to it,
as deep as they go (https://hl7.org/fhir/R4/consent.html#6.2.4). The deepest rule that means the
caller counts; of two beside each other, the denial. A permit that cannot be carried out exactly
permits nothing, a denial that cannot denies more.
"""

from collections.abc import Set
from dataclasses import dataclass
from enum import Enum
from typing import Final

from fhir_server.access.facts.parts import UNKNOWN, ConsentPart, Provision
from fhir_server.fhir.definitions import resource_types

_EVERY_TYPE: Final = frozenset(resource_types())


class Naming(Enum):
    """Whether a permit has to name the caller."""

    NOT_NEEDED = 0
    """Something else stands in for it; that no rule denies them is enough."""
    WHERE_LISTED = 1
    """Where it names anybody."""
    NEEDED = 2
    """A permit for whomever does not mean the caller."""


@dataclass(frozen=True, slots=True)
class Asking:
    """Whom rules may mean, and for what."""

    names: frozenset[str]
    purpose: str
    now: int


@dataclass(frozen=True, slots=True)
class Permitted:
    """But for these types, and whatever bears one of these labels."""

    without_types: frozenset[str] = frozenset()
    without_labels: frozenset[tuple[str, str]] = frozenset()

    def less(self, other: "Permitted") -> "Permitted":
        """What both permit."""
        return Permitted(
            self.without_types | other.without_types, self.without_labels | other.without_labels
        )


class Refused(Enum):
    """Why a consent permits the caller nothing."""

    SILENT = "does not mean the caller"
    DENIED = "denies it to the caller"


def permitted(consent: ConsentPart, asking: Asking, naming: Naming) -> Permitted | Refused:
    """What the consent permits."""
    if consent.unreadable:
        return Refused.DENIED
    root = consent.rule
    if root is None or not _means(root, asking, naming):
        return Refused.SILENT
    labels: set[tuple[str, str]] = set()
    # Below a permit that means the caller, nobody has to be named once more.
    is_named = root.permits or naming is Naming.NOT_NEEDED
    types = _types(root, _EVERY_TYPE, asking, Naming.WHERE_LISTED if is_named else naming, labels)
    if types:
        return Permitted(_EVERY_TYPE - types, frozenset(labels))
    return Refused.DENIED if _denies(root, asking) else Refused.SILENT


def denied_by_name(rule: Provision | None, names: Set[str], now: int) -> bool:
    """Whether a denial within names one of these, whatever it is about."""
    if rule is None:
        return False
    named = any(names & set(actor) for actor in rule.actors)
    if not rule.permits and named and rule.period.covers(now):
        return True
    return any(denied_by_name(inner, names, now) for inner in rule.within)


def _types(
    rule: Provision,
    region: frozenset[str],
    asking: Asking,
    naming: Naming,
    labels: set[tuple[str, str]],
) -> frozenset[str]:
    """The types of the region that the rule leaves permitted; adds to `labels` what is denied."""
    own = _own(rule, region)
    given, denied = own if rule.permits else frozenset[str](), frozenset[str]()
    for inner in rule.within:
        if not _means(inner, asking, naming):
            continue
        about = _own(inner, own)
        left = _types(inner, own, asking, naming, labels)
        if not inner.permits and _has_clear_labels(inner):
            if left != about:
                labels.update(inner.labels)
        else:
            given |= left
            denied |= about - left
    return given - denied


def _own(rule: Provision, region: frozenset[str]) -> frozenset[str]:
    """What of the region the rule is about."""
    if UNKNOWN in rule.types:
        return frozenset() if rule.permits else region
    return region & frozenset(rule.types) if rule.types else region


def _has_clear_labels(rule: Provision) -> bool:
    return bool(rule.labels) and not any(UNKNOWN in label for label in rule.labels)


def _means(rule: Provision, asking: Asking, naming: Naming) -> bool:
    """Whether the rule is about this caller, purpose and moment."""
    if not rule.period.covers(asking.now):
        return False
    if rule.permits:
        return _permit_means(rule, asking, naming)
    return _includes(rule, asking.names) and (
        not rule.purposes
        or not asking.purpose
        or bool({asking.purpose, UNKNOWN} & set(rule.purposes))
    )


def _permit_means(rule: Provision, asking: Asking, naming: Naming) -> bool:
    if rule.narrow or rule.labels:
        return False
    if rule.purposes and (not asking.purpose or asking.purpose not in rule.purposes):
        return False
    if naming is Naming.NOT_NEEDED or not (rule.actors or naming is Naming.NEEDED):
        return True
    return any(asking.names & set(actor) for actor in rule.actors)


def _includes(denial: Provision, names: frozenset[str]) -> bool:
    return not denial.actors or any((names | {UNKNOWN}) & set(actor) for actor in denial.actors)


def _denies(rule: Provision, asking: Asking) -> bool:
    """Whether the rule, or one within that counts, is a denial that means the caller."""
    if not rule.permits:
        return True
    return any(
        _means(inner, asking, Naming.WHERE_LISTED) and _denies(inner, asking)
        for inner in rule.within
    )
