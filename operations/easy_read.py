"""CarePlan/$easy-read: the plan in plain words, for the young person and the family.

As a page (`text/html`) or as a FHIR document. It holds what the caller may read and no more.
"""

from collections.abc import Iterable
from typing import Any

from fhir_server.errors import FhirError, Kind
from fhir_server.fhir.json import Resource
from fhir_server.fhir.references import parse_local
from fhir_server.operation.api import Call, Written
from fhir_server.operation.records import Lookup, reference_to
from operations._easy_form import HTML, document, page
from operations._easy_read import Material, names_of, sections, title_of
from operations._person import status_of

MEDIA = (HTML,)
SCOPES = tuple(f"{name}.rs" for name in ("CarePlan", "Patient", "Goal", "CareTeam", "Task"))


async def run(call: Call) -> Resource | Written:
    material = await _material(call)
    parts, title = sections(material), title_of(material.plan)
    if call.media == HTML:
        return page(title, parts)
    return document(title, parts, material.plan, material.patient, call.now, call.base)


async def _material(call: Call) -> Material:
    """What is to be read.

    Raises:
        FhirError: NOT_FOUND; BUSINESS_RULE for a plan that never was, or is about nobody here.
    """
    lookup = Lookup(call.session, base=call.base, now=call.now)
    plan = await lookup.get("CarePlan", call.id)
    if plan is None:
        raise FhirError(Kind.NOT_FOUND, f"CarePlan/{call.id} is not known")
    if status_of(plan) == "entered-in-error":
        raise FhirError.at(
            Kind.BUSINESS_RULE, "CarePlan.status", "The plan was entered in error: there is none"
        )
    whose = _ids(call, [plan["subject"]], "Patient")
    patient = await lookup.get("Patient", whose[0]) if whose else None
    if patient is None:
        text = "The plan is about nobody whose record is here"
        raise FhirError.at(Kind.BUSINESS_RULE, "CarePlan.subject", text)
    team = await _all(call, lookup, "CareTeam", plan.get("careTeam", ()))
    return Material(
        plan,
        patient,
        await _all(call, lookup, "Goal", plan.get("goal", ())),
        team,
        await _people(call, lookup, team),
        await lookup.find("Task", f"patient={reference_to(patient)}&status:not=completed"),
        call.now,
    )


def _ids(call: Call, references: Iterable[Resource], resource_type: str) -> list[str]:
    found = (parse_local(one.get("reference", ""), call.base) for one in references)
    named = (one.id for one in found if one is not None and one.type == resource_type)
    return list(dict.fromkeys(named))


async def _all(
    call: Call, lookup: Lookup, resource_type: str, references: Iterable[Any]
) -> list[Resource]:
    """Those that the references lead to, in their order; one question for all."""
    wanted = _ids(call, references, resource_type)
    if not wanted:
        return []
    found = {one["id"]: one for one in await lookup.find(resource_type, f"_id={','.join(wanted)}")}
    return [found[one] for one in wanted if one in found]


async def _people(call: Call, lookup: Lookup, teams: list[Resource]) -> dict[str, str]:
    members = [one.get("member", {}) for team in teams for one in team.get("participant", ())]
    roles = await _all(call, lookup, "PractitionerRole", members)
    holders = [role.get("practitioner", {}) for role in roles]
    people: list[Resource] = []
    for name in ("Practitioner", "RelatedPerson", "Organization"):
        people += await _all(call, lookup, name, [*members, *holders])
    return names_of(people, roles)
