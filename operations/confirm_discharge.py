"""CarePlan/$confirm-discharge: the young person has left hospital; the plan is completed.

The stay is ended as by the event of a discharge, so all that follows from one follows.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from fhir_server.access.session import SessionUnit
from fhir_server.errors import FhirError, Issue, Kind
from fhir_server.fhir import canonicals
from fhir_server.fhir.dates import interval
from fhir_server.fhir.json import Resource
from fhir_server.fhir.references import parse_relative
from fhir_server.operation.api import Call
from fhir_server.operation.records import Lookup, Records, reference_to
from operations._appraising import as_service, reason_of
from operations._checklist import Item, readiness, today_of
from operations._leaving import DESTINATION_DIED, KNOWN_DESTINATIONS, METHOD_DIED
from operations._person import (
    OPEN_STAY,
    Person,
    begun,
    extension,
    is_open_plan,
    local_day,
    local_time,
    status_of,
    with_extension,
)
from operations.discharge_readiness import person_in, plan_in

SCOPES = ("CarePlan.ru", "Patient.r")
AS_SERVICE: Final = "ends the stay of a discharge plan that the caller may complete"
_METHODS: Final = ("1", "3", "4", "5", "6", "7", "8", "9")
"""https://www.datadictionary.nhs.uk/attributes/discharge_method_code__hospital_provider_spell_.html"""
_ON_ADVICE: Final = "1"
_PLACE: Final = "Parameters.parameter.where(name='{}')"


@dataclass(frozen=True, slots=True)
class _Leaving:
    """What is told of the discharge."""

    end: str
    destination: str
    method: str
    reason: str
    """Why it is confirmed though something is open; '' where it is not to be."""


async def run(call: Call) -> Resource:
    leaving = _leaving(call)

    async def work(unit: SessionUnit) -> Resource:
        records = Records(unit, base=call.base, now=call.now, checker=call.checker)
        plan = await plan_in(records, call)
        person = await person_in(records, plan, call.now)
        stay = await _stay(call, unit, plan)
        _require_open(plan, stay, leaving)
        open_items = (await readiness(records, person, plan)).blockers
        if open_items and not leaving.reason:
            raise FhirError.of(Kind.BUSINESS_RULE, _blocked(open_items, today_of(person)))
        await records.save(await _completed(person, plan, stay, leaving, open_items))
        if status_of(stay) != "finished":
            await as_service(call, unit).save(_ended(stay, leaving))
        return await _answer(records, plan, stay, await unit.settle())

    return await call.session.commit("confirm-discharge", work)


def _leaving(call: Call) -> _Leaving:
    """Raises: FhirError INVALID."""
    told = str(call.parameters.one("date") or local_time(call.now))
    if len(told) < len("2026-05-01"):
        text = f"'{told}' is no day; what is due after a discharge is reckoned from its day"
        raise FhirError.at(Kind.INVALID, _PLACE.format("date"), text)
    if interval(told).low > call.now:
        text = f"{told} is in the future; a discharge is confirmed once it has taken place"
        raise FhirError.at(Kind.INVALID, _PLACE.format("date"), text)
    destination = _one_of(call, "destination", KNOWN_DESTINATIONS)
    method = METHOD_DIED if destination == DESTINATION_DIED else _ON_ADVICE
    if call.parameters.one("method"):
        method = _one_of(call, "method", _METHODS)
    if told == local_day(call.now).isoformat():
        told = local_time(call.now)
    reason = reason_of(call, "reason") if call.parameters.one("override") else ""
    return _Leaving(told, destination, method, reason)


def _one_of(call: Call, name: str, allowed: Any) -> str:
    code = str(call.parameters.one(name))
    if code not in allowed:
        text = f"'{code}' is no {name}; {', '.join(sorted(allowed))} are allowed"
        raise FhirError.at(Kind.INVALID, _PLACE.format(name), text)
    return code


