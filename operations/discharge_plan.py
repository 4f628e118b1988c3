"""Patient/$discharge-plan: the plan for leaving hospital, with what is still open.

By POST it is opened for a stay that has none; by GET nothing is written.
"""

from typing import Any, Final

from fhir_server.access.session import SessionUnit
from fhir_server.errors import FhirError, Kind
from fhir_server.fhir import canonicals
from fhir_server.fhir.json import Resource
from fhir_server.fhir.references import parse_local
from fhir_server.operation.api import Call
from fhir_server.operation.records import Lookup, Records
from operations._aftercare import aftercare
from operations._person import Person, begun, code_in, status_of
from operations._plan import (
    draft_plan,
    items,
    open_items,
    plan_of,
    planned_discharge,
)
from operations._record import is_open
from operations.admission_risk import person_of

READS_BY_GET: Final = True
SCOPES = ("Patient.rs",)
"""Who opens a plan needs the scope for the CarePlan besides, as for any write."""


async def run(call: Call) -> Resource:
    person = await person_of(call)
    plan = (None if call.only_reads else await _opened(call, person)) or await _plan(person)
    checklist = items(plan)
    still_open = [item for item in open_items(plan) if item in checklist]
    found: list[dict[str, Any]] = [
        {"name": "plan", "resource": plan},
        {"name": "items", "valueInteger": len(checklist)},
        {"name": "done", "valueInteger": len(checklist) - len(still_open)},
    ]
    if date := planned_discharge(plan):
        found.append({"name": "planned-discharge", "valueDate": date})
    found.append(await aftercare(Lookup(call.session, base=call.base, now=call.now), plan))
    found += [{"name": "open", "part": _item(item)} for item in still_open]
    found += [{"name": "task", "resource": task} for task in await person.tasks() if is_open(task)]
    found += [{"name": "goal", "resource": goal} for goal in await _goals(call, plan)]
    return {"resourceType": "Parameters", "parameter": found}


async def _opened(call: Call, person: Person) -> Resource | None:
    """A new plan, where a stay goes on without one; None where there is nothing to open."""
    if await person.open_discharge_plan() is not None or not await person.open_stays():
        return None

    async def work(unit: SessionUnit) -> Resource | None:
        records = Records(unit, base=call.base, now=call.now, checker=call.checker)
        now = Person(records, person.patient, call.now)
        stays = [one for one in await now.open_stays() if await plan_of(now, one) is None]
        if not stays or await now.open_discharge_plan() is not None:
            return None
        stay = max(stays, key=begun)
        at = begun(stay) if begun(stay) > 0 else call.now
        plan = await records.create(await draft_plan(now, stay, at, right=None))
        await unit.settle()
        return await records.get("CarePlan", plan["id"]) or plan

    return await call.session.commit("discharge-plan", work)


async def _plan(person: Person) -> Resource:
    """The open one, else the last.

    Raises:
        FhirError: NOT_FOUND.
    """
    found = await person.open_discharge_plan()
    if found is not None:
        return found
    ended = await person.discharge_plans()
    if not ended:
        raise FhirError(
            Kind.NOT_FOUND,
            f"{person.reference} has no discharge plan; one is opened by an admission",
        )
    return max(ended, key=begun)


async def _goals(call: Call, plan: Resource) -> list[Resource]:
    lookup = Lookup(call.session, base=call.base, now=call.now)
    found = []
    for goal in plan.get("goal", ()):
        local = parse_local(goal.get("reference", ""), call.base)
        if local is not None and local.type == "Goal":
            found.append(await lookup.get("Goal", local.id))
    return [goal for goal in found if goal is not None]


def _item(detail: Resource) -> list[dict[str, Any]]:
    concept = detail["code"]
    code = code_in(concept, canonicals.DISCHARGE_ITEM)
    parts: list[dict[str, Any]] = [
        {"name": "code", "valueCoding": {"system": canonicals.DISCHARGE_ITEM, "code": code}},
        {"name": "status", "valueCode": status_of(detail) or "unknown"},
    ]
    if text := concept.get("text"):
        parts.append({"name": "text", "valueString": text})
    if due := detail.get("scheduledPeriod", {}).get("end"):
        parts.append({"name": "due", "valueDate": due[:10]})
    elif waits := detail.get("scheduledString"):
        parts.append({"name": "due-when", "valueString": waits})
    parts += [{"name": "owner", "valueReference": one} for one in detail.get("performer", ())[:1]]
    return parts
