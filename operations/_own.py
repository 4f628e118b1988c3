"""What a sender's message means under a token: what its own organisation has told of before.

Identifiers can be guessed, and two hospitals number alike. So an identifier finds a stay of the
sender's, and what the sender wrote last about the same child; whatever others have written under
it is left as it is, and what is told becomes a resource of its own. Nothing that is known of a
child changes how the sender is answered: docs/decisions/0032-messages-and-their-senders.md.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Final

from fhir_server.access.labels import is_test_data
from fhir_server.errors import FhirError, Kind
from fhir_server.fhir import canonicals
from fhir_server.fhir.json import Resource
from fhir_server.fhir.references import new_id, parse_relative
from fhir_server.operation.records import Records, reference_to, stable_id
from operations._doubt import ask_who
from operations._finding import Finder, is_same_birth
from operations._holder import with_holder
from operations._identity import (
    are_for_tests,
    identifiers_of,
    in_use,
    is_unconfirmed,
    means_same_person,
    reliable,
    shared,
    unconfirmed,
    without_numbers,
)
from operations._message import Message, Part, unversioned
from operations._person import Person
from operations._sender import codes_of
from operations._whose import named, of_a_record, references

SHARED: Final = frozenset(
    {"Practitioner", "PractitionerRole", "Organization", "HealthcareService", "Location"}
)
"""About nobody in care: as they are known here, whoever told of them."""
_DECIDING: Final = frozenset({"Organization", "PractitionerRole"})
"""By which the records say who works where."""
_TEXT: Final = "Find out whose stay this is"


class OwnFinder(Finder):
    """Of one organisation, by its ODS code.

    Args:
        register: ODS code of the organisation that holds the register; '' where none is set.
    """

    def __init__(
        self, records: Records, message: Message, organisation: str, register: str
    ) -> None:
        super().__init__(records, message)
        self._organisation = organisation
        self._register = register
        self.doubted: Sequence[Resource] = ()
        """Patients with the identifiers of the one who is told of, who may be somebody else."""
        self._is_apart = False
        self._meant = ""
        """Who was found, and was not just at an id that is made here."""
        self._chance = new_id()

    async def stay(self) -> Resource | None:
        part = self._message.encounter
        found = [one async for one in self._identified(part) if await self._is_own(one)]
        if not found and self._is_about_nobody_real():
            found = [one async for one in self._made_up(part) if await self._is_own(one)]
        return _only(found, part)

    def _is_about_nobody_real(self) -> bool:
        """Whether the message itself says so: its Patient has numbers that no person has alone."""
        numbers = [] if self._message.patient is None else reliable(self._message.patient.resource)
        return bool(numbers) and are_for_tests(numbers)

    async def patient(self, stay: Resource | None) -> Resource:
        found = await self._patient(stay)
        self._is_apart = is_unconfirmed(found)
        return found

    async def _patient(self, stay: Resource | None) -> Resource:
        part = self._message.patient
        if part is None:
            return await self._referred()
        known = await self._patient_of(stay, part)
        if known is not None:
            return self._is_meant(known)
        found = await self._with_numbers(part)
        if not found:
            return {**part.resource, "id": self.new_id(part)}
        if len(found) == 1 and is_same_birth(found[0], part):
            return self._is_meant(found[0])
        self.doubted = found
        return await self._unconfirmed(part)

    def _is_meant(self, known: Resource) -> Resource:
        self._meant = reference_to(known)
        return known

    async def _with_numbers(self, part: Part) -> list[Resource]:
        """Those who may be meant; test data where nobody else can be."""
        identifiers = reliable(part.resource)
        every = [one async for one in self._records.each_identified("Patient", identifiers)]
        found = in_use([one for one in every if not is_test_data(one)])
        return found or (every if are_for_tests(identifiers) else [])

    async def resource(self, part: Part, patient: Resource) -> Resource | None:
        kind = part.resource["resourceType"]
        if kind in SHARED:
            return await shared(self._records, part)
        own = {reference_to(patient)}
        about = [one async for one in self._identified(part) if named(one) <= own]
        if kind == "RelatedPerson":
            return min(about, key=reference_to, default=None)
        return _only([one for one in about if await self._has_written(one)], part)

    async def first(self, resource: Resource) -> Resource:
        """Who works where is not for a ward to say: that begins when it is confirmed."""
        if resource["resourceType"] in _DECIDING:
            return {**resource, "active": False}
        if resource["resourceType"] != "Patient":
            return resource
        told = unconfirmed(resource) if self._is_apart else resource
        return await with_holder(self._records, told, self._register, self._organisation)

    def passes_over(self, known: Resource) -> bool:
        """A load test chooses ids, and may have chosen one that is made here."""
        return is_test_data(known) and reference_to(known) != self._meant

    def new_id(self, part: Part) -> str:
        """One that nobody can have taken before."""
        return stable_id(self._message.id, self._chance, str(part.index))

    def told(self, resource: Resource) -> Resource:
        """Not by its number either does a reference then lead to whoever has it."""
        return without_numbers(resource) if self._is_apart else resource

    async def ask_whose(self, stay: Resource, now: int) -> None:
        """Somebody finds out whose stay it is, where that is in doubt."""
        for patient in self.doubted:
            told = (
                f"{self._organisation} tells of a stay under an identifier of this young person, "
                "but with another date of birth, or several have it: ask them whose it is"
            )
            person = Person(self._records, patient, now)
            await ask_who(self._records, person, reference_to(stay), _TEXT, told)

    async def _patient_of(self, stay: Resource | None, part: Part) -> Resource | None:
        found = await self._get((stay or {}).get("subject", {}).get("reference", ""))
        return found if found and means_same_person(found, part.resource) else None

    async def _unconfirmed(self, part: Part) -> Resource:
        """Who is told of, apart from whoever has the number here; found again by nobody else."""
        told = [f"{one['system']}|{one['value']}" for one in identifiers_of(part.resource)]
        said = (self._organisation, str(part.resource.get("birthDate", "")), *sorted(told))
        resource_id = stable_id("unconfirmed", *said)
        known = await self._records.get("Patient", resource_id)
        if known is not None and not self.passes_over(known):
            return known
        return {**unconfirmed(part.resource), "id": resource_id}

    async def _made_up(self, part: Part) -> AsyncIterator[Resource]:
        """Test data with an identifier of the part: a load test may choose any."""
        identifiers = identifiers_of(part.resource)
        async for one in self._records.each_identified(part.resource["resourceType"], identifiers):
            if is_test_data(one):
                yield one

    async def _identified(self, part: Part) -> AsyncIterator[Resource]:
        identifiers = identifiers_of(part.resource)
        async for one in self._records.each_identified(part.resource["resourceType"], identifiers):
            if not is_test_data(one):
                yield one

    async def _is_own(self, stay: Resource) -> bool:
        codes = await codes_of(self._records, stay.get("serviceProvider", {}))
        if codes:
            return all(self._organisation in some for some in codes)
        return await self._has_written(stay)

    async def _has_written(self, resource: Resource) -> bool:
        """Whether its current version is the organisation's, as its Provenance says."""
        name = reference_to(resource)
        version = f"{name}/_history/{resource['meta']['versionId']}"
        async for told in self._records.each_referring("Provenance", "target", name):
            targets = {one.get("reference") for one in told["target"]}
            if version in targets and self._organisation in _behalf(told):
                return True
        return False


