"""One young person's record on the server: written beforehand, looked at afterwards."""

import asyncio
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import httpx
from fhir.resources.R4B import get_fhir_model_class

from fhir_server.fhir import canonicals, nhs_number
from fhir_server.fhir.dates import LOCAL
from fhir_server.fhir.json import decode_resource
from fhir_server.storage.interface import Store
from fhir_server.validation.checker import standard_checker
from tests.operations.messages import JSON
from tests.support import body, exact, put, stored_versions

KEYWORKER: Final = {"reference": "PractitionerRole/keyworker"}
HOST: Final = {"identifier": {"system": canonicals.ODS_ORGANIZATION, "value": "X99"}}
BORN: Final = "2010-05-14"
STANDING: Final = frozenset(
    {
        *("T-REVIEW-RED", "T-REVIEW-AMBER", "T-REVIEW-GREEN", "T-CETR-COMMUNITY", "T-TRANSITION"),
        *("T-CONSENT-RECHECK", "T-PROXY-REVIEW", "T-PROXY-16", "review-consent"),
    }
)
"""Timers that no stay brings: they run beside (`test_timers.py`)."""
BY_HAND: Final = frozenset({"review-red", "review-amber", "review-green"})
_NEXT_YEAR: Final = (datetime.now(LOCAL).date() + timedelta(days=365)).isoformat()
_TRIES: Final = 5
"""Of a message that a slow store asks for again."""


