"""Whether a consent stands: who gave it, by which right, whether something newer closes it.

Sources: Mental Capacity Act 2005 (from 16 on, capacity is presumed); NHS England DAPB3051 use
case 7.2 (a parent's access is suspended at 16, and for review at 13 or sooner); Gillick
competence below 16.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from fhir_server.access.facts.parts import ConsentPart
from fhir_server.access.facts.record import Facts
from fhir_server.access.provisions import Asking, Naming, Permitted, Refused, permitted
from fhir_server.fhir.dates import LATEST

REGISTER: Final = "register"
KEYWORKING: Final = "keyworking"
CETR: Final = "cetr"

OWN: Final = frozenset({"consent", "gillick-consent"})
PARENTAL: Final = frozenset({"parental-responsibility"})
BEST_INTEREST: Final = "best-interest"
PROXY: Final = frozenset(
    {
        "health-and-welfare-lasting-power-of-attorney",
        "court-appointed-personal-welfare-deputy",
    }
)
"""Codes of England-NHSProxyLegalBasis, and gillick-consent of ours."""
FOR_SOMEBODY: Final = PROXY | {BEST_INTEREST}
"""Where the patient lacks capacity."""
_REVIEW, _PARENTS_END, _ADULT, _SERVICE_END = 13, 16, 18, 25
_PROFESSIONALS: Final = ("Practitioner/", "PractitionerRole/", "Organization/", "ods:")


@dataclass(frozen=True, slots=True)
class Sought:
    """Which consent is looked for."""

    category: str
    naming: Naming
    bases: frozenset[str] = frozenset()
    """The only legal bases that permit here; empty for any."""
    giver: str = ""
    """Who must have given it; '' for anybody."""

    def fits(self, consent: ConsentPart) -> bool:
        given = not self.giver or any(self.giver in names for names in consent.givers)
        return given and (not self.bases or consent.basis in self.bases)


@dataclass(frozen=True, slots=True)
class Standing:
    """A consent that counts for the caller."""

    ref: str
    since: int
    """Microseconds since the epoch: decided, and its rule in force."""
    permitted: Permitted


def standing(patient_ref: str, facts: Facts, asking: Asking, sought: Sought) -> Standing | str:
    """The consent that counts for the caller, or why there is none.

    The newest that means the caller counts: a consent that permits, or a refusal, a withdrawal or
    a denial, which closes whatever is older or of the same moment.
    """
    if facts.has_died(asking.now):
        return "consent ended with the patient's death"
    why = f"there is no active consent to {sought.category}"
    for _, several in groupby(_newest_first(facts.consents, sought.category), key=_age):
        together = list(several)
        for ref, consent in together:
            if not consent.active:
                return f"{ref} was refused or withdrawn"
            if permitted(consent, asking, sought.naming) is Refused.DENIED:
                return f"{ref} {Refused.DENIED.value}"
        found = [_weighed(patient_ref, facts, asking, sought, one) for one in together]
        stands = [one for one in found if isinstance(one, Standing)]
        if stands:
            return _together(stands)
        why = next(one for one in found if isinstance(one, str))
    return why


def has_ended(patient_ref: str, facts: Facts, category: str, now: int) -> bool:
    """Whether there was consent, rightly given, and none counts any more for anybody."""
    about = _newest_first(facts.consents, category)
    return any(_has_been(patient_ref, facts, category, one, now) for _, one in about) and not (
        _is_in_force(patient_ref, facts, category, now)
    )


def _has_been(
    patient_ref: str, facts: Facts, category: str, consent: ConsentPart, now: int
) -> bool:
    """Whether it was right when it was decided, and its time has come."""
    if consent.at is None or consent.unreadable or (consent.active and consent.at > now):
        return False
    begun = consent.rule is not None and consent.rule.period.low <= now
    return begun and not why_void(patient_ref, facts, category, consent, consent.at)


def _is_in_force(patient_ref: str, facts: Facts, category: str, now: int) -> bool:
    if facts.has_died(now):
        return False
    for _, consent in _newest_first(facts.consents, category):
        if not consent.active:
            return False
        runs = consent.rule is not None and consent.rule.period.covers(now)
        if consent.unreadable or (
            runs and not why_void(patient_ref, facts, category, consent, now)
        ):
            return True
    return False


def _age(item: tuple[str, ConsentPart]) -> int:
    """A refusal that is not dated may be the newest of all."""
    at = item[1].at
    return -(LATEST if at is None else at)


def _newest_first(
    consents: Mapping[str, ConsentPart], category: str
) -> list[tuple[str, ConsentPart]]:
    """Of the same moment, refusals come first."""
    about = [item for item in consents.items() if category in item[1].categories]
    return sorted(about, key=lambda item: (_age(item), item[1].active, item[0]))


def _together(stands: list[Standing]) -> Standing:
    """Of several that were decided at the same moment, what all permit."""
    first, *others = stands
    shared = first.permitted
    for other in others:
        shared = shared.less(other.permitted)
    return Standing(first.ref, max(one.since for one in stands), shared)


def _weighed(
    patient_ref: str, facts: Facts, asking: Asking, sought: Sought, one: tuple[str, ConsentPart]
) -> Standing | str:
    ref, consent = one
    if not sought.fits(consent):
        return f"{ref} is on another legal basis, or of another giver"
    void = why_void(patient_ref, facts, sought.category, consent, asking.now)
    if void:
        return f"{ref} {void}"
    found = permitted(consent, asking, sought.naming)
    if isinstance(found, Refused):
        return f"{ref} {found.value}"
    begins = consent.rule.period.low if consent.rule else 0
    return Standing(ref, max(consent.at or 0, begins), found)


def why_void(patient_ref: str, facts: Facts, category: str, consent: ConsentPart, now: int) -> str:
    """Why a consent permits nobody anything, death apart; empty when it does."""
    if consent.doubtful:
        return "is not about privacy, or was not verified"
    if consent.at is None or consent.at > now:
        return "is not dated, or in the future"
    if facts.perhaps(_SERVICE_END, now):
        return "ended on the 25th birthday, or the date of birth is not known"
    if category == REGISTER and not _counts_for_register(facts, consent.at, now):
        return "was to the children's register, which ends on the 18th birthday"
    return next(iter(_given_wrongly(patient_ref, facts, consent, now)), "")


def _counts_for_register(facts: Facts, at: int, now: int) -> bool:
    """From 18 on it takes a consent that was decided as an adult."""
    return not facts.perhaps(_ADULT, now) or facts.surely(_ADULT, at)


def _given_wrongly(patient_ref: str, facts: Facts, consent: ConsentPart, now: int) -> Iterator[str]:
    if consent.basis in OWN:
        yield from _own(patient_ref, facts, consent)
    elif consent.basis in PARENTAL:
        yield from _parental(facts, consent, now)
    elif consent.basis in FOR_SOMEBODY:
        yield from _for_somebody(patient_ref, facts, consent, now)
    else:
        yield "has no legal basis that is known"


def _own(patient_ref: str, facts: Facts, consent: ConsentPart) -> Iterator[str]:
    numbers = facts.patient.numbers if facts.patient else ()
    if not _all_givers(consent, lambda name: name in (patient_ref, *numbers)):
        yield "was not given by the patient alone"
    if consent.outcome in ("not-competent", "lacks-capacity"):
        yield "was given by a patient found not able to"
    grown = consent.at is not None and facts.surely(_PARENTS_END, consent.at)
    if consent.outcome != "gillick-competent" and (consent.basis != "consent" or not grown):
        yield "was given below 16 without an assessment of competence"


def _parental(facts: Facts, consent: ConsentPart, now: int) -> Iterator[str]:
    if not _all_givers(consent, lambda name: holds_responsibility(facts, name, now)):
        yield "was not given by a holder of parental responsibility"
    if facts.perhaps(_PARENTS_END, now):
        yield "ended on the 16th birthday"
    elif facts.perhaps(_REVIEW, now) and not _was_reviewed(facts, consent, now):
        yield "is suspended from the 13th birthday until competence is assessed"


def _was_reviewed(facts: Facts, consent: ConsentPart, now: int) -> bool:
    """Whether the consent rests on an assessment at 13 or later that found no competence."""
    return (
        consent.outcome == "not-competent"
        and consent.assessed is not None
        and consent.assessed <= now
        and facts.surely(_REVIEW, consent.assessed)
    )


def _for_somebody(patient_ref: str, facts: Facts, consent: ConsentPart, now: int) -> Iterator[str]:
    if not facts.surely(_PARENTS_END, now):
        yield "is on a basis that begins at 16"
    if consent.outcome != "lacks-capacity":
        yield "does not rest on an assessment that found no capacity"
    if consent.basis in PROXY:
        if not _all_givers(consent, lambda name: _may_stand_in(facts, name, patient_ref, now)):
            yield "was not given by an attorney or deputy"
        return
    if not consent.documented:
        yield "does not say where the decision is documented"
    if not _all_givers(consent, lambda name: name.startswith(_PROFESSIONALS)):
        yield "was not decided by professionals"


def _may_stand_in(facts: Facts, name: str, patient_ref: str, now: int) -> bool:
    if name.startswith("RelatedPerson/"):
        related = facts.related.get(name)
        return related is not None and related.period.covers(now)
    return name != patient_ref and name.startswith(_PROFESSIONALS)


def _all_givers(consent: ConsentPart, may: Callable[[str], bool]) -> bool:
    return bool(consent.givers) and all(may(names[0]) for names in consent.givers)


def holds_responsibility(facts: Facts, name: str, now: int) -> bool:
    """Whether it names a RelatedPerson of the patient who shows parental responsibility now."""
    related = facts.related.get(name)
    return related is not None and related.responsible and related.period.covers(now)


def assessment(facts: Facts, now: int) -> tuple[str, int] | None:
    """The newest finding about competence, and when; of two of one day, that of less."""
    found = [
        (consent.assessed, consent.outcome != "gillick-competent", consent.outcome)
        for consent in facts.consents.values()
        if consent.assessed is not None and consent.assessed <= now and not consent.unreadable
    ]
    if not found:
        return None
    at, _, outcome = max(found)
    return outcome, at
