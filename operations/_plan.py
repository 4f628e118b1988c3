"""The discharge plan: opened on the day of admission, with its fourteen items.

Statutory guidance of 26 January 2024 has planning begin on admission or before:
https://www.gov.uk/government/publications/discharge-from-mental-health-inpatient-settings.
"""

from collections.abc import Mapping
from datetime import date, timedelta
from itertools import chain
from typing import Final

from fhir_server.fhir import canonicals
from fhir_server.fhir.discharge import DISCHARGE_ITEMS, DischargeItem
from fhir_server.fhir.json import Resource
from fhir_server.operation.records import Records, reference_to, stable_id
from operations._aftercare import with_right
from operations._person import (
    Person,
    code_in,
    codes,
    covers,
    ended_period,
    extension,
    is_open_plan,
    local_day,
    local_time,
    status_of,
    without_end,
)
from operations._sound import PERFORMERS, is_name

_ITEMS: Final = {item.code: item for item in DISCHARGE_ITEMS}
_REVOKED: Final[Resource] = {"text": "Revoked by the service, as its stay was taken back"}
"""So that a plan is followed again which the service has revoked, and none that a person has."""
DONE: Final = ("completed", "cancelled", "entered-in-error")
_SCHEDULED: Final = ("scheduledPeriod", "scheduledString", "scheduledTiming")


def plan_id(stay: Resource) -> str:
    """Of the plan that the stay's admission opens."""
    return stable_id("discharge-plan", stay["id"])


async def open_plan(
    records: Records, person: Person, stay: Resource, admitted: int, *, right: bool | None
) -> Resource:
    """A draft of the plan for this stay, which has none; `right` as `right_to_aftercare` says."""
    plan = await draft_plan(person, stay, admitted, right=right)
    return await records.save(plan, is_sound=_is_sound(plan))


def _is_sound(plan: Resource) -> bool:
    """Whether a plan of the fourteen items takes over nothing but names from others."""
    performers = chain.from_iterable(
        activity["detail"].get("performer", ()) for activity in plan["activity"]
    )
    return (
        all(is_name(one, PERFORMERS) for one in performers)
        and all(is_name(one, {"Condition"}) for one in plan.get("addresses", ()))
        and all(is_name(one, {"Goal"}) for one in plan.get("goal", ()))
    )


async def end_plan(records: Records, plan: Resource, left: int) -> None:
    """Note when the stay ended; people complete what is left of the checklist."""
    await records.amend(_ended(plan, left))


def _ended(plan: Resource, left: int) -> Resource:
    return {**plan, "period": ended_period(plan, left)} if is_open_plan(plan) else plan


async def resume_plan(records: Records, plan: Resource) -> None:
    """The stay goes on: its plan has no end, and is worked on again where it was completed."""
    await records.amend(_resumed(plan))


def _resumed(plan: Resource) -> Resource:
    if "end" not in plan.get("period", {}):
        return plan
    again = {"status": _status_again(plan)} if status_of(plan) == "completed" else {}
    return {**without_end(plan), **again}


def _status_again(plan: Resource) -> str:
    """Active, where all had agreed to it; one that was completed all the same was a draft."""
    agreed = any(
        code_in(item.get("code"), canonicals.DISCHARGE_ITEM) == "dp-agreements"
        and status_of(item) in DONE
        for item in items(plan)
    )
    return "active" if agreed else "draft"


def follow_again(plan: Resource, left: int | None) -> Resource:
    """The plan of a stay that was, also where that was doubted; `left` is when it ended, if so."""
    if status_of(plan) == "revoked" and _REVOKED in plan.get("note", ()):
        plan = {**_without_note(plan), "status": _status_again(plan)}
    return _resumed(plan) if left is None else _ended(plan, left)


def _without_note(plan: Resource) -> Resource:
    others = [note for note in plan["note"] if note != _REVOKED]
    kept = {name: value for name, value in plan.items() if name != "note"}
    return kept | ({"note": others} if others else {})


async def revoke_plan(records: Records, plan: Resource) -> str:
    """End the plan of a stay that never was; what was done, in words."""
    noted = [*plan.get("note", ()), _REVOKED]
    await records.amend({**plan, "status": "revoked", "note": noted})
    return f"The discharge plan is revoked: {reference_to(plan)}"


async def plan_of(person: Person, stay: Resource) -> Resource | None:
    """The discharge plan of this stay."""
    return next(iter(await person.discharge_plans_of(stay)), None)


async def draft_plan(
    person: Person, stay: Resource, admitted: int, *, right: bool | None
) -> Resource:
    keyworking, team = await person.keyworking_plan_at(admitted), await person.care_team()
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
    owners = await _owners(person, team)
    plan["activity"] = [_activity(item, day, owners) for item in DISCHARGE_ITEMS]
    return with_right(plan, right=right)