@dataclass(frozen=True, slots=True)
class Chart:
    """What stands in the record of `Patient/young-person`."""

    client: httpx.AsyncClient
    store: Store
    nhs_number: str = nhs_number.synthetic(700)
    patient: str = "Patient/young-person"

    async def open(self, *, state: str = "plan-active", born: str = BORN) -> None:
        """A record of somebody who is on the register at amber and has an active plan."""
        patient, *others = self._beginning(state, born)
        await self.write(patient)
        await self.consent("keyworking")
        for resource in others:
            await self.write(resource)
        await self.rate("amber", "2026-01-05")
        await self.consent("register")

    async def write(self, resource: JSON) -> JSON:
        """By an update of whatever is there; the stored resource."""
        return await put(self.client, resource)

    async def rate(self, colour: str, start: str, **elements: Any) -> JSON:
        """Somebody gives a rating, besides whatever there is."""
        if elements.get("status", "active") != "active":
            elements = {**ended(start), **elements}
        return await self.write(
            {
                "resourceType": "Flag",
                "id": f"{colour}-{start[:10]}",
                "status": "active",
                "category": [concept(canonicals.FLAG_CATEGORY, "dsr-admission-risk")],
                "code": concept(canonicals.DSR_RATING, colour),
                "subject": {"reference": self.patient},
                "period": {"start": start},
                "author": KEYWORKER,
                **elements,
            }
        )

    async def override(self, colour: str) -> None:
        """Somebody gives a rating that is lower than what is held, on purpose."""
        lower = [
            {"name": "rating", "valueCode": colour},
            {"name": "reason", "valueString": "On leave for good"},
            {"name": "override", "valueBoolean": True},
            {"name": "role", "valueCode": "camhs"},
        ]
        sent = body({"resourceType": "Parameters", "parameter": lower})
        answer = await self.client.post(f"{self.patient}/$set-rating", **sent)
        assert answer.status_code == 200, answer.text

    async def consent(self, category: str, **elements: Any) -> JSON:
        """One that is not active says why."""
        if elements.get("status", "active") != "active":
            elements = {"extension": [CONSENT_ENDED], **elements}
        return await self.write(
            {
                "resourceType": "Consent",
                "id": f"consent-{category}",
                "status": "active",
                "scope": concept(canonicals.CONSENT_SCOPE, "patient-privacy"),
                "category": [
                    concept(canonicals.ACT_CODE, "INFA"),
                    concept(canonicals.CONSENT_CATEGORY, category),
                ],
                "patient": {"reference": self.patient},
                "dateTime": "2026-01-05",
                "performer": [{"reference": self.patient}],
                "organization": [HOST],
                "policyRule": concept(canonicals.NHS_PROXY_LEGAL_BASIS, "consent"),
                "provision": {
                    "type": "permit",
                    "period": {"start": "2026-01-05", "end": _NEXT_YEAR},
                },
                **elements,
            }
        )

    async def reviewed(self, code: str, day: str, *, by: str = "executionPeriod") -> JSON:
        """A completed Task, such as a review in the community."""
        when: JSON = {"executionPeriod": {"end": day}} if by == "executionPeriod" else {by: day}
        return await self.write(
            {
                "resourceType": "Task",
                "id": f"done-{code.lower()}",
                "status": "completed",
                "intent": "order",
                "code": concept(canonicals.TIMER, code),
                "for": {"reference": self.patient},
                "focus": {"reference": self.patient},
                "authoredOn": "2026-01-05",
                "restriction": {"period": {"end": day}},
                **when,
            }
        )

    async def condition(self, system: str, code: str, status: str = "active") -> JSON:
        clinical = "http://terminology.hl7.org/CodeSystem/condition-clinical"
        return await self.write(
            {
                "resourceType": "Condition",
                "id": f"condition-{code}",
                "clinicalStatus": concept(clinical, status),
                "code": concept(system, code),
                "subject": {"reference": self.patient},
            }
        )

    async def answers(self, *yes: str, **elements: Any) -> JSON:
        """Answers to all risk questions: these are yes."""
        items = [
            {"linkId": question, "answer": [{"valueBoolean": question in yes}]}
            for question in canonicals.RISK_QUESTIONS
            if question != "factors"
        ]
        return await self.write(
            {
                "resourceType": "QuestionnaireResponse",
                "id": "answers",
                "questionnaire": canonicals.DSR_RISK_QUESTIONNAIRE,
                "status": "completed",
                "subject": {"reference": self.patient},
                "authored": "2026-05-01T10:00:00+01:00",
                "author": KEYWORKER,
                "item": items,
                **elements,
            }
        )

    async def tell(self, message: JSON) -> list[str]:
        """Post a message that is accepted; what the server says it did.

        As senders do, it is sent again where a slow store asks for that.
        """
        for _ in range(_TRIES):
            answer = await self.client.post("$process-message", **body(message))
            if answer.status_code != 503:
                break
            await asyncio.sleep(int(answer.headers["retry-after"]))
        assert answer.status_code == 200, answer.text
        return [issue["diagnostics"] for issue in answer.json()["issue"]]

    async def all(self, resource_type: str) -> list[JSON]:
        """Current resources of the type about the young person."""
        search = f"{resource_type}?patient={self.patient}&_count=100"
        answer = await self.client.get(search)
        assert answer.status_code == 200, answer.text
        return [entry["resource"] for entry in exact(answer).get("entry", ())]

    async def stay(self) -> JSON:
        """The only Encounter."""
        (found,) = await self.all("Encounter")
        return found

    async def rating(self) -> JSON | None:
        """The one active rating; None where there is none."""
        active = [flag for flag in await self.all("Flag") if flag["status"] == "active"]
        assert len(active) <= 1, "there is at most one active rating"
        return active[0] if active else None

    async def colour(self) -> str | None:
        found = await self.rating()
        return None if found is None else code_of(found["code"])

    async def discharge_plan(self) -> JSON | None:
        plans = [
            plan
            for plan in await self.all("CarePlan")
            if code_of(plan["category"][0]) == "discharge-plan"
        ]
        assert len(plans) <= 1, "one stay has one plan"
        return plans[0] if plans else None

    async def tasks(self, *statuses: str) -> dict[str, JSON]:
        """What stays bring, and what is named; by code. Those of these statuses, or all."""
        found = [
            task
            for task in await self.all("Task")
            if (not statuses or task["status"] in statuses)
            and (code_of(task["code"]) not in STANDING or task["id"] in BY_HAND)
        ]
        by_code = {code_of(task["code"]): task for task in found}
        assert len(by_code) == len(found), "there is one task of each code"
        return by_code

    async def dues(self) -> dict[str, str]:
        """When what is still to be done is due, by code."""
        tasks = await self.tasks("requested")
        return {code: task["restriction"]["period"]["end"] for code, task in tasks.items()}

    async def state(self) -> str:
        (episode,) = await self.all("EpisodeOfCare")
        assert episode["status"] in ("planned", "waitlist", "active"), "it never ends by itself"
        state: str = extension_of(episode, canonicals.PATHWAY_STATE_EXTENSION)["valueCode"]
        return state

    def _beginning(self, state: str, born: str) -> list[JSON]:
        role = {"resourceType": "PractitionerRole", "id": "keyworker"}
        involved = [self._team(), self._involvement(state), self._goal(), self._plan()]
        return [self._young_person(born), role, *involved]

    def _young_person(self, born: str) -> JSON:
        return {
            "resourceType": "Patient",
            "id": "young-person",
            "identifier": [{"system": canonicals.NHS_NUMBER, "value": self.nhs_number}],
            "name": [{"family": "Synthetic-Alder", "given": ["Ellie"]}],
            "birthDate": born,
        }

    def _team(self) -> JSON:
        return {
            "resourceType": "CareTeam",
            "id": "team",
            "status": "active",
            "subject": {"reference": self.patient},
            "participant": [
                {
                    "role": [concept(canonicals.CARE_TEAM_ROLE, "keyworker")],
                    "member": KEYWORKER,
                    "period": {"start": "2026-01-05"},
                }
            ],
        }

    def _involvement(self, state: str) -> JSON:
        return {
            "resourceType": "EpisodeOfCare",
            "id": "involvement",
            "extension": [{"url": canonicals.PATHWAY_STATE_EXTENSION, "valueCode": state}],
            "status": _EPISODE_STATUS.get(state, "active"),
            "type": [concept(canonicals.EPISODE_TYPE, "keyworking")],
            "patient": {"reference": self.patient},
            "managingOrganization": HOST,
            "period": {"start": "2026-01-05"},
            "careManager": KEYWORKER,
            "team": [{"reference": "CareTeam/team"}],
        }

    def _goal(self) -> JSON:
        return {
            "resourceType": "Goal",
            "id": "goal",
            "extension": [_agreed(self.patient)],
            "lifecycleStatus": "active",
            "category": [{"text": "Home"}],
            "description": {"text": "I want to cook tea for my nan"},
            "subject": {"reference": self.patient},
            "startDate": "2026-01-12",
            "target": [
                {
                    "measure": {"text": "Teas cooked"},
                    "detailString": "One a week",
                    "dueDate": "2026-04-30",
                }
            ],
            "addresses": [{"reference": "Condition/eating"}],
            "note": [{"text": "My nan likes pasta"}],
        }

    def _plan(self) -> JSON:
        return {
            "resourceType": "CarePlan",
            "id": "plan",
            "extension": [voice()],
            "status": "active",
            "intent": "plan",
            "category": [concept(canonicals.CARE_PLAN_CATEGORY, "keyworking-plan")],
            "subject": {"reference": self.patient},
            "period": {"start": "2026-01-05"},
            "goal": [{"reference": "Goal/goal"}],
            "careTeam": [{"reference": "CareTeam/team"}],
        }


