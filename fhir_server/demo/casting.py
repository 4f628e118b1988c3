"""Whom the story is about: somebody of the synthetic caseload who is at home, with a plan.

Each run may take another young person; an earlier run's has just been discharged and waits for
longer. Nobody who is not marked as test data is ever taken.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from fhir_server.demo.conversation import CannotPlay, Conversation, Exchange
from fhir_server.demo.readings import today
from fhir_server.fhir import canonicals
from fhir_server.fhir.json import Resource
from fhir_server.story import goes_to_hospital

_MARKER: Final = "Provenance/kw-synthetic-caseload"
_TEST_DATA: Final = f"{canonicals.ACT_REASON}|HTEST"
_HOW: Final = "Start one with `make run`, or `keyworking serve --auth none --synthetic-caseload`"


@dataclass(frozen=True, slots=True)
class YoungPerson:
    """The one whom the story follows."""

    patient: Resource
    plan: Resource
    colour: str

    @property
    def id(self) -> str:
        return str(self.patient["id"])

    @property
    def reference(self) -> str:
        return f"Patient/{self.id}"

    @property
    def name(self) -> str:
        """The given name."""
        return str(self.patient["name"][0]["given"][0])

    @property
    def nhs_number(self) -> str:
        return next(
            str(identifier["value"])
            for identifier in self.patient["identifier"]
            if identifier.get("system") == canonicals.NHS_NUMBER
        )


def require_caseload(server: Conversation) -> None:
    """Raise unless this is a FHIR server with the synthetic caseload.

    Raises:
        CannotPlay: saying what is missing, and how to have it.
    """
    try:
        stated = server.get("metadata")
    except CannotPlay as error:
        raise CannotPlay(f"{error}\nThere is no FHIR server at {server.base}. {_HOW}.") from None
    if stated.status != 200 or stated.resource.get("resourceType") != "CapabilityStatement":
        raise CannotPlay(f"{server.base} is not the base of a FHIR server. {_HOW}.")
    marker = server.get(_MARKER)
    if marker.status == 401:
        raise CannotPlay(
            f"The server at {server.base} asks for tokens, and the demo plays everybody's part and "
            f"has none. {_HOW}."
        )
    if marker.status != 200:
        raise CannotPlay(
            f"The server at {server.base} has no synthetic caseload, so there is nobody to tell "
            f"of. {_HOW}."
        )


def find(server: Conversation) -> YoungPerson:
    """Somebody at home with an active keyworking plan, goals, and consent to be rated.

    Raises:
        CannotPlay: there is nobody like that.
    """
    plans = server.pages(
        "CarePlan",
        ("category", f"{canonicals.CARE_PLAN_CATEGORY}|keyworking-plan"),
        ("status", "active"),
        ("_tag", _TEST_DATA),
        ("_include", "CarePlan:subject"),
    )
    found = [candidate for page in plans for candidate in _suitable(server, page)]
    if not found:
        raise CannotPlay(
            "Nobody of the synthetic caseload is at home with an active plan, goals and consent "
            "to be on the register, without a discharge plan that is open. A fresh store has "
            f"somebody: stop the server, remove var/ and start again. {_HOW}."
        )
    return min(found, key=_preference)[1]


def _preference(candidate: tuple[str, YoungPerson]) -> tuple[bool, bool, str]:
    """Amber first, then whose rating is oldest; last whom `make run`'s own lines admit."""
    since, person = candidate
    return person.id == goes_to_hospital(), person.colour != canonicals.AMBER, since


def _suitable(server: Conversation, page: Exchange) -> list[tuple[str, YoungPerson]]:
    """Those on a page of plans who can be admitted, with the start of their rating."""
    plans = {
        plan["subject"]["reference"]: plan
        for plan in page.entries("match", "CarePlan")
        if plan.get("goal")
    }
    patients = {
        f"Patient/{patient['id']}": patient
        for patient in page.entries("include", "Patient")
        if _has_nhs_number(patient)
    }
    wanted = sorted(plans.keys() & patients.keys())
    if not wanted:
        return []
    ratings = _ratings(server, wanted)
    busy = _in_hospital(server, wanted) | _planning_discharge(server, wanted)
    ready = (_consenting(server, wanted) & ratings.keys()) - busy
    return [
        (since, YoungPerson(patients[who], plans[who], colour))
        for who, (since, colour) in ratings.items()
        if who in ready
    ]


def _has_nhs_number(patient: Resource) -> bool:
    identifiers = patient.get("identifier", ())
    return any(identifier.get("system") == canonicals.NHS_NUMBER for identifier in identifiers)


def _ratings(server: Conversation, people: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Since when, and the colour, of each rating on the register."""
    pages = server.pages("Flag", ("subject", ",".join(people)))
    return {
        flag["subject"]["reference"]: (flag["period"]["start"], coding["code"])
        for page in pages
        for flag in page.entries("match", "Flag")
        if flag["status"] == "active"  # R4 has no search parameter for it
        for coding in flag["code"].get("coding", ())
        if coding.get("system") == canonicals.DSR_RATING
    }


def _consenting(server: Conversation, people: Iterable[str]) -> set[str]:
    pages = server.pages(
        "Consent",
        ("category", f"{canonicals.CONSENT_CATEGORY}|register"),
        ("status", "active"),
        ("period", f"ge{today()}"),
        ("patient", ",".join(people)),
    )
    return {
        consent["patient"]["reference"]
        for page in pages
        for consent in page.entries("match", "Consent")
    }


def _in_hospital(server: Conversation, people: Iterable[str]) -> set[str]:
    return _subjects(
        server,
        "Encounter",
        people,
        ("class", "IMP,ACUTE,NONAC"),
        ("status", "planned,arrived,triaged,in-progress,onleave"),
    )


def _planning_discharge(server: Conversation, people: Iterable[str]) -> set[str]:
    return _subjects(
        server,
        "CarePlan",
        people,
        ("category", f"{canonicals.CARE_PLAN_CATEGORY}|discharge-plan"),
        ("status", "draft,active,on-hold"),
    )


def _subjects(
    server: Conversation, resource_type: str, people: Iterable[str], *criteria: tuple[str, str]
) -> set[str]:
    """Which of these people a resource of the type is about that meets the criteria."""
    pages = server.pages(resource_type, *criteria, ("subject", ",".join(people)))
    return {
        found["subject"]["reference"]
        for page in pages
        for found in page.entries("match", resource_type)
    }
