"""Patient/$discharge-plan: the plan for leaving hospital, with what is still open."""

from typing import Any

from fhir_server.errors import FhirError, Kind
from fhir_server.fhir import canonicals
from fhir_server.fhir.json import Resource
from fhir_server.fhir.references import parse_local
from fhir_server.operation.api import Call
from fhir_server.operation.records import Lookup
from operations._person import Person, begun, code_in, status_of
from operations._plan import items, open_items, planned_discharge
from operations._record import is_open
from operations.admission_risk import person_of


async def run(call: Call) -> Resource:
    person = await person_of(call)
    plan = await _plan(person)
    checklist = items(plan)
    still_open = [item for item in open_items(plan) if item in checklist]
    found: list[dict[str, Any]] = [
        {"name": "plan", "resource": plan},
        {"name": "items", "valueInteger": len(checklist)},
        {"name": "done", "valueInteger": len(checklist) - len(still_open)},
    ]
    if date := planned_discharge(plan):
        found.append({"name": "planned-discharge", "valueDate": date})
    found += [{"name": "open", "part": _item(item)} for item in still_open]
    found += [{"name": "task", "resource": task} for task in await person.tasks() if is_open(task)]
    found += [{"name": "goal", "resource": goal} for goal in await _goals(call, plan)]
    return {"resourceType": "Parameters", "parameter": found}


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
    return parts
