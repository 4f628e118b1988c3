"""What the records say when an involvement is to move on: gathered once, then judged."""

from collections.abc import Sequence
from dataclasses import dataclass

from fhir_server.fhir import canonicals
from fhir_server.fhir.json import Resource
from fhir_server.fhir.references import parse_relative
from fhir_server.operation.pathway import Pathway
from fhir_server.operation.records import Lookup
from operations._leaving import left_for_hospital
from operations._person import (
    Person,
    colour_of,
    extension,
    is_inpatient,
    refers,
    since,
    status_of,
)

_VISIT_CLASSES = ("HH", "FLD", "VR")
"""At home, somewhere else, online or by telephone."""


@dataclass(frozen=True, slots=True)
class Case:
    """One young person's, at one moment."""

    now: int
    """Microseconds since the epoch."""
    pathway: Pathway
    colour: str | None = None
    """Of the active rating."""
    held_until: str = ""
    """The day before which that is not lowered; '' where nothing holds it."""
    left: int | None = None
    """When the last stay in hospital ended, None where there was none."""
    open_stays: Sequence[Resource] = ()
    consents: Sequence[Resource] = ()
    """Those to keyworking that count now."""
    consent_ended: bool = False
    """It was withdrawn or refused, and none counts now."""
    visits: Sequence[Resource] = ()
    """Of keyworking, whatever has become of them."""
    plan: Resource | None = None
    """The keyworking plan that is not over."""
    plan_goals: Sequence[Resource] = ()
    """That it refers to."""
    discharge_plans: Sequence[Resource] = ()
    goals: Sequence[Resource] = ()
    tasks: Sequence[Resource] = ()
    referrals: Sequence[Resource] = ()
    """That the involvement refers to."""


async def case_of(records: Lookup, person: Person, episode: Resource, pathway: Pathway) -> Case:
    """As the records are now."""
    rating = next(iter(await person.active_ratings()), None)
    plan = await person.keyworking_plan()
    goals = await person.goals()
    return Case(
        person.now,
        pathway,
        None if rating is None else colour_of(rating),
        _floor(rating or {}),
        await _left(person),
        await person.open_stays(),
        await person.consents_in_force("keyworking"),
        await person.consent_ended("keyworking"),
        await _visits(person, episode),
        plan,
        [goal for goal in goals if _names(plan, goal)],
        await person.discharge_plans(),
        goals,
        await person.tasks(),
        await _referrals(records, episode),
    )


def _floor(rating: Resource) -> str:
    found = extension(rating, canonicals.MINIMUM_UNTIL_EXTENSION) or {}
    return str(found.get("valueDate", ""))


async def _left(person: Person) -> int | None:
    """A transfer is no discharge: the young person is in hospital still."""
    ends = [
        since(stay.get("period", {}).get("end"))
        for stay in await person.stays()
        if status_of(stay) == "finished" and not left_for_hospital(stay)
    ]
    return max(ends, default=None)


async def _visits(person: Person, episode: Resource) -> list[Resource]:
    """Keyworking visits since the involvement began: by their class, or as they name it."""
    began = since(episode.get("period", {}).get("start"))
    return [
        visit
        for visit in await person.encounters()
        if _is_visit(visit, episode) and since(visit.get("period", {}).get("start")) >= began
    ]


def _is_visit(encounter: Resource, episode: Resource) -> bool:
    code = encounter["class"].get("code")
    named = any(refers(one, episode) for one in encounter.get("episodeOfCare", ()))
    return not is_inpatient(encounter) and (code in _VISIT_CLASSES or named)


def _names(plan: Resource | None, goal: Resource) -> bool:
    return any(refers(one, goal) for one in (plan or {}).get("goal", ()))


async def _referrals(records: Lookup, episode: Resource) -> list[Resource]:
    found = []
    for link in episode.get("referralRequest", ()):
        local = parse_relative(link.get("reference", ""))
        there = await records.get(local.type, local.id) if local else None
        if there is not None and there["resourceType"] == "ServiceRequest":
            found.append(there)
    return found
