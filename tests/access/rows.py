"""By which row of the decision table somebody is let in, given a few papers."""

from typing import Final

from fhir_server.access.caller import Caller, Role
from fhir_server.access.case import Case, Terms
from fhir_server.access.decision import Area, Decision, Sight
from fhir_server.access.identities import Identities
from fhir_server.access.table import decide
from fhir_server.fhir.json import Resource
from tests.access.people import NOW, child, consent, episode, member, somebody, team
from tests.access.worlds import SIGNATORIES, facts_of

KEYWORKER: Final = somebody("Practitioner/kw", "X1")
CAMHS: Final = somebody("Practitioner/dr", "H1")
WARD: Final = somebody("", "W1")
SCHOOL: Final = somebody("Practitioner/head", "E1")
CHILD: Final = somebody("Patient/1")
MUM: Final = somebody("RelatedPerson/mum")
PANEL: Final = somebody("Practitioner/chair", "X9", roles=frozenset({Role.CETR_PANEL}))
EVERYTHING: Final = dict.fromkeys(Area, Sight.ALL)
WORKED: Final = (episode("Practitioner/kw"), consent())
TEAM: Final = team(member("Practitioner/dr"))
RESOURCE_TYPES: Final = "http://hl7.org/fhir/resource-types"


def decided(
    caller: Caller, *papers: Resource, now: int = NOW, units: tuple[str, ...] = ("W1",)
) -> Decision:
    """The decision by these papers; a Patient of fifteen where they have none."""
    return decide(case_of(caller, papers, now, units))


def case_of(caller: Caller, papers: tuple[Resource, ...], now: int, units: tuple[str, ...]) -> Case:
    there = any(paper["resourceType"] == "Patient" for paper in papers)
    person = frozenset({caller.user}) if caller.user else frozenset[str]()
    names = frozenset({f"ods:{caller.organisation}"} if caller.organisation else ())
    who = Identities(caller.user.partition("/")[0], person, names)
    terms = Terms(SIGNATORIES, frozenset(units))  # type: ignore[arg-type]
    facts = facts_of([*papers] if there else [child(), *papers])
    return Case("1", facts, caller, who, now, terms)


def row(caller: Caller, *papers: Resource, now: int = NOW) -> int:
    return decided(caller, *papers, now=now).row
