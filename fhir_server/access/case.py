"""One caller, one patient, one moment: what the rows of the decision table ask about them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from fhir_server.access.caller import Caller, Grant, keeps_records
from fhir_server.access.facts.parts import UNKNOWN, Member
from fhir_server.access.facts.record import Facts
from fhir_server.access.identities import Identities
from fhir_server.access.provisions import Asking
from fhir_server.access.standing import Sought, Standing, holds_responsibility, standing

Kind = Literal["health", "social-care", "education", "police", "voluntary"]
"""Of organisations that have signed the register's sharing agreement."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What the settings say of organisations, by upper-case ODS code."""

    signatories: Mapping[str, Kind] = field(default_factory=dict)
    inpatient_units: frozenset[str] = frozenset()
    """The only ones that may be inpatient units; empty: any that may create an Encounter."""


@dataclass(frozen=True, slots=True)
class Case:
    """One caller, one patient, one moment (microseconds since the epoch)."""

    patient_id: str
    facts: Facts
    caller: Caller
    who: Identities
    now: int
    terms: Terms = Terms()

    @property
    def patient_ref(self) -> str:
        return f"Patient/{self.patient_id}"

    @property
    def signatory(self) -> Kind | None:
        return self.terms.signatories.get(self.caller.organisation.upper())

    def standing(self, sought: Sought) -> Standing | str:
        """The consent that counts here, or why there is none."""
        purpose = "" if self.caller.purpose == UNKNOWN else self.caller.purpose
        asking = Asking(self.who.names | _teams(self), purpose, self.now)
        return standing(self.patient_ref, self.facts, asking, sought)


def is_keyworker(case: Case) -> bool:
    """The care manager of an open keyworking episode, or the keyworker in its care team."""
    for episode in case.facts.episodes.values():
        if episode.period.covers(case.now) and (
            case.who.person & set(episode.manager)
            or any(_has_keyworker(case, team) for team in episode.teams)
        ):
            return case.who.professional
    return False


def _has_keyworker(case: Case, team: str) -> bool:
    return any(
        member.keyworker and _is_member_in_person(case, member)
        for ref, member in _members(case)
        if ref == team
    )


def is_in_care_team(case: Case) -> bool:
    return bool(_teams(case))


def _teams(case: Case) -> frozenset[str]:
    """The care teams in which the caller is now."""
    return frozenset(ref for ref, member in _members(case) if _is_member(case, member))


def _members(case: Case) -> Iterator[tuple[str, Member]]:
    for ref, team in case.facts.teams.items():
        if team.period.covers(case.now):
            yield from ((ref, one) for one in team.members if one.period.covers(case.now))


def _is_member(case: Case, member: Member) -> bool:
    """In person, or the organisation; a system stands for those of its organisation."""
    if not case.who.works_for_service:
        return False
    if case.who.professional and _is_member_in_person(case, member):
        return True
    if case.who.organisations & set(member.names):
        return True
    return not case.who.kind and _is_of_organisation(case, member)


def _is_member_in_person(case: Case, member: Member) -> bool:
    behalf = not member.behalf or bool(case.who.organisations & set(member.behalf))
    return behalf and bool(case.who.person & set(member.names))


def _is_of_organisation(case: Case, member: Member) -> bool:
    if not member.names[0].startswith(("Practitioner/", "PractitionerRole/")):
        return False
    if member.behalf:
        return bool(case.who.organisations & set(member.behalf))
    return bool(case.who.colleagues & set(member.names))


def is_unit(case: Case) -> bool:
    """Whether the settings name the caller's organisation: its stays open records.

    A stay is written by the organisation that it opens the record to, so that its word alone is
    not taken for what it is.
    """
    named = case.caller.organisation.upper() in case.terms.inpatient_units
    return named and case.who.works_for_service and bool(case.who.organisations)


def posts_events(case: Case) -> bool:
    """Whether the caller's organisation may be an inpatient unit, and its token creates stays."""
    units = case.terms.inpatient_units
    may_be = not units or case.caller.organisation.upper() in units
    works = case.who.works_for_service and bool(case.who.organisations)
    return works and may_be and creates_stays(case.caller)


def creates_stays(caller: Caller) -> bool:
    """Whether the token grants to create an Encounter.

    Asked with each decision, so what was found of the very same grants is found again.
    """
    known = _stays.get(id(caller.grants))
    if known is None or known[0] is not caller.grants:
        if len(_stays) >= _MOST_STAYS:
            _stays.clear()
        known = _stays[id(caller.grants)] = (caller.grants, _creates_stays(caller.grants))
    return known[1]


_MOST_STAYS: Final = 1000
_stays: Final[dict[int, tuple[tuple[Grant, ...], bool]]] = {}


def _creates_stays(grants: tuple[Grant, ...]) -> bool:
    return any(
        "c" in grant.letters and grant.resource_type in ("*", "Encounter")
        for grant in grants
        if grant.level in ("system", "user")
    )


def keeps_record(case: Case) -> bool:
    """Whether the caller is the administrators' client of the organisation that manages it."""
    patient = case.facts.patient
    if patient is None or not keeps_records(case.caller):
        return False
    return not case.who.organisations.isdisjoint(patient.keeper)


def is_in_hospital_there(case: Case) -> bool:
    """Whether the patient has an open inpatient stay with the caller's organisation."""
    return any(
        stay.period.covers(case.now) and case.who.organisations & set(stay.provider)
        for stay in case.facts.stays.values()
    )


def is_related(case: Case) -> bool:
    """Whether the caller is a RelatedPerson of the patient now."""
    found = [case.facts.related[name] for name in case.who.person if name in case.facts.related]
    return any(related.period.covers(case.now) for related in found)


def is_responsible(case: Case) -> bool:
    """Whether the caller shows parental responsibility for the patient."""
    return any(
        name in case.facts.related and holds_responsibility(case.facts, name, case.now)
        for name in case.who.person
    )
