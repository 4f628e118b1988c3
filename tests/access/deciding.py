"""Decisions as a test wants them, and what is decided about."""

import random
from collections.abc import Mapping
from typing import Any, Final

from fhir_server.access.caller import Caller, Role
from fhir_server.access.consent_policy import ConsentPolicy
from fhir_server.access.consent_terms import ScopeTerms, every_scope
from fhir_server.access.decision import DENIED, Area, Decision, Right, Sight
from fhir_server.access.session import Session
from fhir_server.fhir import canonicals
from fhir_server.fhir.dates import interval
from fhir_server.fhir.json import Resource
from fhir_server.storage.interface import Reader, Store

NOW: Final = interval("2026-11-22T09:00:00Z")[0]
EVERY_AREA: Final = tuple((area, Sight.ALL) for area in Area)
KEYWORKER: Final = Decision(
    2,
    EVERY_AREA,
    frozenset({Area.PLAN, Area.RISK, Area.FLAG}),
    frozenset({Right.OWN_ACTIVITIES, Right.CONSENT}),
)
CARE_TEAM: Final = Decision(3, EVERY_AREA, rights=frozenset({Right.OWN_ACTIVITIES}))
COLOUR: Final = Decision(4, ((Area.PERSON, Sight.COLOUR), (Area.FLAG, Sight.COLOUR)))
INPATIENT: Final = Decision(
    5, EVERY_AREA, plan_categories=frozenset({"discharge-plan", "keyworking-plan"})
)
EVENTS: Final = Decision(6, rights=frozenset({Right.EVENTS}))
COMPETENT: Final = Decision(
    7,
    EVERY_AREA,
    rights=frozenset({Right.CONSENT}),
    without_labels=frozenset({(canonicals.ACT_CODE, "TBOO")}),
)
PARENT: Final = Decision(8, EVERY_AREA, rights=frozenset({Right.CONSENT}))
NURSE: Final = Caller("nurse", "request-1", user="Practitioner/nurse", organisation="X99")


class Decided:
    """What was decided about each patient; the test changes it as a commit would."""

    def __init__(self, decisions: Mapping[str, Decision] | None = None) -> None:
        self.by_patient: dict[str, Decision] = dict(decisions or {})
        self.broken: dict[str, Decision] = {}
        """For whom the glass is broken."""

    async def known(
        self, reader: Reader, caller: Caller, now: int
    ) -> Mapping[Decision, frozenset[str]]:
        del reader, caller, now
        found: dict[int, tuple[Decision, set[str]]] = {}
        for patient_id, decision in self.by_patient.items():
            found.setdefault(id(decision), (decision, set()))[1].add(patient_id)
        gathered: dict[Decision, frozenset[str]] = {}
        for decision, ids in found.values():
            gathered[decision] = gathered.get(decision, frozenset()) | ids
        return gathered

    async def about(self, reader: Reader, caller: Caller, patient_id: str, now: int) -> Decision:
        del reader, now
        if caller.break_glass:
            return self.broken.get(patient_id, DENIED)
        return self.by_patient.get(patient_id, DENIED)


class Undecidable(Decided):
    """Something is wrong with the facts."""

    async def known(
        self, reader: Reader, caller: Caller, now: int
    ) -> Mapping[Decision, frozenset[str]]:
        raise LookupError(reader, caller, now)

    async def about(self, reader: Reader, caller: Caller, patient_id: str, now: int) -> Decision:
        raise LookupError(reader, caller, patient_id, now)


def chances(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311


def rule(
    decided: Decided, caller: Caller = NURSE, scopes: ScopeTerms = every_scope, now: int = NOW
) -> ConsentPolicy:
    return ConsentPolicy(decided, caller, lambda: now, scopes)


def session(store: Store, decided: Decided, caller: Caller = NURSE) -> Session:
    return Session(store, caller, rule(decided, caller))


def in_role(role: Role) -> Caller:
    return Caller(role.value, "request-1", client="system", roles=frozenset({role}))


def about(resource_type: str, resource_id: str, patient_id: str, **rest: Any) -> Resource:
    """A resource of that patient's record, by the usual element."""
    subject = {"reference": f"Patient/{patient_id}"}
    name = {"Task": "for", "Consent": "patient", "EpisodeOfCare": "patient"}.get(
        resource_type, "subject"
    )
    return {"resourceType": resource_type, "id": resource_id, name: subject, **rest}


def rating(resource_id: str, patient_id: str, colour: str = "red", **rest: Any) -> Resource:
    coding = {"system": canonicals.DSR_RATING, "code": colour}
    given = {"status": "active", "code": {"coding": [coding], "text": "told in confidence"}, **rest}
    return about("Flag", resource_id, patient_id, **given)
