"""Who is meant: by which identifiers a person or a thing is found again.

An identifier counts with its system only: two hospitals number alike. An NHS number counts when
its check digit is right, however it is spaced.
"""

from collections.abc import Iterator
from typing import Final

from fhir_server.errors import FhirError, Issue, Kind
from fhir_server.fhir import canonicals, nhs_number
from fhir_server.fhir.json import Resource
from fhir_server.operation.records import Records
from operations._message import Part

_FILLERS: Final = str.maketrans("", "", " -\u00a0\u2010\u2011\u2013")


def identifiers_of(resource: Resource) -> list[Resource]:
    """Those that tell it from all others: with system and value."""
    found = resource.get("identifier", [])
    listed = found if isinstance(found, list) else [found]
    return [item for item in listed if item.get("system") and item.get("value")]


def numbers(patient: Resource) -> list[str]:
    """NHS numbers, as they are written."""
    return [
        item["value"] for item in identifiers_of(patient) if item["system"] == canonicals.NHS_NUMBER
    ]


def plain_number(written: str) -> str:
    """Without the spaces and dashes that people read it by."""
    return written.translate(_FILLERS)


def wrong_numbers(part: Part) -> Iterator[Issue]:
    """A warning for each NHS number whose check digit is wrong: it may be anybody's."""
    for written in numbers(part.resource):
        if not nhs_number.is_valid(plain_number(written)):
            yield Issue(
                "The NHS number's check digit is wrong; it is kept as it was sent, and nobody is "
                "found by it",
                f"{part.expression}.identifier",
                "value",
                "warning",
            )


def _reliable(patient: Resource) -> list[Resource]:
    """NHS numbers that are right, each as it may be written here; else the sender's own ones."""
    right = [n for n in map(plain_number, numbers(patient)) if nhs_number.is_valid(n)]
    if right:
        return [
            {"system": canonicals.NHS_NUMBER, "value": written}
            for number in right
            for written in _writings(number)
        ]
    return [item for item in identifiers_of(patient) if item["system"] != canonicals.NHS_NUMBER]


def _writings(number: str) -> tuple[str, ...]:
    groups = (number[:3], number[3:6], number[6:])
    return number, " ".join(groups), "-".join(groups)


async def identified(records: Records, part: Part) -> Resource | None:
    """The resource here that has one of the part's identifiers.

    Raises:
        FhirError: CONFLICT where there are several.
    """
    kind = part.resource["resourceType"]
    find_by = _reliable if kind == "Patient" else identifiers_of
    found = await records.by_identifier(kind, find_by(part.resource))
    if len(found) > 1:
        raise FhirError.at(
            Kind.CONFLICT,
            f"{part.expression}.identifier",
            f"{len(found)} resources of type {kind} have these identifiers",
        )
    return found[0] if found else None


def shares_identifier(one: Resource, other: Resource) -> bool:
    """Whether they have one in common, even one that nobody is found by."""
    pairs = {(item["system"], item["value"]) for item in identifiers_of(one)}
    return any((item["system"], item["value"]) in pairs for item in identifiers_of(other))


def has_reliable(patient: Resource) -> bool:
    return bool(_reliable(patient))
