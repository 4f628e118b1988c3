"""The synthetic caseload: an invented keyworking service and its young people.

`generate` is the whole of it. Everything is drawn from a seed and relative to a date, nothing is
taken from a real record. Everybody's family name begins with `Synthetic-`, NHS numbers are of the
999 range, and each resource carries the HTEST tag.
"""

from collections.abc import Iterator
from datetime import date
from itertools import chain
from typing import Any

from fhir.resources.R4B.domainresource import DomainResource

from fhir_server.caseload.consents import consents
from fhir_server.caseload.elements import transaction
from fhir_server.caseload.hospital import hospital
from fhir_server.caseload.involvement import involvement
from fhir_server.caseload.marker import marker
from fhir_server.caseload.people import YoungPerson, deal_stories, young_person
from fhir_server.caseload.person import person_resources
from fhir_server.caseload.plans import plans
from fhir_server.caseload.ratings import answers, flags
from fhir_server.caseload.service import the_service
from fhir_server.caseload.visits import visits
from fhir_server.caseload.work import tasks

__all__ = ["everything_about", "generate"]


def generate(seed: int, as_of: date, young_people: int = 30) -> Iterator[dict[str, Any]]:
    """Transaction Bundles: the service, one to each young person, and last the marker.

    Load them in this order: a reference points only to what came before or stands beside it.
    The first eleven young people are in one state each; thirty make a whole service with two
    in hospital, and more go round again.
    """
    if young_people < 1:
        raise ValueError(f"A caseload has at least one young person, not {young_people}")
    yield transaction(the_service())
    people = [*_people(seed, as_of, young_people)]
    for person in people:
        yield transaction(everything_about(person))
    yield transaction([marker(seed, as_of, people)])


def _people(seed: int, as_of: date, young_people: int) -> Iterator[YoungPerson]:
    stories = deal_stories(seed)
    for serial in range(1, young_people + 1):
        yield young_person(seed, as_of, serial, stories[(serial - 1) % len(stories)])


def everything_about(person: YoungPerson) -> Iterator[DomainResource]:
    """The resources of one record, in an order that needs no reference to what comes later."""
    return chain(
        person_resources(person),
        consents(person),
        [answers(person)],
        flags(person),
        involvement(person),
        plans(person),
        hospital(person),
        visits(person),
        tasks(person),
    )
