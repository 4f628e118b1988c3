"""The keyworker's visits and calls.

Encounters of class HH (at home), FLD (somewhere else) and VR (online or by telephone). R4:
https://hl7.org/fhir/R4/encounter.html.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

from fhir.resources.R4B.coding import Coding
from fhir.resources.R4B.encounter import Encounter, EncounterParticipant
from fhir.resources.R4B.period import Period

from fhir_server.caseload import pathway, service
from fhir_server.caseload.elements import TEST_DATA, at, reference, renamed, words, working_day
from fhir_server.caseload.people import YoungPerson
from fhir_server.fhir import canonicals


@dataclass(frozen=True, slots=True)
class _Visit:
    day: date
    kind: str
    place: str
    setting: str


def visits(person: YoungPerson) -> Iterator[Encounter]:
    for number, visit in enumerate(_visits(person), 1):
        yield _encounter(person, number, visit)


def _visits(person: YoungPerson) -> Iterator[_Visit]:
    """The first visit opens planning, the second is half-way through it, others follow."""
    if not person.reached(pathway.PLANNING):
        return
    place, setting = person.story.place, _setting(person.story.place)
    first = person.began(pathway.PLANNING)
    yield _Visit(first, "First visit", place, setting)
    if not person.reached(pathway.PLAN_ACTIVE):
        return
    agreed = person.began(pathway.PLAN_ACTIVE)
    yield _Visit(planning_visit_day(person), "Planning visit", place, setting)
    yield from _later_visits(person, agreed, place, setting)


def planning_visit_day(person: YoungPerson) -> date:
    first, agreed = person.began(pathway.PLANNING), person.began(pathway.PLAN_ACTIVE)
    return working_day(first + (agreed - first) / 2)


def _later_visits(person: YoungPerson, agreed: date, place: str, setting: str) -> Iterator[_Visit]:
    """Every three weeks, in hospital too; every third one is a call."""
    last = person.timeline.latest if person.slot.state == pathway.CLOSED else person.as_of
    day, count = agreed + timedelta(days=14), 1
    while day < last:
        if _on_the_ward(person, day):
            yield _Visit(working_day(day), "Visit on the ward", "On the ward", "FLD")
        elif count % 3 == 0:
            yield _Visit(working_day(day), "Call", "By video or telephone", "VR")
        else:
            yield _Visit(working_day(day), "Visit", place, setting)
        day, count = day + timedelta(days=21), count + 1


def _on_the_ward(person: YoungPerson, day: date) -> bool:
    if not person.slot.stayed:
        return False
    home = person.timeline.latest if person.slot.home_again else person.as_of
    return person.began(pathway.IN_HOSPITAL) < working_day(day) <= home


def _setting(place: str) -> str:
    home = ("At home", "At the kitchen", "In the kitchen", "In the garden")
    if place.startswith("Online"):
        return "VR"
    return "HH" if place.startswith(home) else "FLD"


def _encounter(person: YoungPerson, number: int, visit: _Visit) -> Encounter:
    hour = 10 + person.serial % 6
    return Encounter(
        id=f"{person.id}-visit-{number}",
        meta=TEST_DATA,
        status="finished",
        **renamed(class_=Coding(system=canonicals.ACT_CODE, code=visit.setting)),
        type=[words(visit.kind)],
        subject=reference(person.patient),
        episodeOfCare=[reference(f"EpisodeOfCare/{person.id}-episode")],
        participant=[EncounterParticipant(individual=reference(service.keyworker(person.serial)))],
        period=Period(start=at(visit.day, hour), end=at(visit.day, hour + 1)),
        reasonCode=[words(visit.place)],
        serviceProvider=reference(service.HOST),
    )
