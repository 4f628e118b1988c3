"""What people write down in the stories, as FHIR has it. Everybody in it is made up."""

from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Final

from fhir_server.fhir import canonicals, nhs_number
from fhir_server.fhir.discharge import DISCHARGE_ITEMS
from tests.access.people import carer, coded, ods, ref, rule

JSON = dict[str, Any]

SERVICE: Final = "ZZK01"
"""ODS code of the voluntary organisation that hosts keyworking."""
CAMHS: Final = "ZZK02"
"""Of the mental health service for children at home."""
HOSPITAL: Final = "ZZK03"
COUNCIL: Final = "ZZK04"
CHILDRENS: Final = "ZZK06"
"""Of the children's clinic, which has signed the register and is in nobody's team."""
BOARD: Final = "ZZK05"
"""Of the integrated care board, who commissions."""
ELSEWHERE: Final = "ZZK09"
"""Of a keyworking service of another region."""
ORGANISATIONS: Final = (SERVICE, CAMHS, HOSPITAL, COUNCIL, BOARD, CHILDRENS, ELSEWHERE)
_CLINICAL: Final = "http://terminology.hl7.org/CodeSystem/condition-clinical"


@dataclass
class Child:
    """A young person, by what the tests know of them."""

    name: str
    born: str
    serial: int = 700
    harms_himself: bool = False
    id: str = ""
    mother: str = ""
    """Reference to her; so of the father, the diagnosis and the involvement."""
    father: str = ""
    need: str = ""
    episode: str = ""

    @property
    def reference(self) -> str:
        return f"Patient/{self.id}"

    @property
    def nhs_number(self) -> str:
        return nhs_number.synthetic(self.serial)


@dataclass
class Entry:
    """A transaction that is being put together."""

    made: list[JSON] = field(default_factory=list)

    def add(self, resource: JSON, method: str = "POST") -> str:
        """The address by which the others refer to it."""
        kind, place = resource["resourceType"], f"urn:uuid:{len(self.made):08d}-0000-4000-8000-0"
        address = f"{kind}/{resource['id']}" if method == "PUT" else place.ljust(45, "0")
        url = address if method == "PUT" else kind
        entry = {"resource": resource, "request": {"method": method, "url": url}}
        self.made.append(entry if method == "PUT" else {"fullUrl": address, **entry})
        return address

    @property
    def bundle(self) -> JSON:
        return {"resourceType": "Bundle", "type": "transaction", "entry": self.made}


def patient_of(child: Child) -> JSON:
    """Whose record the service keeps."""
    return {
        "resourceType": "Patient",
        "identifier": [{"system": canonicals.NHS_NUMBER, "value": child.nhs_number}],
        "name": [{"family": "Synthetic", "given": [child.name]}],
        "birthDate": child.born,
        "managingOrganization": ods(SERVICE),
    }


def from_the_register(child: Child, day: str) -> JSON:
    """What an area's register tells of somebody who is new to the server."""
    told = Entry()
    patient = told.add(patient_of(child))
    for _ in ("mother", "father"):
        told.add(parent(patient))
    told.add(diagnosis(patient))
    told.add(_rating("amber", patient, day))
    return told.bundle


def parent(patient: str) -> JSON:
    """Who shows parental responsibility."""
    made = carer(relationship=[coded(canonicals.ROLE_CODE, "PRN")], active=True)
    del made["id"]
    return {**made, "patient": ref(patient)}


def diagnosis(patient: str) -> JSON:
    return _condition({"text": "Autism"}, patient)


def self_harm(patient: str) -> JSON:
    """A risk of it that is known."""
    return _condition(coded(canonicals.SNOMED_CT, "401206008"), patient)


def _condition(code: JSON, patient: str) -> JSON:
    clinical = coded(_CLINICAL, "active")
    made = {"resourceType": "Condition", "clinicalStatus": clinical, "code": code}
    return {**made, "subject": ref(patient)}


def _rating(colour: str, patient: str, day: str) -> JSON:
    return {
        "resourceType": "Flag",
        "status": "active",
        "category": [coded(canonicals.FLAG_CATEGORY, canonicals.DSR_ADMISSION_RISK)],
        "code": coded(canonicals.DSR_RATING, colour),
        "subject": ref(patient),
        "period": {"start": day},
        "author": ref("Practitioner/nurse"),
    }


def consent(child: Child, about: str, giver: str, day: date, **elements: Any) -> JSON:
    """To be on the register, to keyworking or to a review: from that day, for a year."""
    own = giver == child.reference
    basis = "consent" if own else "parental-responsibility"
    end = day.replace(year=day.year + 1)
    return {
        "resourceType": "Consent",
        "status": "active",
        "scope": coded(canonicals.CONSENT_SCOPE, "patient-privacy"),
        "category": [coded(canonicals.ACT_CODE, "INFA"), coded(canonicals.CONSENT_CATEGORY, about)],
        "patient": ref(child.reference),
        "dateTime": day.isoformat(),
        "performer": [ref(giver)],
        "organization": [ods(SERVICE)],
        "policyRule": coded(canonicals.NHS_PROXY_LEGAL_BASIS, basis),
        "provision": {
            "type": "permit",
            "period": {"start": day.isoformat(), "end": end.isoformat()},
        },
        **elements,
    }


def named(whom: str, start: date, end: str) -> JSON:
    """What a consent permits: to them alone, until that day."""
    return rule("permit", whom, period={"start": start.isoformat(), "end": end})


