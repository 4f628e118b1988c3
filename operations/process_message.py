"""$process-message: an inpatient unit tells what happened, and all its effects are stored.

One commit holds the message's resources, the rating, the plan, the tasks and the answer. The
same message again answers the same and writes nothing.
https://hl7.org/fhir/R4/messageheader-operation-process-message.html
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from fhir_server.access.session import SessionUnit
from fhir_server.errors import FhirError, Issue, Kind
from fhir_server.fhir import canonicals
from fhir_server.fhir.dates import instant
from fhir_server.fhir.json import Resource
from fhir_server.fhir.outcomes import outcome
from fhir_server.fhir.references import rewrite
from fhir_server.operation.api import Call
from fhir_server.operation.records import Records, reference_to, stable_id
from operations._coherence import about, require_coherent
from operations._message import Message, Part, Trigger, read
from operations._person import OPEN_STAY, Person, since, status_of
from operations._stay import Event, admitted, corrected, discharged

_DIGEST: Final = f"{canonicals.KW}/NamingSystem/message-digest"
_MASTER: Final = frozenset(
    {
        *("Patient", "RelatedPerson", "Practitioner", "PractitionerRole"),
        *("Organization", "HealthcareService", "Location"),
    }
)
"""Kept as they are when they are known already: an event is no correction of demographics."""


async def run(call: Call) -> Resource:
    message = read(call.parameters.one("content"), call.now)
    require_coherent(message)

    async def work(unit: SessionUnit) -> Resource:
        return await _Processing(
            Records(unit, base=call.base, now=call.now), message, call.now
        ).run()

    return await call.session.commit(f"process-message {message.trigger.value}", work)


class _Processing:
    """One message in one commit."""

    def __init__(self, records: Records, message: Message, now: int) -> None:
        self._records = records
        self._message = message
        self._now = now
        self._names: dict[str, str] = {}

    async def run(self) -> Resource:
        answered = await self._records.get("OperationOutcome", self._message.id)
        if answered is not None:
            await self._require_same_content()
            return answered
        patient = await self._patient()
        known = await self._known_stay(patient)
        ids = [(part, await self._id(part, patient)) for part in self._message.parts]
        for part, resource_id in ids:
            for name in part.names:
                self._names[name] = f"{part.resource['resourceType']}/{resource_id}"
        said = await self._effects(patient, known, ids)
        return await self._conclude(said)

    async def _require_same_content(self) -> None:
        receipt = await self._records.get("Provenance", self._message.id)
        digests = [
            entity["what"].get("identifier", {}).get("value")
            for entity in (receipt or {}).get("entity", ())
        ]
        if self._message.digest not in digests:
            raise FhirError.at(
                Kind.CONFLICT,
                "Bundle.identifier",
                f"Another message was received as {self._message.name['value']}; "
                "a new message has a new identifier",
            )

    async def _patient(self) -> Resource:
        """The Patient that the message is about, as known here or as the message has it."""
        part = self._message.patient
        if part is None:
            reference = self._message.encounter.resource["subject"]["reference"]
            resource_type, resource_id, *_ = reference.split("/")
            found = await self._records.get(resource_type, resource_id)
            if found is None:
                raise FhirError(
                    Kind.INVALID,
                    Issue(
                        f"'{reference}' is not known here, and the message holds no Patient",
                        f"{self._message.encounter.expression}.subject",
                        "required",
                    ),
                )
            return found
        known = await self._identified(part)
        if known is None:
            return {**part.resource, "id": self._new_id(part)}
        _require_same_person(known, part)
        return known

    async def _known_stay(self, patient: Resource) -> Resource | None:
        """The stay as it is known here, which must be this person's and not end before it began."""
        known = await self._identified(self._message.encounter)
        if known is None:
            return None
        place = self._message.encounter.expression
        subject = known.get("subject", {}).get("reference")
        if subject != reference_to(patient):
            raise FhirError.at(
                Kind.BUSINESS_RULE,
                f"{place}.subject",
                "The spell with this identifier is another patient's",
            )
        start = known.get("period", {}).get("start")
        if self._message.trigger is Trigger.DISCHARGE and self._message.over <= since(start):
            raise FhirError.at(
                Kind.BUSINESS_RULE,
                f"{place}.period.end",
                f"The stay would end before it began, at {start}",
            )
        return known

    async def _identified(self, part: Part) -> Resource | None:
        """The resource here that has one of the part's identifiers."""
        identifiers = part.resource.get("identifier", [])
        nhs = [item for item in identifiers if item.get("system") == canonicals.NHS_NUMBER]
        kind = part.resource["resourceType"]
        found = await self._records.by_identifier(kind, nhs or identifiers)
        if len(found) > 1:
            raise FhirError.at(
                Kind.CONFLICT,
                f"{part.expression}.identifier",
                f"{len(found)} resources of type {kind} have these identifiers",
            )
        return found[0] if found else None

    async def _id(self, part: Part, patient: Resource) -> str:
        if isinstance(part.resource.get("identifier"), list):
            known = await self._identified(part)
            if known is not None:
                _require_about(known, patient, part)
                return str(known["id"])
        return self._new_id(part)

    def _new_id(self, part: Part) -> str:
        return stable_id(self._message.id, str(part.index))

    async def _effects(
        self, patient: Resource, known: Resource | None, ids: Iterable[tuple[Part, str]]
    ) -> list[str]:
        if known is not None and _is_late(self._message, known):
            return [f"The stay has ended already, nothing is changed: {reference_to(known)}"]
        stay: Resource = {}
        for part, resource_id in ids:
            saved = await self._store(part, resource_id)
            if part is self._message.encounter:
                stay = saved
        patient = await self._records.get("Patient", patient["id"]) or patient
        said = [f"The event is stored: {reference_to(stay)}"]
        return said + await self._consequences(patient, stay)

    async def _store(self, part: Part, resource_id: str) -> Resource:
        kind = part.resource["resourceType"]
        if kind in _MASTER:
            known = await self._records.get(kind, resource_id)
            if known is not None:
                return known
        resource = rewrite({**part.resource, "id": resource_id}, self._names.get)
        linked = await self._linked(resource, part)
        try:
            return await self._records.save(linked)
        except FhirError as error:
            raise _located(error, part) from error

    async def _linked(self, resource: Resource, part: Part) -> Resource:
        """The stay points to the keyworking involvement that it falls into."""
        if part is not self._message.encounter or "episodeOfCare" in resource:
            return resource
        subject = resource["subject"]["reference"]
        patient = {"resourceType": "Patient", "id": subject.split("/")[1]}
        episode = await Person(self._records, patient, self._now).episode()
        if episode is None:
            return resource
        return {**resource, "episodeOfCare": [{"reference": reference_to(episode)}]}

    async def _consequences(self, patient: Resource, stay: Resource) -> list[str]:
        message = self._message
        person = Person(self._records, patient, self._now)
        author = rewrite(message.sender, self._names.get)
        match message.trigger:
            case Trigger.ADMIT:
                return await admitted(Event(self._records, person, stay, message.start, author))
            case Trigger.DISCHARGE:
                return await discharged(Event(self._records, person, stay, message.end, author))
            case _:
                return await corrected(Event(self._records, person, stay, message.start, author))

    async def _conclude(self, said: list[str]) -> Resource:
        """Keep the answer and the receipt, beside what was done."""
        issues = [Issue(text, severity="information") for text in said]
        written = [*self._records.saved]
        answer = {**outcome(issues, default_code="informational"), "id": self._message.id}
        await self._records.save(answer)
        await self._records.save(self._receipt(written))
        return await self._records.get("OperationOutcome", self._message.id) or answer

    def _receipt(self, written: list[Resource]) -> Resource:
        """https://hl7.org/fhir/R4/provenance.html: whose message made which versions."""
        message = self._message
        versions = [
            {"reference": f"{reference_to(saved)}/_history/{saved['meta']['versionId']}"}
            for saved in written
        ]
        digest = {"system": _DIGEST, "value": message.digest}
        return {
            "resourceType": "Provenance",
            "id": message.id,
            "target": versions or [{"reference": f"OperationOutcome/{message.id}"}],
            "recorded": instant(self._now),
            "agent": [{"who": rewrite(message.sender, self._names.get)}],
            "entity": [
                {"role": "source", "what": {"identifier": message.name}},
                {"role": "source", "what": {"identifier": digest}},
            ],
        }


