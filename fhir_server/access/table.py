"""The decision table: who may see how much of whose record. First row that holds; else nothing.

Each row is a function that tells what it allows, or why it does not hold. docs/decision-table.md
has the table in words, with every choice that was made where the service's own table is silent.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from fhir_server.access.caller import Role
from fhir_server.access.case import (
    Case,
    is_in_care_team,
    is_in_hospital_there,
    is_keyworker,
    is_related,
    is_responsible,
    is_unit,
    keeps_record,
    posts_events,
)
from fhir_server.access.decision import DENIED, Area, Decision, Right, Sight
from fhir_server.access.provisions import Naming, denied_by_name
from fhir_server.access.standing import (
    CETR,
    FOR_SOMEBODY,
    KEYWORKING,
    OWN,
    PARENTAL,
    PROXY,
    REGISTER,
    Sought,
    Standing,
    assessment,
    has_ended,
)
from fhir_server.fhir.canonicals import ACT_CODE

THIRD_PARTY: Final = (ACT_CODE, "TBOO")
"""Label of what a patient and those who are related are not shown: what others have said in
confidence, or about others."""
_NOT_FOR_FAMILY: Final = frozenset({THIRD_PARTY})

EVERYTHING: Final = tuple((area, Sight.ALL) for area in Area)
COLOUR: Final = ((Area.PERSON, Sight.COLOUR), (Area.FLAG, Sight.COLOUR))
RETAINED: Final = tuple((area, Sight.ALL) for area in Area if area is not Area.FLAG)
WHO: Final = ((Area.PERSON, Sight.ALL),)
REGISTERED: Final = ((Area.PERSON, Sight.ALL), (Area.FLAG, Sight.ALL))
INPATIENT_PLANS: Final = frozenset({"discharge-plan", "keyworking-plan"})


_BY_SIGNATURE: Final = ("health", "social-care")
_NAMED_ONLY: Final = ("education", "police", "voluntary")


@dataclass(frozen=True, slots=True)
class Held:
    """A row that holds, by which consent, and since when in microseconds."""

    decision: Decision
    consent: str = ""
    since: int = 0


Row = Callable[[Case], Held | str]


def load_test(case: Case) -> Held | str:
    """Row 14: a system for load tests never has a real person's record.

    What bears the test label is its own, whoever it is about; that is a term of the query.
    """
    if Role.LOAD_TEST not in case.caller.roles:
        return "the caller is not a load test"
    return Held(Decision(14))


def break_glass(case: Case) -> Held | str:
    """Row 1: a professional gives a reason, such as safeguarding, and sees everything."""
    if not case.caller.break_glass.strip():
        return "the glass is not broken"
    if not case.who.professional or not case.who.organisations:
        return "only a professional of an organisation breaks the glass"
    if Role.COMMISSIONER in case.caller.roles:
        return "a commissioner does not break the glass"
    if case.facts.patient is None:
        return "there is no such patient"
    return Held(Decision(1, EVERYTHING))


def oversight(case: Case) -> Held | str:
    """Row 13: a review panel reads with consent to the review, a commissioner no person's data.

    Whoever acts in such a role has nothing by another row.
    """
    if not case.caller.roles & {Role.COMMISSIONER, Role.CETR_PANEL}:
        return "the caller is neither commissioner nor review panel"
    if Role.CETR_PANEL not in case.caller.roles or not case.who.works_for_service:
        return Held(Decision(13))
    consent = case.standing(Sought(CETR, Naming.NEEDED))
    if isinstance(consent, str):
        return Held(Decision(13))
    return by_consent(Decision(13, EVERYTHING), consent)


def keyworker(case: Case) -> Held | str:
    """Row 2: the keyworker or care manager of an open episode, while consent stands."""
    if not is_keyworker(case):
        return "the caller is not the keyworker of an open episode"
    consent = case.standing(Sought(KEYWORKING, Naming.NOT_NEEDED))
    if isinstance(consent, str):
        return consent
    writes = frozenset({Area.PLAN, Area.RISK})
    return by_consent(Decision(2, EVERYTHING, writes, frozenset({Right.CONSENT})), consent)


def retention(case: Case) -> Held | str:
    """Row 15: consent has ended; the keyworker reads what was, and may record what comes now."""
    if not is_keyworker(case):
        return "the caller is not the keyworker of an open episode"
    if not has_ended(case.patient_ref, case.facts, KEYWORKING, case.now):
        return "there never was a consent to keyworking, or it has not ended"
    about = [part for part in case.facts.consents.values() if KEYWORKING in part.categories]
    if any(denied_by_name(part.rule, case.who.names, case.now) for part in about):
        return "a rule of a consent denies it to the keyworker"
    return Held(Decision(15, RETAINED, rights=frozenset({Right.CONSENT})))


def care_team(case: Case) -> Held | str:
    """Row 3: in the care team now, and the consent permits it to them."""
    if not case.who.works_for_service:
        return "the caller is no professional and no service"
    if not is_in_care_team(case):
        return "the caller is not in the care team"
    consent = case.standing(Sought(KEYWORKING, Naming.WHERE_LISTED))
    if isinstance(consent, str):
        return consent
    rights = frozenset({Right.OWN_ACTIVITIES})
    return by_consent(Decision(3, EVERYTHING, rights=rights), consent)


def inpatient_unit(case: Case) -> Held | str:
    """Row 5: the unit in which the patient is now, and consent does not leave it out."""
    if not is_unit(case):
        return "the caller is no inpatient unit of the settings"
    if not is_in_hospital_there(case):
        return "the patient is not in the caller's unit"
    consent = case.standing(Sought(KEYWORKING, Naming.NOT_NEEDED))
    if isinstance(consent, str):
        return consent
    return by_consent(Decision(5, EVERYTHING, plan_categories=INPATIENT_PLANS), consent)


def keeper(case: Case) -> Held | str:
    """Row 16: the administrators' client of the organisation that manages the record.

    It corrects who somebody is, after the end of consent as before, and sees nothing else.
    """
    if not keeps_record(case):
        return "the caller is not the administrators' client of the managing organisation"
    return Held(Decision(16, WHO))


def signatory(case: Case) -> Held | str:
    """Row 4: a health or social care body that has signed the register sees the colour."""
    if not case.who.works_for_service or case.signatory not in _BY_SIGNATURE:
        return "the caller's organisation is no health or social care signatory"
    consent = case.standing(Sought(REGISTER, Naming.NOT_NEEDED))
    return consent if isinstance(consent, str) else by_consent(Decision(4, COLOUR), consent)


def named_signatory(case: Case) -> Held | str:
    """Row 12: education, police and voluntary bodies see it where the consent names them."""
    if not case.who.works_for_service or case.signatory not in _NAMED_ONLY:
        return "the caller's organisation is no education, police or voluntary signatory"
    consent = case.standing(Sought(REGISTER, Naming.NEEDED))
    return consent if isinstance(consent, str) else by_consent(Decision(12, COLOUR), consent)


def event(case: Case) -> Held | str:
    """Row 6: a unit may always tell of a stay; that shows it nothing."""
    if not posts_events(case):
        return "the caller posts no events"
    return Held(Decision(6, rights=frozenset({Right.EVENTS})))


def patient(case: Case) -> Held | str:
    """Row 7: the patient, from 16 on, or when found competent."""
    if case.who.person != {case.patient_ref}:
        return "the caller is not the patient"
    if case.facts.patient is None or case.facts.has_died(case.now):
        return "there is no such patient, or no more"
    found = assessment(case.facts, case.now)
    competent = found is not None and found[0] == "gillick-competent"
    if not case.facts.surely(16, case.now) and not competent:
        return "below 16, competence has to be assessed first"
    rights = frozenset({Right.CONSENT})
    return Held(Decision(7, EVERYTHING, rights=rights, without_labels=_NOT_FOR_FAMILY))


def parent_of_child(case: Case) -> Held | str:
    """Row 8: below 13, whoever holds parental responsibility, where consent rests on that."""
    if not is_responsible(case):
        return "the caller does not hold parental responsibility"
    if case.facts.perhaps(13, case.now):
        return "the patient is 13 or older"
    return _as_parent(case, 8, PARENTAL, Naming.NOT_NEEDED)


def parent_of_competent(case: Case) -> Held | str:
    """Row 10: 13 to 15, assessed: not competent, or competent and consents to the parent."""
    if not is_responsible(case):
        return "the caller does not hold parental responsibility"
    if not case.facts.surely(13, case.now) or case.facts.perhaps(16, case.now):
        return "the patient is not between 13 and 15"
    found = assessment(case.facts, case.now)
    if found is None or not case.facts.surely(13, found[1]):
        return "competence was not assessed since the 13th birthday"
    if found[0] == "not-competent":
        return _as_parent(case, 10, PARENTAL, Naming.NOT_NEEDED)
    return _as_parent(case, 10, OWN, Naming.NEEDED)


def parent_before_review(case: Case) -> Held | str:
    """Row 9: 13 to 15 otherwise: suspended."""
    if not is_responsible(case):
        return "the caller does not hold parental responsibility"
    if not case.facts.surely(13, case.now) or case.facts.perhaps(16, case.now):
        return "the patient is not between 13 and 15"
    return Held(Decision(9))


def parent_of_adult(case: Case) -> Held | str:
    """Row 11: from 16 on, somebody related by the patient's consent, or on a basis in its place."""
    if not is_related(case):
        return "the caller is not related to the patient"
    if not case.facts.surely(16, case.now):
        return "the patient is not 16"
    found = _as_parent(case, 11, OWN | FOR_SOMEBODY, Naming.NEEDED)
    if isinstance(found, Held):
        return found
    (own,) = case.who.person
    stands_in = _as_parent(case, 11, PROXY, Naming.NOT_NEEDED, giver=own)
    return stands_in if isinstance(stands_in, Held) else found