def _agreed(patient: str) -> JSON:
    parts: list[JSON] = [
        {"url": "individual", "valueReference": {"reference": patient}},
        {"url": "status", "valueCode": "agree"},
    ]
    return {"url": canonicals.GOAL_ACCEPTANCE_EXTENSION, "extension": parts}


_EPISODE_STATUS: Final = {
    "referred": "planned",
    "consent-pending": "planned",
    "awaiting-allocation": "waitlist",
}


async def everything(store: Store) -> list[str]:
    """Every version there is, by name: unchanged when nothing was stored."""
    versions = await stored_versions(store)
    return [f"{version.type}/{version.id}/{version.version}" for version in versions]


async def require_typed(store: Store) -> None:
    """Every version ever stored is what R4B's own model takes."""
    for version in await stored_versions(store):
        if not version.deleted:
            model = get_fhir_model_class(version.type)
            model.model_validate(decode_resource(version.body))


_STABLE: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
"""Ids of what the service puts together: of the rest, a test may have written what it likes."""


async def require_sound(store: Store) -> None:
    """What rules and messages put together keeps every rule, whether it was checked or not."""
    checker = standard_checker()
    for version in await stored_versions(store):
        ours = version.type in ("Binary", "Task") or _STABLE.fullmatch(version.id)
        if ours and not version.deleted:
            found = checker.check(decode_resource(version.body), expected_type=version.type)
            assert not found.errors, version.body


def ended(day: str) -> JSON:
    """What a rating says once another has taken its place."""
    why = concept(canonicals.RATING_END_REASON, "superseded")
    reason = {"url": canonicals.RATING_END_REASON_EXTENSION, "valueCodeableConcept": why}
    return {"status": "inactive", "extension": [reason], "period": {"start": day, "end": day}}


def voice() -> JSON:
    said: JSON = {"text": "I want to cook tea for my nan"}
    return {"url": canonicals.YOUNG_PERSONS_VOICE_EXTENSION, "valueAnnotation": said}


def concept(system: str, code: str) -> JSON:
    return {"coding": [{"system": system, "code": code}]}


CONSENT_ENDED: Final[JSON] = {
    "url": canonicals.CONSENT_STATUS_REASON_EXTENSION,
    "valueCodeableConcept": concept(canonicals.CONSENT_STATUS_REASON, "OTHER") | {"text": "Moved"},
}


def code_of(concept: JSON) -> str:
    """The code of the first coding."""
    code: str = concept["coding"][0]["code"]
    return code


def extension_of(resource: JSON, url: str) -> JSON:
    """The one extension with that URL."""
    (found,) = [item for item in resource["extension"] if item["url"] == url]
    extension: JSON = found
    return extension
