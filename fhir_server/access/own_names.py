"""By which references a caller is named in records: its user, its roles, its organisation."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fhir_server.access.caller import Caller
from fhir_server.fhir import canonicals, json
from fhir_server.fhir.references import LocalReference, parse_relative
from fhir_server.storage.interface import Reader

Element = Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class OwnNames:
    """References such as `Practitioner/1`; `organisation` is an ODS code, '' without one."""

    persons: frozenset[str]
    organisations: frozenset[str]
    organisation: str = ""

    def is_one(self, reference: Element) -> bool:
        """Whether the element refers to the caller or its organisation."""
        return self.is_person(reference) or self.is_organisation(reference)

    def is_person(self, reference: Element) -> bool:
        return (reference or {}).get("reference") in self.persons

    def is_organisation(self, reference: Element) -> bool:
        """A reference names it; one without may have its ODS code."""
        told = reference or {}
        if "reference" in told:
            return told["reference"] in self.organisations
        identifier = told.get("identifier", {})
        is_ods = identifier.get("system") == canonicals.ODS_ORGANIZATION
        return bool(self.organisation) and is_ods and identifier.get("value") == self.organisation


async def own_names(reader: Reader, caller: Caller, *asked: Element) -> OwnNames:
    """Which of the references that are asked about name the caller, as the records say now.

    Each is looked up by itself: however many roles and organisations others bring, none is missed.
    """
    persons, organisations = {caller.user} - {""}, set[str]()
    for name in {str((one or {}).get("reference", "")) for one in asked}:
        local = parse_relative(name)
        if local is not None and await _is_person(reader, caller, local):
            persons.add(name)
        if local is not None and await _is_organisation(reader, caller, local):
            organisations.add(name)
    return OwnNames(frozenset(persons), frozenset(organisations), caller.organisation)


async def _is_person(reader: Reader, caller: Caller, named: LocalReference) -> bool:
    """The user, in whichever version, or a role of theirs."""
    if f"{named.type}/{named.id}" == caller.user:
        return True
    if named.type != "PractitionerRole" or not caller.user.startswith("Practitioner/"):
        return False
    role = await _read(reader, named)
    return bool(role.get("practitioner", {}).get("reference") == caller.user)


async def _is_organisation(reader: Reader, caller: Caller, named: LocalReference) -> bool:
    if named.type != "Organization" or named.version is not None or not caller.organisation:
        return False
    there = await _read(reader, named)
    code = {"system": canonicals.ODS_ORGANIZATION, "value": caller.organisation}
    return any(code.items() <= one.items() for one in there.get("identifier", ()))


async def _read(reader: Reader, named: LocalReference) -> Mapping[str, Any]:
    found = await reader.read(named.type, named.id)
    return {} if found is None or found.deleted else json.decode_resource(found.body)
