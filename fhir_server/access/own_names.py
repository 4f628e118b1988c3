"""By which references a caller is named in records: its user, its roles, its organisation."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from fhir_server.access.caller import Caller
from fhir_server.fhir import canonicals
from fhir_server.search.ast import Query, ReferenceTo, TokenIs
from fhir_server.storage.interface import Reader

_MOST: Final = 100
"""Roles of one person, and records of one organisation."""


@dataclass(frozen=True, slots=True)
class OwnNames:
    """References such as `Practitioner/1`; `organisation` is an ODS code, '' without one."""

    persons: frozenset[str]
    organisations: frozenset[str]
    organisation: str = ""

    def is_one(self, reference: Mapping[str, Any] | None) -> bool:
        """Whether the element refers to the caller or its organisation."""
        return self.is_person(reference) or self.is_organisation(reference)

    def is_person(self, reference: Mapping[str, Any] | None) -> bool:
        return (reference or {}).get("reference") in self.persons

    def is_organisation(self, reference: Mapping[str, Any] | None) -> bool:
        """A reference names it; one without may have its ODS code."""
        told = reference or {}
        if "reference" in told:
            return told["reference"] in self.organisations
        identifier = told.get("identifier", {})
        is_ods = identifier.get("system") == canonicals.ODS_ORGANIZATION
        return bool(self.organisation) and is_ods and identifier.get("value") == self.organisation


async def own_names(reader: Reader, caller: Caller) -> OwnNames:
    """As the records say now, all of them: administrators keep these."""
    persons = {caller.user} - {""}
    if caller.user.startswith("Practitioner/"):
        persons |= {one async for one in _found(reader, _roles(caller.user))}
    if not caller.organisation:
        return OwnNames(frozenset(persons), frozenset())
    organisations = {one async for one in _found(reader, _organisations(caller.organisation))}
    return OwnNames(frozenset(persons), frozenset(organisations), caller.organisation)


def _roles(user: str) -> Query:
    return Query("PractitionerRole", ReferenceTo("practitioner", (user,)))


def _organisations(code: str) -> Query:
    return Query("Organization", TokenIs("identifier", canonicals.ODS_ORGANIZATION, code))


async def _found(reader: Reader, query: Query) -> AsyncIterator[str]:
    page = await reader.search(query, _MOST)
    for version in page.matches:
        yield f"{version.type}/{version.id}"
