"""How consent begins: before anybody keyworks, and so before anybody has a part in the record.

The table gives nothing without consent, and consent is recorded by the keyworker, whom nobody
names without consent. So a parent gives the first consent of a kind by themselves, and whoever
keeps the record, or is asked to obtain the consent, records what others decided. Neither comes
after a keyworker, and neither takes back what somebody else refused or withdrew:
docs/decisions/0043-how-consent-begins.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fhir_server.access.at_hand import facts_of_one
from fhir_server.access.caller import Caller, Role
from fhir_server.access.decision import Decision, Right
from fhir_server.access.facts.parts import ConsentPart
from fhir_server.access.facts.reading import contribution
from fhir_server.access.facts.record import Facts
from fhir_server.access.identities import identities
from fhir_server.access.own_names import OwnNames, own_names
from fhir_server.access.policy import refusal
from fhir_server.access.provisions import denied_by_name
from fhir_server.access.standing import holds_responsibility
from fhir_server.fhir import canonicals, json
from fhir_server.fhir.references import parse_relative
from fhir_server.search.ast import Query, ReferenceTo, TokenIn, conjunction
from fhir_server.storage.interface import Reader

_JUDGED: Final = frozenset({Role.COMMISSIONER, Role.CETR_PANEL, Role.LOAD_TEST})
"""Whoever acts in one of these roles has nothing by another."""
_TASK_STATUS: Final = "http://hl7.org/fhir/task-status"
_ASKED: Final = conjunction(
    TokenIn("code", frozenset({(canonicals.TASK, "obtain-consent")})),
    TokenIn(
        "status",
        frozenset(
            (_TASK_STATUS, one)
            for one in ("requested", "received", "accepted", "ready", "in-progress", "on-hold")
        ),
    ),
)
_MOST_TASKS: Final = 20
_REVIEW: Final = 13


@dataclass(frozen=True, slots=True)
class Beginning:
    """A consent that is made, and what is known of the patient before it.

    `facts` are None where they cannot be read: then nothing begins.
    """

    facts: Facts | None
    patient_ref: str
    now: int
    categories: frozenset[str] = frozenset()
    """Kinds of consent that it is about; none where that cannot be told."""

    def is_first_of(self, giver: str) -> bool:
        """Whether a parent may give it by themselves though the table has nothing for them yet.

        Of a child below 13 who lives, by whoever shows parental responsibility now; where nobody
        ever gave, refused or withdrew one of the kind, and no consent denies it to them by name.
        """
        facts = self.facts
        if facts is None or facts.perhaps(_REVIEW, self.now) or facts.has_died(self.now):
            return False
        known = facts.consents.values()
        is_new = self.categories and self.categories.isdisjoint(
            kind for one in known for kind in one.categories
        )
        denied = any(
            one.active and (one.unreadable or denied_by_name(one.rule, {giver}, self.now))
            for one in known
        )
        return bool(is_new) and not denied and holds_responsibility(facts, giver, self.now)

    def require_not_over_others(self, givers: Sequence[str]) -> None:
        """Raise where somebody else has refused or withdrawn it, who is not among the givers.

        A young person who decides for themselves is bound by nobody's refusal.

        Raises:
            FhirError: FORBIDDEN.
        """
        if list(givers) == [self.patient_ref]:
            return
        known = self.facts.consents.values() if self.facts else ()
        for one in known:
            of_others = not one.givers or any(set(givers).isdisjoint(who) for who in one.givers)
            is_of_kind = not self.categories.isdisjoint(one.categories)
            if is_of_kind and not one.active and of_others:
                raise refusal("Somebody else has refused or withdrawn this consent")


async def beginning_of(
    reader: Reader, consent: Mapping[str, Any], patient_id: str, now: int
) -> Beginning:
    told = contribution(dict(consent))
    part = told.part if told else None
    about = frozenset(part.categories) if isinstance(part, ConsentPart) else frozenset[str]()
    return Beginning(await facts_of_one(reader, patient_id), f"Patient/{patient_id}", now, about)


async def may_record(
    reader: Reader, caller: Caller, decision: Decision, beginning: Beginning
) -> bool:
    """Whether the caller records what others decided, while there is no keyworker.

    It is the client that keeps the record, unless its organisation is an inpatient unit, or the
    patient is there now: the consent would open the record to itself; or a professional of the
    organisation that manages the open involvement, or who holds the Task to obtain the consent,
    and has not referred to it.
    """
    facts, now = beginning.facts, beginning.now
    if facts is None or facts.patient is None or _has_keyworker(facts, now):
        return False
    if caller.roles & _JUDGED:
        return False
    if Right.IDENTITY in decision.rights:
        if Right.BEGINNING not in decision.rights:
            return False
        who = await identities(reader, caller, now)
        stays = (stay for stay in facts.stays.values() if stay.period.covers(now))
        return not any(who.organisations & set(stay.provider) for stay in stays)
    if not (caller.organisation and caller.user.startswith(("Practitioner/", "PractitionerRole/"))):
        return False
    episodes = [
        await _read(reader, ref) for ref, one in facts.episodes.items() if one.period.covers(now)
    ]
    if any([await _has_referred(reader, caller, one) for one in episodes]):
        return False
    managing = [one.get("managingOrganization") for one in episodes]
    own = await own_names(reader, caller, *managing)
    return any(map(own.is_organisation, managing)) or await _is_asked(reader, caller, beginning)


def _has_keyworker(facts: Facts, now: int) -> bool:
    """Whether somebody is there whose it is to record: of an involvement that is going on."""
    going = [one for one in facts.episodes.values() if one.period.covers(now)]
    teams = [facts.teams[ref] for one in going for ref in one.teams if ref in facts.teams]
    named = any(
        member.keyworker and member.period.covers(now)
        for team in teams
        if team.period.covers(now)
        for member in team.members
    )
    return named or any(one.manager for one in going)


async def _has_referred(reader: Reader, caller: Caller, episode: Mapping[str, Any]) -> bool:
    """Who brings somebody to a service does not write down as well that they agreed.

    It is the same person by whichever of their posts they referred, and sign in now.
    """
    own = await _names(reader, caller.user)
    for link in episode.get("referralRequest", ()):
        told = (await _read(reader, str(link.get("reference", "")))).get("requester", {})
        if own & await _names(reader, str(told.get("reference", ""))):
            return True
    return False


async def _names(reader: Reader, reference: str) -> set[str]:
    """A professional's reference, and of a post the practitioner's whose it is."""
    local = parse_relative(reference)
    if local is None:
        return set()
    holder = {} if local.type != "PractitionerRole" else await _read(reader, reference)
    whose = parse_relative(str(holder.get("practitioner", {}).get("reference", "")))
    return {str(one) for one in (local, whose) if one is not None}


async def _read(reader: Reader, reference: str) -> Mapping[str, Any]:
    local = parse_relative(reference)
    found = None if local is None else await reader.read(local.type, local.id)
    return {} if found is None or found.deleted else json.decode_resource(found.body)


async def _is_asked(reader: Reader, caller: Caller, beginning: Beginning) -> bool:
    """Whether the Task to obtain the consent is theirs, or their organisation's."""
    where = conjunction(ReferenceTo("patient", (beginning.patient_ref,)), _ASKED)
    for version in (await reader.search(Query("Task", where), _MOST_TASKS)).matches:
        owner = json.decode_resource(version.body).get("owner")
        own: OwnNames = await own_names(reader, caller, owner)
        if own.is_one(owner):
            return True
    return False
