"""Every kind of caller of the matrix: a token each, and what the slow reading says they may see."""

import time
from dataclasses import dataclass
from typing import Any, Final

from fhir_server.access import membership
from fhir_server.fhir.json import Resource
from tests.access import issuing
from tests.access.oracle import Asker, Verdict
from tests.access.region import ABOUT, CHILDREN, Child

_ALL: Final = "all"
_COLOUR: Final = "colour"
_RATING: Final = "https://keyworking.example/fhir/CodeSystem/dsr-rating"
_AREAS: Final = {
    **dict.fromkeys(("Patient", "RelatedPerson"), "person"),
    "Flag": "flag",
    **dict.fromkeys(("Consent", "QuestionnaireResponse", "RiskAssessment"), "risk"),
}
_NOBODYS: Final = ("Bundle", "Binary", "Group")
"""Whose they are cannot be told by themselves."""


@dataclass(frozen=True)
class Cast:
    """One caller."""

    kind: str
    user: str = ""
    organisation: str = ""
    role: str = ""
    scopes: str = "user/*.cruds system/*.cruds"
    patient: str = ""
    purpose: str = "TREAT"
    breaks: tuple[str, ...] = ()
    """Keys of the children for whom the glass is broken."""

    def headers(self) -> dict[str, str]:
        now = int(time.time())
        told: dict[str, Any] = {"exp": now + 900, "iat": now, "nbf": now, "jti": self.name}
        named = {
            "fhirUser": self.user,
            "ods_code": self.organisation,
            "role": self.role,
            "patient": self.patient,
        }
        told.update({name: value for name, value in named.items() if value})
        told.update(purpose_of_use=self.purpose, scope=self.scopes, client_id=self.kind)
        return {"authorization": f"Bearer {issuing.token(**told)}"}

    @property
    def name(self) -> str:
        return f"{self.kind} {self.user}"

    @property
    def is_test(self) -> bool:
        return self.role == "load-test"

    def asker(self, key: str) -> Asker:
        names = {f"ods:{self.organisation}"} if self.organisation else set()
        return Asker(
            _KINDS[self.user.partition("/")[0]],
            frozenset({self.user}) if self.user else frozenset(),
            self.organisation,
            frozenset({*names, *_REGISTERED.get(self.organisation, ())}),
            frozenset({self.role}) if self.role else frozenset(),
            self.purpose,
            "broken" if key in self.breaks else "",
            creates_encounters=self.scopes != "",
        )

    def sees(self, child: Child, paper: Resource) -> str:
        """all, colour or nothing of one paper."""
        kind = paper["resourceType"]
        if not self.scopes or self.role == "auditor":
            return ""
        if self.is_test:
            return _ALL if child.is_test else ""
        if kind in _NOBODYS or (kind == "AuditEvent" and self.role != "auditor"):
            return ""
        verdict = child.verdict(self.asker(child.key))
        return shown_of(verdict, paper, for_family=self.user.startswith("RelatedPerson/"))

    def sees_visit(self) -> bool:
        """The one resource that is about two children."""
        return all(self.sees(one, {"resourceType": "Appointment"}) == _ALL for one in ABOUT)

    def words(self, child: Child) -> frozenset[str]:
        """What they may read of the child."""
        seen = {word: self.sees(child, one) for word, one in child.words.items()}
        return frozenset(
            word
            for word, sight in seen.items()
            if sight == _ALL or (sight == _COLOUR and word == child.surname)
        )


def shown_of(verdict: Verdict, paper: Resource, *, for_family: bool) -> str:
    """all, colour or nothing of one paper, by a verdict about the patient."""
    kind = paper["resourceType"]
    sight = verdict.sees.get(_AREAS.get(kind, "plan"), "")
    if (kind if kind in ("CarePlan", "Consent", "Flag") else "Goal") not in verdict.types:
        return ""
    labels = {one["code"] for one in paper.get("meta", {}).get("security", ())}
    # What others have said in confidence is not for the family (docs/access.md).
    if labels & (verdict.hidden_labels | ({"TBOO"} if for_family else set())):
        return ""
    if kind == "CarePlan" and verdict.plans:
        codes = {coding["code"] for one in paper["category"] for coding in one["coding"]}
        return sight if codes & verdict.plans else ""
    return sight if sight != _COLOUR or _is_shown(paper) else ""


def _is_shown(paper: Resource) -> bool:
    if paper["resourceType"] == "Patient":
        return True
    codes = [one["system"] for one in paper.get("code", {}).get("coding", ())]
    return paper["resourceType"] == "Flag" and _RATING in codes and paper["status"] == "active"


_KINDS: Final = {
    "": "system",
    "Practitioner": "practitioner",
    "RelatedPerson": "related",
    "Patient": "patient",
}
_REGISTERED: Final = {"W11": ("Organization/w",), "H11": ("Organization/h",)}
_READS: Final = "user/*.rs system/*.rs"
GLASS: Final = tuple(
    one.key for one in CHILDREN if one.age == "competent" and one.state in ("never", "withdrawn")
)

SERVICES: Final = (
    Cast("keyworker", "Practitioner/kw", "X26"),
    Cast("care-team member", "Practitioner/member", "C11"),
    Cast("signatory of health", "", "H11"),
    Cast("signatory of education", "", "E11"),
    Cast("inpatient unit with a stay", "", "W11"),
    Cast("inpatient unit without", "", "W21"),
    Cast("commissioner", "Practitioner/chief", "K11", "commissioner"),
    Cast("review panel", "Practitioner/panel", "K11", "cetr-panel"),
    Cast("load test", role="load-test"),
    Cast("breaker of glass", "Practitioner/glass", "G11", breaks=GLASS),
    Cast("stranger", "Practitioner/stranger", "Z11"),
    Cast("without scopes", "Practitioner/kw", "X26", scopes=""),
    Cast("auditor", role="auditor", scopes=_READS),
    Cast("administrator", role="administrator"),
    Cast("who keeps the records", "", "M11", "administrator", scopes="system/*.cruds"),
)


def patient(child: Child) -> Cast:
    scopes = "patient/*.rs user/Binary.rs user/Bundle.rs user/Group.rs"
    return Cast(f"patient, {child.age}", f"Patient/{child.key}", scopes=scopes, patient=child.key)


def parent(child: Child) -> Cast:
    return Cast(f"parent, {child.age}", f"RelatedPerson/{child.key}-mum", scopes=_READS)


assert {membership.standing(one) for one in _NOBODYS} == {membership.Standing.CLOSED}
