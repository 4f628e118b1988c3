"""Which resources here a message means: whom it is about, the stay, and what else it holds.

Where everybody may do everything, an identifier means the one resource that has it. A sender under
a token means its own: see `_own`.
"""

from fhir_server.errors import FhirError, Issue, Kind
from fhir_server.fhir.json import Resource
from fhir_server.fhir.references import parse_relative
from fhir_server.operation.records import Records, reference_to, stable_id
from operations._identity import has_reliable, identified, shares_identifier
from operations._message import Message, Part
from operations._whose import named


class Finder:
    """By identifier, whoever sends.

    All methods raise FhirError: CONFLICT where several have the identifiers, INVALID or
    BUSINESS_RULE with the place of what contradicts what is known.
    """

    def __init__(self, records: Records, message: Message) -> None:
        self._records = records
        self._message = message

    async def stay(self) -> Resource | None:
        """The stay as it is known here."""
        return await identified(self._records, self._message.encounter)

    async def patient(self, stay: Resource | None) -> Resource:
        """The Patient that the message is about, as known here or as the message has it."""
        part = self._message.patient
        if part is None:
            return await self._referred()
        known = await identified(self._records, part)
        if known is None and not has_reliable(part.resource):
            known = await self._patient_of(stay, part)
        if known is None:
            return {**part.resource, "id": self.new_id(part)}
        if not is_same_birth(known, part):
            _refuse_birth(part)
        return known

    async def resource(self, part: Part, patient: Resource) -> Resource | None:
        """What else the message tells of, as it is known here."""
        known = await identified(self._records, part)
        if known is not None and named(known) - {reference_to(patient)}:
            # Two senders may number their resources alike.
            raise FhirError.at(
                Kind.BUSINESS_RULE,
                f"{part.expression}.identifier",
                f"The {part.resource['resourceType']} with this identifier is another patient's",
            )
        return known

    async def first(self, resource: Resource) -> Resource:
        """Something that was not known before, as it is stored."""
        return resource

    def told(self, resource: Resource) -> Resource:
        """Something of the message, as it is stored."""
        return resource

    async def ask_whose(self, stay: Resource, now: int) -> None:
        """Nobody is in doubt here: what contradicts what is known is refused."""

    def passes_over(self, known: Resource) -> bool:
        """Whether what stands in the place of something of the message does not count."""
        del known
        return False

    def new_id(self, part: Part) -> str:
        return stable_id(self._message.id, str(part.index))

    async def _referred(self) -> Resource:
        found = await self._get(self._message.encounter.resource["subject"]["reference"])
        if found is None:
            raise not_here(self._message)
        return found

    async def _patient_of(self, stay: Resource | None, part: Part) -> Resource | None:
        """Whom a known stay is about, if that is who the sender means by the same identifier."""
        found = await self._get((stay or {}).get("subject", {}).get("reference", ""))
        return found if found and shares_identifier(found, part.resource) else None

    async def _get(self, reference: str) -> Resource | None:
        local = parse_relative(reference)
        return None if local is None else await self._records.get(local.type, local.id)


def not_here(message: Message) -> FhirError:
    """Of a message that only refers to somebody who is not known."""
    reference = message.encounter.resource["subject"]["reference"]
    text = f"'{reference}' is not known here, and the message holds no Patient"
    place = f"{message.encounter.expression}.subject"
    return FhirError(Kind.INVALID, Issue(text, place, "required"))


def is_same_birth(known: Resource, part: Part) -> bool:
    """One NHS number with two dates of birth: somebody's record is about to get mixed up."""
    born, said = known.get("birthDate", ""), part.resource.get("birthDate", "")
    return bool(born.startswith(said) or said.startswith(born))


def _refuse_birth(part: Part) -> None:
    raise FhirError.at(
        Kind.BUSINESS_RULE,
        f"{part.expression}.birthDate",
        "The date of birth is not the one of the patient who has this identifier here",
    )
