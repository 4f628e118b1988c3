"""The resources that people write in the story; everything else the server makes itself.

The young person and the family are invented. Each resource says that it is test data.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final

from fhir_server.demo.year.cast import CAMHS, KEYWORKER, SCHOOL, SOCIAL, Person
from fhir_server.fhir import canonicals, nhs_number
from fhir_server.fhir.json import Resource

HOST: Final = "Organization/kw-org-keyworking"
ICB: Final = "Organization/kw-org-icb"
_ROLE: Final = "PractitionerRole/kw-role-"
KEYWORKER_POST: Final = f"{_ROLE}keyworker-1"
STRATEGIC_POST: Final = f"{_ROLE}strategic-keyworker"
TEAM: Final = {
    "keyworker": KEYWORKER_POST,
    "strategic-keyworker": STRATEGIC_POST,
    "camhs": f"{_ROLE}camhs-1",
    "social-worker": f"{_ROLE}social-worker-1",
    "gp": f"{_ROLE}gp",
}
"""Who is asked to be around the young person, by their part; the school is not among them."""
CLINICIAN: Final = f"{_ROLE}rc-north"
SCHOOL_POST: Final = f"{_ROLE}school-millbrook"
BIRTHDAY: Final = 285
"""Days after the referral on which the young person is 16."""
_SELF_HARM: Final = "401206008"
"""SNOMED CT: at risk of self harm, which the 48-hour follow-up goes by."""


@dataclass(frozen=True, slots=True)
class Family:
    """The young person and the mother, on the server of this run."""

    serial: int
    start: date
    """The day of the referral."""

    given = "Skye"
    mother = "Dawn"

    @property
    def id(self) -> str:
        return f"kw-demo-{self.serial}"

    @property
    def patient(self) -> str:
        return f"Patient/{self.id}"

    @property
    def carer(self) -> str:
        return f"RelatedPerson/{self.id}-mother"

    @property
    def nhs_number(self) -> str:
        return nhs_number.synthetic(self.serial)

    @property
    def born(self) -> date:
        day = self.start + timedelta(days=BIRTHDAY)
        return (day - timedelta(days=1) if (day.month, day.day) == (2, 29) else day).replace(
            year=day.year - 16
        )

    @property
    def young_person(self) -> Person:
        return Person(self.given, "the young person", self.patient)

    @property
    def parent(self) -> Person:
        return Person(self.mother, "mother", self.carer)

    @property
    def condition(self) -> str:
        return f"Condition/{self.id}-autism"


def link(reference: str) -> Resource:
    return {"reference": reference}


def concept(system: str, code: str, text: str = "") -> Resource:
    return {"coding": [{"system": system, "code": code}], **({"text": text} if text else {})}


def made(resource_type: str, **elements: Any) -> Resource:
    """With the tag of test data; a trailing underscore is not part of a name."""
    tag = {"system": canonicals.ACT_REASON, "code": "HTEST"}
    named = {name.rstrip("_"): value for name, value in elements.items()}
    return {"resourceType": resource_type, "meta": {"tag": [tag]}, **named}


def transaction(resources: Iterable[Resource]) -> Resource:
    entries = [
        {
            "resource": one,
            "request": {"method": "PUT", "url": f"{one['resourceType']}/{one['id']}"},
        }
        for one in resources
    ]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


def beginning(family: Family) -> list[Resource]:
    """What is known on the day of the referral: on the register at amber, with consent."""
    before = family.start - timedelta(days=20)
    register = consent(
        family, "register", family.parent, before, basis="parental-responsibility", bodies=()
    )
    return [
        _patient(family),
        _mother(family),
        _diagnosis(family),
        {**register, "id": f"{family.id}-register", "extension": [not_competent(family)]},
        _amber(family, family.start - timedelta(days=3)),
    ]


def not_competent(family: Family) -> Resource:
    """What was found out before the mother decided: each of her consents rests on it."""
    day = family.start - timedelta(days=21)
    parts = [
        {"url": "outcome", "valueCode": "not-competent"},
        {"url": "assessedBy", "valueReference": link(TEAM["social-worker"])},
        {"url": "date", "valueDate": day.isoformat()},
    ]
    return {"url": canonicals.COMPETENCE_EXTENSION, "extension": parts}


def _patient(family: Family) -> Resource:
    status = concept(canonicals.NHS_NUMBER_STATUS, "01")
    verified = {"url": canonicals.NHS_NUMBER_STATUS_EXTENSION, "valueCodeableConcept": status}
    number = {"extension": [verified], "system": canonicals.NHS_NUMBER, "value": family.nhs_number}
    return made(
        "Patient",
        id=family.id,
        identifier=[number],
        active=True,
        name=[{"use": "official", "given": [family.given], "family": "Synthetic-Larch"}],
        gender="female",
        birthDate=family.born.isoformat(),
        managingOrganization=link(HOST),
    )


def _mother(family: Family) -> Resource:
    evidence = concept(canonicals.PARENTAL_RESPONSIBILITY_EVIDENCE, "BRTH")
    parts = [
        {"url": "held", "valueBoolean": True},
        {"url": "evidence", "valueCodeableConcept": evidence},
    ]
    return made(
        "RelatedPerson",
        id=family.carer.partition("/")[2],
        extension=[{"url": canonicals.PARENTAL_RESPONSIBILITY_EXTENSION, "extension": parts}],
        active=True,
        patient=link(family.patient),
        relationship=[concept(canonicals.ROLE_CODE, "MTH", "Mother")],
        name=[{"use": "official", "given": [family.mother], "family": "Synthetic-Larch"}],
    )


def _diagnosis(family: Family) -> Resource:
    return made(
        "Condition",
        id=family.condition.partition("/")[2],
        clinicalStatus=concept(canonicals.CONDITION_CLINICAL, "active"),
        verificationStatus=concept(canonicals.CONDITION_VERIFICATION, "confirmed"),
        category=[concept(canonicals.CONDITION_CATEGORY, "problem-list-item")],
        code={"text": "Autism"},
        subject=link(family.patient),
    )


def _amber(family: Family, day: date) -> Resource:
    return made(
        "Flag",
        id=f"{family.id}-rating",
        status="active",
        category=[
            concept(canonicals.FLAG_CATEGORY, canonicals.DSR_ADMISSION_RISK),
            concept(canonicals.HL7_FLAG_CATEGORY, "safety"),
        ],
        code=concept(canonicals.DSR_RATING, "amber"),
        subject=link(family.patient),
        period={"start": day.isoformat()},
        author=link(TEAM["social-worker"]),
    )


def consent(
    family: Family,
    category: str,
    giver: Person,
    day: date,
    *,
    basis: str,
    bodies: Iterable[str],
) -> Resource:
    """For a year; `bodies` names whom it means, everybody in their part where it is empty."""
    recipient = concept(canonicals.PARTICIPATION_TYPE, "IRCP")
    actors = [{"role": recipient, "reference": link(body)} for body in bodies]
    period = {"start": day.isoformat(), "end": (day + timedelta(days=364)).isoformat()}
    return made(
        "Consent",
        status="active",
        scope=concept(canonicals.CONSENT_SCOPE, "patient-privacy"),
        category=[
            concept(canonicals.ACT_CODE, "INFA"),
            concept(canonicals.CONSENT_CATEGORY, category),
        ],
        patient=link(family.patient),
        dateTime=day.isoformat(),
        performer=[link(giver.user)],
        organization=[link(ICB if category == "register" else HOST)],
        policyRule=concept(canonicals.NHS_PROXY_LEGAL_BASIS, basis),
        provision={"type": "permit", "period": period, **({"actor": actors} if actors else {})},
    )


def team(found: Resource, family: Family, *, more: Mapping[str, str], day: date) -> Resource:
    """The care team with everybody of `TEAM` and `more`, as the keyworker leaves it."""
    wanted = {**TEAM, "parent-carer": family.carer, **more}
    there = {
        coding["code"]
        for one in found.get("participant", ())
        for role in one.get("role", ())
        for coding in role.get("coding", ())
    }
    added = [
        {
            "role": [concept(canonicals.CARE_TEAM_ROLE, role)],
            "member": link(member),
            "period": {"start": day.isoformat()},
        }
        for role, member in wanted.items()
        if role not in there
    ]
    return {**found, "participant": [*found.get("participant", ()), *added]}


def visit(family: Family, episode: str, start: datetime, words: str, place: str) -> Resource:
    """An hour with the keyworker; `place` is a code of v3-ActCode, HH at home, VR by video."""
    end = start + timedelta(hours=1)
    return made(
        "Encounter",
        status="finished",
        class_={"system": canonicals.ACT_CODE, "code": place},
        type=[{"text": words}],
        subject=link(family.patient),
        episodeOfCare=[link(episode)],
        participant=[{"individual": link(KEYWORKER_POST)}],
        period={"start": start.isoformat(), "end": end.isoformat()},
        serviceProvider=link(HOST),
    )


@dataclass(frozen=True, slots=True)
class Wish:
    """A goal: what is wanted, in whose words, and how one sees that it is reached."""

    area: str
    wish: str
    said: str
    measure: str
    detail: str
    weeks: int


WISHES: Final = (
    Wish(
        "Home",
        "Cook tea for my nan once a week",
        "Nan likes pasta and I like it when she comes",
        "Teas cooked",
        "One a week",
        20,
    ),
    Wish(
        "Learning",
        "Go back to art class on Tuesdays",
        "I miss art, but not the corridor",
        "Art classes",
        "Three in a month, through the side door",
        30,
    ),
)
VOICE: Final = "Tell me the day before. Do not change it on the day. I want to be at home."


def goal(family: Family, wish: Wish, day: date) -> Resource:
    due = day + timedelta(weeks=wish.weeks)
    parts = [
        {"url": "individual", "valueReference": link(family.patient)},
        {"url": "status", "valueCode": "agree"},
    ]
    return made(
        "Goal",
        extension=[{"url": canonicals.GOAL_ACCEPTANCE_EXTENSION, "extension": parts}],
        lifecycleStatus="accepted",
        category=[{"text": wish.area}],
        description={"text": wish.wish},
        subject=link(family.patient),
        startDate=day.isoformat(),
        target=[
            {
                "measure": {"text": wish.measure},
                "detailString": wish.detail,
                "dueDate": due.isoformat(),
            }
        ],
        expressedBy=link(family.patient),
        addresses=[link(family.condition)],
        note=[{"text": wish.said, "authorReference": link(family.patient)}],
    )


def voice(family: Family, at: datetime) -> Resource:
    said = {"text": VOICE, "time": at.isoformat(), "authorReference": link(family.patient)}
    return {"url": canonicals.YOUNG_PERSONS_VOICE_EXTENSION, "valueAnnotation": said}


def answers(family: Family, at: datetime, *yes: str, words: str) -> Resource:
    """To all questions of the risk questionnaire: these are yes."""
    items: list[Resource] = [
        {
            "linkId": question,
            "text": text,
            "answer": [
                {"valueString": words}
                if question == "factors"
                else {"valueBoolean": question in yes}
            ],
        }
        for question, text in canonicals.RISK_QUESTIONS.items()
    ]
    return made(
        "QuestionnaireResponse",
        questionnaire=canonicals.DSR_RISK_QUESTIONNAIRE,
        status="completed",
        subject=link(family.patient),
        authored=at.isoformat(),
        author=link(KEYWORKER_POST),
        item=items,
    )


def self_harm(family: Family) -> Resource:
    return made(
        "Condition",
        clinicalStatus=concept(canonicals.CONDITION_CLINICAL, "active"),
        verificationStatus=concept(canonicals.CONDITION_VERIFICATION, "confirmed"),
        category=[concept(canonicals.CONDITION_CATEGORY, "problem-list-item")],
        code=concept(canonicals.SNOMED_CT, _SELF_HARM, "At risk of self-harm"),
        subject=link(family.patient),
    )


def subscription(family: Family, topic: str, who: str, origin: str) -> Resource:
    """Each event of the topic about the young person goes to the system `who`, with what it is."""
    backport = f"{canonicals.BACKPORT}/StructureDefinition"
    narrowed = {
        "url": f"{backport}/backport-filter-criteria",
        "valueString": f"patient={family.patient}",
    }
    content = {"url": f"{backport}/backport-payload-content", "valueCode": "full-resource"}
    return {
        "resourceType": "Subscription",
        "status": "requested",
        "reason": "To be told at once, and not by the next letter",
        "criteria": f"{canonicals.KW}/SubscriptionTopic/{topic}",
        "_criteria": {"extension": [narrowed]},
        "channel": {
            "type": "rest-hook",
            "endpoint": f"{origin}/{who}",
            "payload": "application/fhir+json",
            "_payload": {"extension": [content]},
        },
    }


SUBSCRIBED: Final[tuple[tuple[Person, str], ...]] = (
    (CAMHS, "rating-changed"),
    (CAMHS, "admitted"),
    (CAMHS, "discharged"),
    (KEYWORKER, "task-overdue"),
)
"""Who asks to be told of what."""
LOOKERS: Final = (KEYWORKER, CAMHS, SOCIAL, SCHOOL)
"""Whose view of the record is shown, besides the family, the ward and a stranger."""
