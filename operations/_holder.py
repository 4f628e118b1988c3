"""Whose record somebody is of whom a message alone tells: who corrects it, and adds who is related.

docs/access.md: without a managing organisation nobody could add a parent or a diagnosis, and
nobody could be asked for consent.
"""

from fhir_server.access.labels import is_test_data
from fhir_server.fhir import canonicals
from fhir_server.fhir.json import Resource
from fhir_server.fhir.references import parse_relative
from fhir_server.operation.records import Records
from operations._identity import identifiers_of


async def with_holder(records: Records, patient: Resource, register: str, sender: str) -> Resource:
    """A Patient who was not known before, with the organisation that manages the record.

    That of the register, where one is set; else the one that the message names, if it is known
    here and counts; else the sender's.

    Args:
        register: ODS code of the organisation that holds the register; '' where none is set.
        sender: ODS code of the organisation of the token.
    """
    if register:
        return patient | {"managingOrganization": _of(register)}
    if await _is_known(records, patient.get("managingOrganization", {})):
        return patient
    return patient | {"managingOrganization": _of(sender)}


def _of(code: str) -> Resource:
    return {"identifier": {"system": canonicals.ODS_ORGANIZATION, "value": code}}


async def _is_known(records: Records, organisation: Resource) -> bool:
    """What the message itself brings is not active here until somebody confirms it."""
    local = parse_relative(organisation.get("reference", ""))
    if "reference" in organisation:
        there = await records.get(local.type, local.id) if local else None
        found = [there] if there else []
    else:
        codes = identifiers_of(organisation)
        found = [one async for one in records.each_identified("Organization", codes)]
    return any(
        one["resourceType"] == "Organization"
        and one.get("active") is not False
        and not is_test_data(one)
        for one in found
    )