def _as_parent(
    case: Case, row: int, bases: frozenset[str], naming: Naming, giver: str = ""
) -> Held | str:
    """By consent to keyworking all is seen; by consent to the register alone, the rating.

    What is hidden from the young person is so from those who are related: they would tell.
    """
    # Whatever such a consent is about, and whoever gave it: safeguarding is before the rest.
    if any(
        consent.active and denied_by_name(consent.rule, case.who.names, case.now)
        for consent in case.facts.consents.values()
    ):
        return "a consent denies it to the caller by name"
    rights = frozenset({Right.CONSENT})
    keyworking = case.standing(Sought(KEYWORKING, naming, bases, giver))
    if isinstance(keyworking, Standing):
        whole = Decision(row, EVERYTHING, rights=rights, without_labels=_NOT_FOR_FAMILY)
        return by_consent(whole, keyworking)
    register = case.standing(Sought(REGISTER, naming, bases, giver))
    if isinstance(register, Standing):
        colour = Decision(row, REGISTERED, rights=rights, without_labels=_NOT_FOR_FAMILY)
        return by_consent(colour, register)
    return keyworking


def by_consent(decision: Decision, consent: Standing) -> Held:
    """The decision without what the consent takes out."""
    reduced = replace(
        decision,
        without_types=decision.without_types | consent.permitted.without_types,
        without_labels=decision.without_labels | consent.permitted.without_labels,
    )
    return Held(reduced, consent.ref, consent.since)


