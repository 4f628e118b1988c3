"""Who is meant: by which identifiers a person or a thing is found again.

An identifier counts with its system only: two hospitals number alike. An NHS number counts when
its check digit is right, however it is spaced.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from fhir_server.access.labels import is_test_data
from fhir_server.errors import FhirError, Issue, Kind
from fhir_server.fhir import canonicals, nhs_number
from fhir_server.fhir.json import Resource
from fhir_server.operation.records import Records, reference_to
from operations._message import Part

UNCONFIRMED: Final = f"{canonicals.KW}/NamingSystem/unconfirmed-identifier"
"""Of what a sender calls somebody who may be another than whoever is known by it: the value is
`system|value`, and nobody is found by it."""
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


def reliable(patient: Resource) -> list[Resource]:
    """NHS numbers that are right, each as it may be written here; else the sender's own ones."""
    right = [n for n in map(plain_number, numbers(patient)) if nhs_number.is_valid(n)]
    if right:
        return [
            {"system": canonicals.NHS_NUMBER, "value": written}
            for number in right
            for written in _writings(number)
        ]
    return [item for item in identifiers_of(patient) if item["system"] != canonicals.NHS_NUMBER]


def are_for_tests(identifiers: Iterable[Resource]) -> bool:
    """Whether they are NHS numbers that no person has."""
    return all(
        item["system"] == canonicals.NHS_NUMBER
        and nhs_number.is_for_tests(plain_number(item["value"]))
        for item in identifiers
    )


def _writings(number: str) -> tuple[str, ...]:
    groups = (number[:3], number[3:6], number[6:])
    return number, " ".join(groups), "-".join(groups)


async def identified(records: Records, part: Part) -> Resource | None:
    """The resource here that has one of the part's identifiers.

    Raises:
        FhirError: CONFLICT where there are several.
    """
    kind = part.resource["resourceType"]
    find_by = reliable if kind == "Patient" else identifiers_of
    found = in_use(await records.by_identifier(kind, find_by(part.resource)))
    if len(found) > 1:
        raise FhirError.at(
            Kind.CONFLICT,
            f"{part.expression}.identifier",
            f"{len(found)} resources of type {kind} have these identifiers",
        )
    return found[0] if found else None


def in_use(found: Sequence[Resource]) -> list[Resource]:
    """Of several, those that are not marked as inactive, as one of two that were joined is."""
    return [one for one in found if one.get("active") is not False] or [*found]


def shares_identifier(one: Resource, other: Resource) -> bool:
    """Whether they have one in common, even one that nobody is found by."""
    pairs = {(item["system"], item["value"]) for item in identifiers_of(one)}
    return any((item["system"], item["value"]) in pairs for item in identifiers_of(other))


def has_reliable(patient: Resource) -> bool:
    return bool(reliable(patient))


async def shared(records: Records, part: Part) -> Resource | None:
    """Of what is about nobody in care: the first that has the first identifier that is known.

    Several are no reason to refuse a message: somebody else may have made them so.
    """
    for identifier in identifiers_of(part.resource):
        every = records.each_identified(part.resource["resourceType"], [identifier])
        found = [one async for one in every if not is_test_data(one)]
        if found:
            return min(found, key=reference_to)
    return None


def unconfirmed(patient: Resource) -> Resource:
    """As told, but found by none of its identifiers."""
    return {**patient, "identifier": [_marked(one) for one in identifiers_of(patient)]}


def is_unconfirmed(patient: Resource) -> bool:
    return any(one["system"] == UNCONFIRMED for one in identifiers_of(patient))


def without_numbers(node: Any) -> Any:
    """The same with each NHS number in it, be it of a reference, as one that finds nobody."""
    if isinstance(node, list):
        return [without_numbers(one) for one in node]
    if not isinstance(node, dict):
        return node
    if node.get("system") == canonicals.NHS_NUMBER and "value" in node:
        return _marked(node)
    return {name: without_numbers(value) for name, value in node.items()}


def _marked(identifier: Resource) -> Resource:
    if identifier["system"] == UNCONFIRMED:
        return identifier
    return {"system": UNCONFIRMED, "value": f"{identifier['system']}|{identifier['value']}"}


def means_same_person(known: Resource, told: Resource) -> bool:
    """Whether they share an identifier by which somebody is found, confirmed or not."""
    own = reliable(told) or identifiers_of(told)
    return bool(_pairs(known) & {(one["system"], one["value"]) for one in own})


def _pairs(patient: Resource) -> set[tuple[str, str]]:
    """Its identifiers, those that are not confirmed as they were told."""
    found = set()
    for one in identifiers_of(patient):
        system, value = one["system"], one["value"]
        if system == UNCONFIRMED:
            system, _, value = value.partition("|")
        found.add((system, value))
    return found
