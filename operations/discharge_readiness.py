"""CarePlan/$discharge-readiness: how far a discharge plan is, and what stands against leaving."""

from datetime import date
from decimal import Decimal
from typing import Any

from fhir_server.errors import FhirError, Kind
from fhir_server.fhir import canonicals
from fhir_server.fhir.json import Resource
from fhir_server.fhir.references import parse_relative
from fhir_server.operation.api import Call
from fhir_server.operation.records import Lookup
from operations._aftercare import aftercare
from operations._calendar import working_days_after
from operations._checklist import Item, Readiness, readiness, today_of
from operations._person import Person, has_code, local_day
from operations._plan import delay_reasons, planned_discharge, ready_day

SCOPES = ("CarePlan.r", "Patient.r")


async def run(call: Call) -> Resource:
    lookup = Lookup(call.session, base=call.base, now=call.now)
    plan = await plan_in(lookup, call)
    person = await person_in(lookup, plan, call.now)
    found = await readiness(lookup, person, plan)
    right = await aftercare(lookup, plan)
    parameters = [*_shares(found), *_dates(call, person, plan, right)]
    parameters += [
        {"name": "blocker", "part": _blocker(item, today_of(person))} for item in found.blockers
    ]
    return {"resourceType": "Parameters", "parameter": parameters}


async def plan_in(lookup: Lookup, call: Call) -> Resource:
    """The discharge plan that the call is about.

    Raises:
        FhirError: NOT_FOUND; BUSINESS_RULE for a plan of another kind.
    """
    plan = await lookup.get("CarePlan", call.id)
    if plan is None:
        raise FhirError(Kind.NOT_FOUND, f"CarePlan/{call.id} is not known")
    if not has_code(plan.get("category"), canonicals.CARE_PLAN_CATEGORY, "discharge-plan"):
        text = "This is no discharge plan: its category has not the code discharge-plan"
        raise FhirError.at(Kind.BUSINESS_RULE, "CarePlan.category", text)
    return plan


async def person_in(lookup: Lookup, plan: Resource, now: int) -> Person:
    """Whose plan it is.

    Raises:
        FhirError: BUSINESS_RULE where nobody is known whose it is.
    """
    local = parse_relative(plan.get("subject", {}).get("reference", ""))
    patient = None if local is None else await lookup.get("Patient", local.id)
    if patient is None:
        text = "The plan is about nobody who is known here"
        raise FhirError.at(Kind.BUSINESS_RULE, "CarePlan.subject", text)
    return Person(lookup, patient, now)


def _shares(found: Readiness) -> list[dict[str, Any]]:
    count = len(found.items)
    share = Decimal(100 * found.done) / count if count else Decimal(100)
    return [
        {"name": "ready", "valueBoolean": not found.blockers},
        {"name": "mandatory", "valueInteger": count},
        {"name": "done", "valueInteger": found.done},
        {"name": "share", "valueDecimal": share.quantize(Decimal("0.1"))},
    ]


def _dates(call: Call, person: Person, plan: Resource, right: Resource) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = []
    if planned := planned_discharge(plan):
        told.append({"name": "planned-discharge", "valueDate": planned})
    told.append(right)
    if ready := ready_day(plan):
        told += _waiting(call, person, plan, ready)
    return told


def _waiting(call: Call, person: Person, plan: Resource, ready: date) -> list[dict[str, Any]]:
    """Since when somebody is ready to leave, for how many days, and why they are there still."""
    end = plan.get("period", {}).get("end", "")[:10]
    until = date.fromisoformat(end) if len(end) == len("2026-05-01") else local_day(person.now)
    reasons = delay_reasons(plan)
    told: list[dict[str, Any]] = [
        {"name": "clinically-ready", "valueDate": ready.isoformat()},
        {"name": "days-ready", "valueInteger": max(0, (until - ready).days)},
        *({"name": "delay-reason", "valueCodeableConcept": one} for one in reasons),
    ]
    if not reasons and not end:
        due = working_days_after(ready, call.pathway.delay_reason_days)
        told.append({"name": "delay-reason-due", "valueDate": due.isoformat()})
    return told


def _blocker(item: Item, today: str) -> list[dict[str, Any]]:
    code = {"system": canonicals.DISCHARGE_ITEM, "code": item.code}
    parts: list[dict[str, Any]] = [
        {"name": "code", "valueCoding": code},
        {"name": "text", "valueString": item.text},
        {"name": "overdue", "valueBoolean": item.is_overdue(today)},
    ]
    if item.status:
        parts.append({"name": "status", "valueCode": item.status})
    if item.why:
        parts.append({"name": "why", "valueString": item.why})
    if item.owner:
        parts.append({"name": "owner", "valueReference": item.owner})
    if item.due:
        parts.append({"name": "due", "valueDate": item.due})
    elif item.due_when:
        parts.append({"name": "due-when", "valueString": item.due_when})
    return parts