ROWS: Final[tuple[tuple[int, Row], ...]] = (
    (14, load_test),
    (1, break_glass),
    (13, oversight),
    (2, keyworker),
    (15, retention),
    (3, care_team),
    (5, inpatient_unit),
    (16, keeper),
    (4, signatory),
    (12, named_signatory),
    (6, event),
    (7, patient),
    (8, parent_of_child),
    (10, parent_of_competent),
    (9, parent_before_review),
    (11, parent_of_adult),
)
"""In the order in which they are asked: 14 and 13 take away, so they are before what gives; a
ward is asked before a signatory, as a trust can be both; so is who keeps the record."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision with its reasons."""

    held: Held
    reasons: tuple[tuple[int, str], ...]
    """Of each row that was asked before, why it does not hold."""


def explained(case: Case) -> Explanation:
    """Why the decision is what it is."""
    reasons: list[tuple[int, str]] = []
    for number, row in ROWS:
        found = row(case)
        if isinstance(found, Held):
            return Explanation(_with_rights(case, found), tuple(reasons))
        reasons.append((number, found))
    return Explanation(Held(DENIED), tuple(reasons))


def decide(case: Case) -> Decision:
    return explained(case).held.decision


def _with_rights(case: Case, held: Held) -> Held:
    """ "May post events always", and keeps the record: whichever row says how much it sees."""
    if held.decision.row in (13, 14):
        return held
    rights = held.decision.rights
    if posts_events(case):
        rights |= {Right.EVENTS}
    if keeps_record(case):
        rights |= {Right.IDENTITY} if is_unit(case) else {Right.IDENTITY, Right.BEGINNING}
    if rights == held.decision.rights:
        return held
    return replace(held, decision=replace(held.decision, rights=rights))