def no_longer(consent: JSON) -> JSON:
    """The same, withdrawn by whoever gave it."""
    why = coded(canonicals.CONSENT_STATUS_REASON, "ROLE_DEACTIVATED_PATIENT_REQUEST")
    others = [
        one
        for one in consent.get("extension", ())
        if one["url"] != canonicals.CONSENT_STATUS_REASON_EXTENSION
    ]
    said = {"url": canonicals.CONSENT_STATUS_REASON_EXTENSION, "valueCodeableConcept": why}
    return {**consent, "status": "inactive", "extension": [*others, said]}


def visit(child: Child, where: str, start: datetime, end: datetime) -> JSON:
    """By the keyworker: `HH` at home, `FLD` elsewhere, `VR` by phone."""
    return {
        "resourceType": "Encounter",
        "status": "finished",
        "class": {"system": canonicals.ACT_CODE, "code": where},
        "subject": ref(child.reference),
        "episodeOfCare": [ref(child.episode)],
        "period": {"start": start.isoformat(), "end": end.isoformat()},
    }


def goal(child: Child, day: date, wish: str, measure: str, much: str, due: str) -> JSON:
    """A SMART goal that the young person has agreed to."""
    agreed: list[JSON] = [
        {"url": "individual", "valueReference": ref(child.reference)},
        {"url": "status", "valueCode": "agree"},
    ]
    target = {"measure": {"text": measure}, "detailString": much, "dueDate": due}
    return {
        "resourceType": "Goal",
        "extension": [{"url": canonicals.GOAL_ACCEPTANCE_EXTENSION, "extension": agreed}],
        "lifecycleStatus": "accepted",
        "category": [{"text": "Home"}],
        "description": {"text": wish},
        "subject": ref(child.reference),
        "startDate": day.isoformat(),
        "target": [target],
        "addresses": [ref(child.need)],
        "expressedBy": ref(child.reference),
        "note": [{"text": wish}],
    }


def numbered(child: Child) -> str:
    """The NHS number, as a search has it."""
    return f"{canonicals.NHS_NUMBER}|{child.nhs_number}"


def with_voice(plan: JSON, words: str) -> JSON:
    """The plan, with what the young person says."""
    return _with(plan, canonicals.YOUNG_PERSONS_VOICE_EXTENSION, valueAnnotation={"text": words})


def followed(plan: JSON, words: str, goal: JSON | None = None, team: JSON | None = None) -> JSON:
    """A discharge plan that is worked on from now."""
    named = {"goal": [ref(f"Goal/{goal['id']}")]} if goal else {}
    by = {"careTeam": [ref(f"CareTeam/{team['id']}")]} if team else {}
    return {**with_voice(plan, words), "status": "active", **named, **by}


def for_adulthood(plan: JSON, day: date, again: str) -> JSON:
    """A plan for the move to adults' services, with the goals and the team of the other."""
    kept = {name: plan[name] for name in ("subject", "goal", "careTeam", "intent", "extension")}
    made = _with(kept, f"{canonicals.KW}/StructureDefinition/next-review", valueDate=again)
    return {
        **made,
        "resourceType": "CarePlan",
        "status": "active",
        "category": [coded(canonicals.CARE_PLAN_CATEGORY, "transition-plan")],
        "period": {"start": day.isoformat()},
    }


def all_arranged(plan: JSON, leaves: str, owner: str) -> JSON:
    """A discharge plan with each item done, for that day."""
    items = {one.code for one in DISCHARGE_ITEMS}
    done: JSON = {"status": "completed", "performer": [ref(owner)]}
    why = {"statusReason": {"text": "No school and no GP in the team yet: both were rung"}}
    activities = []
    for one in plan["activity"]:
        code = one["detail"]["code"]["coding"][0]["code"]
        assert code in items
        more = why if code == "dp-mdt" else {}
        activities.append({"detail": {**one["detail"], **done, **more}})
    made = _with(plan, canonicals.PLANNED_DISCHARGE_EXTENSION, valueDate=leaves)
    return {**made, "activity": activities}


def _with(resource: JSON, url: str, **value: Any) -> JSON:
    others = [one for one in resource.get("extension", ()) if one["url"] != url]
    return {**resource, "extension": [*others, {"url": url, **value}]}


def answers(child: Child, at: datetime, *yes: str) -> JSON:
    """To the questions about risk: yes to these, no to the others."""
    items = [
        {"linkId": question, "answer": [{"valueBoolean": question in yes}]}
        for question in canonicals.RISK_QUESTIONS
        if question != "factors"
    ]
    return {
        "resourceType": "QuestionnaireResponse",
        "questionnaire": canonicals.DSR_RISK_QUESTIONNAIRE,
        "status": "completed",
        "subject": ref(child.reference),
        "authored": at.isoformat(),
        "author": ref("Practitioner/keyworker"),
        "item": items,
    }


def parameters(**given: Any) -> JSON:
    """A Parameters resource; references are objects, codes come of `code`."""
    made: list[JSON] = []
    for name, value in given.items():
        element, told = value if isinstance(value, tuple) else (_ELEMENTS[type(value)], value)
        made.append({"name": name.replace("_", "-"), element: told})
    return {"resourceType": "Parameters", **({"parameter": made} if made else {})}


def value(answer: JSON, name: str) -> Any:
    """Of the one parameter of that name."""
    (found,) = [one for one in answer["parameter"] if one["name"] == name]
    return next(told for key, told in found.items() if key.startswith("value"))


def code(text: str) -> tuple[str, str]:
    """A parameter that is a code."""
    return "valueCode", text


_ELEMENTS: Final = {str: "valueString", bool: "valueBoolean", dict: "valueReference"}
