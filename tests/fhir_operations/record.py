"""A few young people of the synthetic caseload, and what is everything about one, by hand.

The sets are worked out from the resources as they were generated, by elements named here, and
share nothing with the server: neither its tables nor its search.
"""

from collections.abc import Iterator
from datetime import date
from functools import cache
from typing import Any, Final

import httpx

from fhir_server.caseload import generate
from tests.support import body, exact

JSON = dict[str, Any]

YOUNG_PEOPLE: Final = 12
PATIENT: Final = "Patient/kw-synthetic-007"
OTHER: Final = "Patient/kw-synthetic-005"
_ABOUT: Final = {
    "CarePlan": ("subject",),
    "CareTeam": ("subject",),
    "Condition": ("subject",),
    "Consent": ("patient",),
    "Encounter": ("subject",),
    "EpisodeOfCare": ("patient",),
    "Flag": ("subject",),
    "Goal": ("subject",),
    "Provenance": ("target",),
    "QuestionnaireResponse": ("subject", "author"),
    "RelatedPerson": ("patient",),
    "ServiceRequest": ("subject",),
}
"""Elements that place a resource of the caseload in a Patient's compartment. In R4 a Task is in
none (https://hl7.org/fhir/R4/compartmentdefinition-patient.html)."""


@cache
def bundles() -> tuple[JSON, ...]:
    return tuple(generate(1, date(2026, 6, 1), YOUNG_PEOPLE))


@cache
def all_resources() -> dict[str, JSON]:
    """All resources by `Type/id`."""
    resources = (entry["resource"] for bundle in bundles() for entry in bundle["entry"])
    return {name_of(resource): resource for resource in resources}


def name_of(resource: JSON) -> str:
    return f"{resource['resourceType']}/{resource['id']}"


def patients_of(resource: JSON) -> set[str]:
    """The Patients in whose compartment it is."""
    if resource["resourceType"] == "Patient":
        return {name_of(resource)}
    elements = (resource.get(name, ()) for name in _ABOUT.get(resource["resourceType"], ()))
    found = {reference for element in elements for reference in references(element)}
    return {reference for reference in found if reference.startswith("Patient/")}


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for name, value in node.items():
            if name == "reference" and isinstance(value, str):
                yield value
            else:
                yield from references(value)
    elif isinstance(node, list):
        for item in node:
            yield from references(item)


def compartment(patient: str) -> set[str]:
    return {name for name, resource in all_resources().items() if patient in patients_of(resource)}


def referred(members: set[str]) -> set[str]:
    """What the members refer to and no Patient's compartment holds."""
    found = {target for name in members for target in references(all_resources()[name])}
    return {name for name in found - members if not patients_of(all_resources()[name])}


async def load(client: httpx.AsyncClient) -> None:
    for bundle in bundles():
        response = await client.post("", **body(bundle))
        assert response.status_code == 200, response.text


async def pages(client: httpx.AsyncClient, address: str) -> list[JSON]:
    """The Bundles, by their links."""
    found: list[JSON] = []
    following: str | None = address
    while following:
        response = await client.get(following)
        assert response.status_code == 200, response.text
        found.append(exact(response))
        links = {link["relation"]: link["url"] for link in found[-1]["link"]}
        following = links.get("next")
    return found


def names(bundle: JSON, mode: str | None = None) -> list[str]:
    """`Type/id` of what is in it, in order."""
    return [
        name_of(entry["resource"])
        for entry in bundle.get("entry", ())
        if entry["search"]["mode"] in ((mode,) if mode else ("match", "include"))
    ]


async def all_names(client: httpx.AsyncClient, address: str, mode: str | None = None) -> list[str]:
    return [name for page in await pages(client, address) for name in names(page, mode)]