async def _owners(person: Person, team: Resource | None) -> Mapping[str, Resource]:
    """Who does what, by code of `care-team-role`: those who are in the team, and the keyworker."""
    found: dict[str, Resource] = {}
    for participant in (team or {}).get("participant", ()):
        if "member" in participant and covers(participant.get("period"), person.now):
            for system, code in codes(participant.get("role", [])):
                if system == canonicals.CARE_TEAM_ROLE:
                    found.setdefault(code, participant["member"])
    manager = (await person.involvement() or {}).get("careManager")
    return found | ({"keyworker": manager} if manager else {})


def _activity(item: DischargeItem, admitted: date, owners: Mapping[str, Resource]) -> Resource:
    detail: Resource = {
        "kind": "Task",
        "code": {
            "coding": [{"system": canonicals.DISCHARGE_ITEM, "code": item.code}],
            "text": item.text,
        },
        # The plan is open from now on; that the owner agrees is still to be noted.
        "status": "in-progress" if item.code == "dp-start" else "not-started",
    }
    owner = owners.get(item.owner) or owners.get("keyworker")
    if owner:
        detail["performer"] = [owner]
    return {"detail": detail | _schedule(item, admitted, None)}


def _schedule(item: DischargeItem, admitted: date, planned: date | None) -> Resource:
    """When it is due, never before the admission."""
    if item.days < 0 and planned is None:
        return {"scheduledString": item.when}
    start = admitted if item.days >= 0 else planned or admitted
    due = max(admitted, start + timedelta(days=item.days))
    return {"scheduledPeriod": {"end": due.isoformat()}}


def redated(plan: Resource, before: Resource | None) -> Resource:
    """The plan with due dates as its admission and its planned discharge have them now.

    What is done keeps its date, and so does what somebody has dated by hand.

    Args:
        before: the plan as it was when the dates were made, None for a new one.
    """
    activities = plan.get("activity", [])
    moved = [_redated(activity, plan, before or plan) for activity in activities]
    return {**plan, "activity": moved} if moved != activities else plan


def _redated(activity: Resource, plan: Resource, before: Resource) -> Resource:
    detail = activity.get("detail", {})
    item = _ITEMS.get(code_in(detail.get("code"), canonicals.DISCHARGE_ITEM) or "")
    admitted, was_admitted = _day(_start(plan)), _day(_start(before))
    if item is None or admitted is None or status_of(detail) in DONE:
        return activity
    told = {name: detail[name] for name in _SCHEDULED if name in detail}
    ours = [{}, {"scheduledString": item.when}]
    if was_admitted is not None:
        ours.append(_schedule(item, was_admitted, _day(planned_discharge(before))))
    if told not in ours:
        return activity
    kept = {name: value for name, value in detail.items() if name not in _SCHEDULED}
    due = _schedule(item, admitted, _day(planned_discharge(plan)))
    return {**activity, "detail": {**kept, **due}}


def _start(plan: Resource) -> str | None:
    found: str | None = plan.get("period", {}).get("start")
    return found


def _day(text: str | None) -> date | None:
    """None for what is not told to the day."""
    whole = (text or "")[: len("2026-05-01")]
    return date.fromisoformat(whole) if len(whole) == len("2026-05-01") else None


def open_items(plan: Resource) -> list[Resource]:
    """Details of the activities that are not done."""
    details = (activity.get("detail") for activity in plan.get("activity", ()))
    return [detail for detail in details if detail and status_of(detail) not in DONE]


def items(plan: Resource) -> list[Resource]:
    """Details of the activities that are items of the checklist."""
    details = (activity.get("detail", {}) for activity in plan.get("activity", ()))
    return [detail for detail in details if code_in(detail.get("code"), canonicals.DISCHARGE_ITEM)]


def ready_day(plan: Resource) -> date | None:
    """The day since which the young person is ready to leave."""
    found = extension(plan, canonicals.CLINICALLY_READY_EXTENSION) or {}
    return _day(found.get("valueDate"))


def delay_reasons(plan: Resource) -> list[Resource]:
    """Why somebody is in hospital still who is ready to leave: CodeableConcepts."""
    return [
        item["valueCodeableConcept"]
        for item in plan.get("extension", ())
        if item.get("url") == canonicals.DELAY_REASON_EXTENSION and "valueCodeableConcept" in item
    ]


def planned_discharge(plan: Resource) -> str | None:
    found = extension(plan, canonicals.PLANNED_DISCHARGE_EXTENSION)
    return None if found is None else found.get("valueDate")
