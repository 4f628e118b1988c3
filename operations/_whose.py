"""In whose records a resource is: nothing of a message may end up in another child's.

By the Patient compartment, and by the parameters `patient` and `subject`, which find more:
https://hl7.org/fhir/R4/compartmentdefinition-patient.html has no Task, for one.
"""

from collections.abc import Collection, Iterable, Iterator
from functools import cache
from typing import Any, Final

from fhir_server.errors import FhirError, Kind
from fhir_server.fhir import canonicals
from fhir_server.fhir.compartments import memberships
from fhir_server.fhir.definitions import search_parameters
from fhir_server.fhir.json import Resource
from fhir_server.fhir.references import parse_relative
from fhir_server.operation.records import Records, reference_to
from fhir_server.search.extract import extract_elements
from fhir_server.search.values import IndexValue, ReferenceValue, TokenValue
from operations._identity import numbers, plain_number
from operations._message import Part, unversioned

_Values = Iterable[tuple[str, IndexValue]]
_ABOUT: Final = frozenset({"patient", "subject", "beneficiary"})
_ABOUT_IDENTIFIED: Final = frozenset(f"{name}:identifier" for name in _ABOUT)


def named(resource: Resource) -> set[str]:
    """Patients of this server in whose records it is, and addresses that may mean a Patient."""
    return _named(resource["resourceType"], extract_elements(resource))


def _named(resource_type: str, values: _Values) -> set[str]:
    concerned = _parameters(resource_type)
    return {
        value.target
        for code, value in values
        if code in concerned
        and isinstance(value, ReferenceValue)
        and _may_be_patient(code, value.target)
    }


def of_a_record(resource_type: str) -> bool:
    """Whether resources of the type are in somebody's record."""
    return resource_type == "Patient" or bool(_parameters(resource_type))


@cache
def _parameters(resource_type: str) -> frozenset[str]:
    in_compartment = dict(memberships(resource_type)).get("Patient", frozenset())
    return in_compartment | (_ABOUT & search_parameters(resource_type).keys())


def _may_be_patient(code: str, target: str) -> bool:
    local = parse_relative(target)
    if local is not None:
        return local.type == "Patient"
    if target.startswith("urn:"):
        return code in _ABOUT
    return "Patient/" in target or "Patient?" in target


async def require_own(
    records: Records, patient: Resource, part: Part, resource: Resource, told: Collection[str]
) -> None:
    """Raise where the resource names another Patient, or refers to what is another's.

    `told` are resources of the message itself; each is looked at by its own.

    Raises:
        FhirError: BUSINESS_RULE, with the place of the reference.
    """
    own = reference_to(patient)
    values = extract_elements(resource)
    _require_own_number(patient, part, values)
    links = [*references(resource, part.expression)]
    for stranger in sorted(_named(resource["resourceType"], values) - {own}):
        place = next((at for at, link in links if unversioned(link) == stranger), part.expression)
        raise FhirError.at(
            Kind.BUSINESS_RULE,
            place,
            f"A message is about one Patient; this is about '{stranger}'",
        )
    for place, link in links:
        if unversioned(link) not in told and await _is_anothers(records, own, link):
            raise FhirError.at(
                Kind.BUSINESS_RULE, place, f"'{link}' is in another patient's record"
            )


async def _is_anothers(records: Records, own: str, link: str) -> bool:
    local = parse_relative(link)
    if local is None or not _parameters(local.type):
        return False
    found = await records.get(local.type, local.id)
    return found is not None and bool(whose := named(found)) and own not in whose


def _require_own_number(patient: Resource, part: Part, values: _Values) -> None:
    """A logical reference may name a Patient too, by NHS number."""
    own = {plain_number(number) for number in numbers(patient)}
    told = {
        plain_number(value.code)
        for code, value in values
        if code in _ABOUT_IDENTIFIED
        and isinstance(value, TokenValue)
        and value.system == canonicals.NHS_NUMBER
    }
    if own and told - own:
        raise FhirError.at(
            Kind.BUSINESS_RULE,
            part.expression,
            "A message is about one Patient; this is about another NHS number",
        )


def references(node: Any, place: str) -> Iterator[tuple[str, str]]:
    """Every reference in it, with its place."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name == "reference" and isinstance(value, str):
                yield place, value
            else:
                yield from references(value, f"{place}.{name}")
    elif isinstance(node, list):
        for index, item in enumerate(node):
            yield from references(item, f"{place}[{index}]")
