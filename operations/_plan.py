"""The discharge plan: opened on the day of admission, with its fourteen items.

Statutory guidance of 26 January 2024 has planning begin on admission or before:
https://www.gov.uk/government/publications/discharge-from-mental-health-inpatient-settings.
"""

from datetime import date, timedelta
from typing import Final

from fhir_server.fhir import canonicals
from fhir_server.fhir.discharge import DISCHARGE_ITEMS, DischargeItem
from fhir_server.fhir.json import Resource
from fhir_server.operation.records import Records, reference_to, stable_id
from operations._person import (
    Person,
    code_in,
    codes,
    extension,
    is_open_plan,
    local_day,
    local_time,
    refers,
    status_of,
    with_extension,
)

_AFTERCARE_STATUSES: Final = frozenset({"03", "09", "10", "15", "16", "17", "18", "37", "38"})
"""Legal statuses after which section 117 of the Mental Health Act gives a right to aftercare:
detention under sections 3, 37, 45A, 47 and 48 in the codes of UK Core."""
_LEGAL_STATUSES: Final = _AFTERCARE_STATUSES | {
    *("01", "02", "04", "05", "06", "07", "08", "12", "13", "14", "19", "20"),
    *("31", "32", "35", "36", "98", "99"),
}
"""All of UK Core's."""

_DONE: Final = ("completed", "cancelled", "entered-in-error")


def plan_id(stay: Resource) -> str:
    """Of the plan that the stay's admission opens."""
    return stable_id("discharge-plan", stay["id"])


async def open_plan(records: Records, person: Person, stay: Resource, admitted: int) -> Resource:
    """A draft of the plan for this stay, which has none."""
    return await records.save(await _draft(person, stay, admitted))


async def note_aftercare(records: Records, plan: Resource, stay: Resource) -> bool:
    """Note on the stay's plan a right to aftercare that has come up since; whether it has.

    It stays, whatever the legal status becomes: what counts is any time during the stay.
    """
    known = extension(plan, canonicals.SECTION_117_EXTENSION) or {}
    if known.get("valueBoolean") is True or not _gives_aftercare(stay):
        return False
    await records.save(with_extension(plan, _section_117(stay)))
    return True


async def end_plan(records: Records, plan: Resource, left: int) -> None:
    """Note when the stay ended; people complete what is left of the checklist."""
    if is_open_plan(plan):
        period = {**plan.get("period", {}), "end": local_day(left).isoformat()}
        await records.save({**plan, "period": period})


async def revoke_plan(records: Records, plan: Resource) -> str:
    """End the plan of a stay that never was; what was done, in words."""
    await records.save({**plan, "status": "revoked"})
    return f"The discharge plan is revoked: {reference_to(plan)}"


async def plan_of(person: Person, stay: Resource) -> Resource | None:
    """The discharge plan of this stay."""
    for plan in await person.discharge_plans():
        if refers(plan.get("encounter"), stay):
            return plan
    return None


async def _draft(person: Person, stay: Resource, admitted: int) -> Resource:
    keyworking, team = await person.keyworking_plan(), await person.care_team()
    day = local_day(admitted)
    plan: Resource = {
        "resourceType": "CarePlan",
        "id": plan_id(stay),
        "status": "draft",
        "intent": "plan",
        "category": [
            {"coding": [{"system": canonicals.CARE_PLAN_CATEGORY, "code": "discharge-plan"}]}
        ],
        "title": "Discharge plan",
        "subject": {"reference": person.reference},
        "encounter": {"reference": reference_to(stay)},
        "period": {"start": day.isoformat()},
        "created": local_time(person.now),
    }
    if keyworking is not None:
        plan["partOf"] = [{"reference": reference_to(keyworking)}]
        plan |= {name: keyworking[name] for name in ("addresses", "goal") if name in keyworking}
    if team is not None:
        plan["careTeam"] = [{"reference": reference_to(team)}]
    plan["activity"] = [_activity(item, day) for item in DISCHARGE_ITEMS]
    return plan if unclear_status(stay) else with_extension(plan, _section_117(stay))


def _activity(item: DischargeItem, admitted: date) -> Resource:
    detail: Resource = {
        "kind": "Task",
        "code": {
            "coding": [{"system": canonicals.DISCHARGE_ITEM, "code": item.code}],
            "text": item.text,
        },
        # The plan is open from now on; its owner is still to be named.
        "status": "in-progress" if item.code == "dp-start" else "not-started",
    }
    if item.days >= 0:
        due = admitted + timedelta(days=item.days)
        detail["scheduledPeriod"] = {"end": due.isoformat()}
    else:
        detail["scheduledString"] = item.when
    return {"detail": detail}


def _section_117(stay: Resource) -> Resource:
    return {
        "url": canonicals.SECTION_117_EXTENSION,
        "valueBoolean": _gives_aftercare(stay),
    }


def _gives_aftercare(stay: Resource) -> bool:
    return any(status in _AFTERCARE_STATUSES for status in _legal_statuses(stay))


def unclear_status(stay: Resource) -> str | None:
    """A legal status that is none, while no other gives a right to aftercare."""
    unknown = [one for one in _legal_statuses(stay) if one not in _LEGAL_STATUSES]
    return unknown[0] if unknown and not _gives_aftercare(stay) else None


def _legal_statuses(stay: Resource) -> list[str]:
    return [
        code
        for outer in stay.get("extension", ())
        if outer.get("url") == canonicals.LEGAL_STATUS_EXTENSION
        for inner in outer.get("extension", ())
        if inner.get("url") == "legalStatusClassification"
        for _, code in codes(inner.get("valueCodeableConcept"))
    ]


def open_items(plan: Resource) -> list[Resource]:
    """Details of the activities that are not done."""
    details = (activity.get("detail") for activity in plan.get("activity", ()))
    return [detail for detail in details if detail and status_of(detail) not in _DONE]


def items(plan: Resource) -> list[Resource]:
    """Details of the activities that are items of the checklist."""
    details = (activity.get("detail", {}) for activity in plan.get("activity", ()))
    return [detail for detail in details if code_in(detail.get("code"), canonicals.DISCHARGE_ITEM)]


def planned_discharge(plan: Resource) -> str | None:
    found = extension(plan, canonicals.PLANNED_DISCHARGE_EXTENSION)
    return None if found is None else found.get("valueDate")