def _is_late(message: Message, known: Resource) -> bool:
    """What is told of an open stay after the stay has ended: it must not open it again."""
    open_statuses = (*OPEN_STAY, "planned")
    told = status_of(message.encounter.resource)
    return told in open_statuses and status_of(known) not in open_statuses


def _located(error: FhirError, part: Part) -> FhirError:
    """The error, with places as the sender knows them."""
    kind = part.resource["resourceType"]
    issues = (
        replace(issue, expression=(issue.expression or kind).replace(kind, part.expression, 1))
        for issue in error.issues
    )
    return FhirError.of(error.kind, issues)


def _require_about(known: Resource, patient: Resource, part: Part) -> None:
    """Two senders may number their resources alike: one's must not end up in the other's record."""
    if any(reference != reference_to(patient) for reference in about(known)):
        raise FhirError.at(
            Kind.BUSINESS_RULE,
            f"{part.expression}.identifier",
            f"The {part.resource['resourceType']} with this identifier is another patient's",
        )


def _require_same_person(known: Resource, part: Part) -> None:
    """One NHS number with two dates of birth: somebody's record is about to get mixed up."""
    born, said = known.get("birthDate", ""), part.resource.get("birthDate", "")
    if not (born.startswith(said) or said.startswith(born)):
        raise FhirError.at(
            Kind.BUSINESS_RULE,
            f"{part.expression}.birthDate",
            "The date of birth is not the one of the patient who has this identifier here",
        )