def require_own_terms(message: Message) -> None:
    """Raise where an answer would tell what others have stored.

    Raises:
        FhirError: BUSINESS_RULE, with the place.
    """
    _require_distinct(message)
    names = {name for part in message.parts for name in part.names}
    if message.patient is None:
        names.add(unversioned(message.encounter.resource["subject"]["reference"]))
    for part in message.parts:
        for place, link in references(part.resource, part.expression):
            local = parse_relative(unversioned(link))
            if local and of_a_record(local.type) and unversioned(link) not in names:
                raise FhirError.at(
                    Kind.BUSINESS_RULE,
                    place,
                    f"'{link}' is not in the message: it holds what it refers to of a record",
                )


def _require_distinct(message: Message) -> None:
    seen: set[tuple[str, str, str]] = set()
    for part in message.parts:
        kind = part.resource["resourceType"]
        own = {(kind, one["system"], one["value"]) for one in identifiers_of(part.resource)}
        if seen & own:
            raise FhirError.at(
                Kind.BUSINESS_RULE,
                f"{part.expression}.identifier",
                f"Another {kind} of the message has this identifier already",
            )
        seen |= own


def _behalf(provenance: Resource) -> set[str]:
    """ODS codes of the organisations for which it was written."""
    named_by = [agent.get("onBehalfOf", {}).get("identifier", {}) for agent in provenance["agent"]]
    ods = canonicals.ODS_ORGANIZATION
    return {str(one["value"]) for one in named_by if one.get("system") == ods and "value" in one}


def _only(found: list[Resource], part: Part) -> Resource | None:
    if len(found) > 1:
        raise FhirError.at(
            Kind.CONFLICT,
            f"{part.expression}.identifier",
            f"{len(found)} resources of the sender's have these identifiers",
        )
    return found[0] if found else None