async def _stay(call: Call, unit: SessionUnit, plan: Resource) -> Resource:
    lookup = Lookup(unit, base=call.base, now=call.now)
    local = parse_relative(plan.get("encounter", {}).get("reference", ""))
    stay = None if local is None else await lookup.get("Encounter", local.id)
    if stay is None:
        text = "The stay that the plan is for is not known"
        raise FhirError.at(Kind.BUSINESS_RULE, "CarePlan.encounter", text)
    return stay


def _require_open(plan: Resource, stay: Resource, leaving: _Leaving) -> None:
    """Raise for what cannot be confirmed, whoever overrides what."""
    issues = []
    if not is_open_plan(plan):
        text = f"The plan is {status_of(plan)} already"
        issues.append(Issue(text, "CarePlan.status"))
    if status_of(stay) not in (*OPEN_STAY, "finished"):
        text = f"{reference_to(stay)} is {status_of(stay)}; a stay that goes on is needed"
        issues.append(Issue(text, "Encounter.status"))
    if interval(leaving.end).high <= begun(stay):
        text = f"The stay began on {stay['period']['start']}, after that day"
        issues.append(Issue(text, _PLACE.format("date")))
    known = stay.get("period", {}).get("end", "")
    if status_of(stay) == "finished" and known and known[:10] != leaving.end[:10]:
        text = f"The stay ended on {known[:10]}, as is known already"
        issues.append(Issue(text, _PLACE.format("date")))
    if issues:
        raise FhirError.of(Kind.BUSINESS_RULE, issues)


def _blocked(items: list[Item], today: str) -> Iterator[Issue]:
    for item in items:
        due = f", due {item.due}" if item.due else ""
        late = ", overdue" if item.is_overdue(today) else ""
        whose = (item.owner or {}).get("reference") or (item.owner or {}).get("display")
        owner = f", of {whose}" if whose else ""
        why = f". {item.why}" if item.why else ""
        yield Issue(f"{item.code} is open: {item.text}{due}{late}{owner}{why}", item.place)


async def _completed(
    person: Person, plan: Resource, stay: Resource, leaving: _Leaving, left: list[Item]
) -> Resource:
    end = stay.get("period", {}).get("end") or leaving.end
    done = {**plan, "status": "completed", "period": {**plan["period"], "end": end[:10]}}
    team = await person.care_team()
    if "careTeam" not in done and team is not None:
        done["careTeam"] = [{"reference": reference_to(team)}]
    if left:
        codes = ", ".join(item.code for item in left)
        text = f"Discharged with {codes} open: {leaving.reason}"
        note = {"time": local_time(person.now), "text": text}
        done["note"] = [*plan.get("note", ()), note]
    return done


def _ended(stay: Resource, leaving: _Leaving) -> Resource:
    destination = {
        "coding": [{"system": canonicals.DISCHARGE_DESTINATION, "code": leaving.destination}]
    }
    ended = {
        **stay,
        "status": "finished",
        "period": {**stay.get("period", {}), "end": leaving.end},
        "hospitalization": {
            **stay.get("hospitalization", {}),
            "dischargeDisposition": destination,
        },
    }
    if extension(stay, canonicals.DISCHARGE_METHOD_EXTENSION) is not None:
        return ended
    method = {"coding": [{"system": canonicals.DISCHARGE_METHOD, "code": leaving.method}]}
    value = {"url": canonicals.DISCHARGE_METHOD_EXTENSION, "valueCodeableConcept": method}
    return with_extension(ended, value)


async def _answer(records: Records, plan: Resource, stay: Resource, said: list[str]) -> Resource:
    found: list[dict[str, Any]] = [
        {"name": "plan", "resource": await records.get("CarePlan", plan["id"]) or plan},
        {"name": "encounter", "resource": await records.get("Encounter", stay["id"]) or stay},
        *({"name": "followed", "valueString": text} for text in said),
    ]
    return {"resourceType": "Parameters", "parameter": found}
