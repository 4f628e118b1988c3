"""A store for the bench of access control: many small records, and who may see which of them.

One keyworker has 20 of them, one inpatient unit 10, and a signatory of the register sees the
colour of all. Each is written as a session writes, so that what decides is kept beside it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from fhir_server.access.caller import ANONYMOUS
from fhir_server.access.facts import remaking
from fhir_server.access.policy import OpenPolicy
from fhir_server.access.session import Session, SessionUnit
from fhir_server.fhir import canonicals
from fhir_server.storage.sqlite.store import SqliteStore

KEYWORKER: Final = "Practitioner/kw-0"
UNIT: Final = "RXW01"
SIGNATORY: Final = "QWO"
_EACH: Final = 20
"""Patients of one keyworker."""
_IN_HOSPITAL: Final = 10
_A_COMMIT: Final = 50
"""Patients."""
_PERIOD: Final = {"start": "2026-01-05", "end": "2099-12-31"}


def of_keyworker(who: int) -> range:
    """The numbers of the patients of the keyworker `Practitioner/kw-{who}`."""
    return range(who * _EACH, (who + 1) * _EACH)


async def build(path: Path, patients: int) -> None:
    """Fill a new store."""
    store = SqliteStore(path)
    try:
        await remaking.ensure(store)
        session = Session(store, ANONYMOUS, OpenPolicy())
        for first in range(0, patients, _A_COMMIT):
            await session.commit("bench", _writes(range(first, min(first + _A_COMMIT, patients))))
    finally:
        await store.close()


def _writes(numbers: range) -> Any:
    async def work(unit: SessionUnit) -> None:
        for number in numbers:
            for resource in _records(number):
                await unit.put(resource, "PUT")

    return work


def _records(number: int) -> Iterator[dict[str, Any]]:
    """A Patient with all that decides about access, and what is read."""
    own = f"p{number}"
    about = {"reference": f"Patient/{own}"}
    yield _patient(own)
    yield {
        "resourceType": "EpisodeOfCare",
        "id": f"e{number}",
        "status": "active",
        "type": [_coded(canonicals.EPISODE_TYPE, "keyworking")],
        "patient": about,
        "period": {"start": "2026-01-05"},
        "careManager": {"reference": f"Practitioner/kw-{number // _EACH}"},
    }
    for category in ("keyworking", "register"):
        yield _consent(f"{category}-{number}", category, about)
    yield _rating(number, about)
    for part in range(2):
        yield _plan(f"c{number}-{part}", about)
        yield _task(f"t{number}-{part}", about)
    if number < _IN_HOSPITAL:
        yield _stay(number, about)


def _patient(own: str) -> dict[str, Any]:
    return {
        "resourceType": "Patient",
        "id": own,
        "name": [{"family": "Test", "given": [f"Young {own}"]}],
        "gender": "female",
        "birthDate": "2009-05-04",
        "address": [{"city": "Leeds", "postalCode": "LS1 4AP"}],
    }


def _consent(own: str, category: str, about: dict[str, str]) -> dict[str, Any]:
    competence = [
        {"url": "outcome", "valueCode": "capacity-presumed"},
        {"url": "assessedBy", "valueReference": {"reference": "Practitioner/assessor"}},
        {"url": "date", "valueDate": "2026-01-05"},
    ]
    return {
        "resourceType": "Consent",
        "id": own,
        "extension": [{"url": canonicals.COMPETENCE_EXTENSION, "extension": competence}],
        "status": "active",
        "scope": _coded(canonicals.CONSENT_SCOPE, "patient-privacy"),
        "category": [
            _coded(canonicals.ACT_CODE, "INFA"),
            _coded(canonicals.CONSENT_CATEGORY, category),
        ],
        "patient": about,
        "dateTime": "2026-01-05",
        "performer": [about],
        "policyRule": _coded(canonicals.NHS_PROXY_LEGAL_BASIS, "consent"),
        "sourceAttachment": {"title": "Minutes"},
        "provision": {"type": "permit", "period": _PERIOD},
    }


def _rating(number: int, about: dict[str, str]) -> dict[str, Any]:
    colours = ("red", "amber", "green", "blue")
    return {
        "resourceType": "Flag",
        "id": f"f{number}",
        "status": "active",
        "category": [_coded(canonicals.FLAG_CATEGORY, "dsr")],
        "code": _coded(canonicals.DSR_RATING, colours[number % len(colours)]),
        "subject": about,
        "period": {"start": "2026-01-05"},
    }


def _plan(own: str, about: dict[str, str]) -> dict[str, Any]:
    words = "Sees the same person each week, and somebody answers when it is too much"
    return {
        "resourceType": "CarePlan",
        "id": own,
        "status": "active",
        "intent": "plan",
        "category": [_coded(canonicals.CARE_PLAN_CATEGORY, "keyworking-plan")],
        "title": "Keyworking plan",
        "description": words,
        "subject": about,
        "period": {"start": "2026-01-12"},
        "activity": [
            {"detail": {"status": "in-progress", "description": f"{words} ({number})"}}
            for number in range(8)
        ],
    }


def _task(own: str, about: dict[str, str]) -> dict[str, Any]:
    return {
        "resourceType": "Task",
        "id": own,
        "status": "requested",
        "intent": "order",
        "description": "Ask the school for its report",
        "for": about,
    }


def _stay(number: int, about: dict[str, str]) -> dict[str, Any]:
    whose = {"identifier": {"system": canonicals.ODS_ORGANIZATION, "value": UNIT}}
    return {
        "resourceType": "Encounter",
        "id": f"s{number}",
        "status": "in-progress",
        "class": {"system": canonicals.ACT_CODE, "code": "IMP"},
        "subject": about,
        "serviceProvider": whose,
        "period": {"start": "2026-11-01T10:00:00Z"},
    }


def _coded(system: str, code: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code}]}
