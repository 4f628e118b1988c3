"""$process-message: an inpatient unit tells what happened, and all its effects are stored.

One commit holds the message's resources, the rating, the plan, the tasks and the answer. The
same message again answers the same and writes nothing.
https://hl7.org/fhir/R4/messageheader-operation-process-message.html
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from fhir_server.access.session import SessionUnit
from fhir_server.errors import FhirError, Issue, Kind
from fhir_server.fhir import canonicals
from fhir_server.fhir.dates import instant
from fhir_server.fhir.json import Resource
from fhir_server.fhir.outcomes import outcome
from fhir_server.fhir.references import parse_relative, rewrite
from fhir_server.operation.api import Call
from fhir_server.operation.records import Records, reference_to, stable_id
from operations._coherence import require_coherent
from operations._event import Told
from operations._happenings import Journal, outcome_of, told_by
from operations._identity import has_reliable, identified, shares_identifier, wrong_numbers
from operations._message import Message, Part, Trigger, read, unversioned
from operations._person import OPEN_STAY, UNDONE_STAY, Person, refers, since, status_of
from operations._sender import brief, require_sender
from operations._stay import may_follow
from operations._whose import named, require_own

SCOPES = ("MessageHeader.c", "Encounter.cu")
"""Of who tells of a stay; what follows from it is the service's own work."""
AS_SERVICE: Final = "an inpatient unit tells of a stay"
"""What follows from a stay is in places that a unit may not read: the service does it, once the
sender is the organisation of the token."""
_DIGEST: Final = f"{canonicals.KW}/NamingSystem/message-digest"
_MASTER: Final = frozenset(
    {
        *("Patient", "RelatedPerson", "Practitioner", "PractitionerRole"),
        *("Organization", "HealthcareService", "Location"),
    }
)
"""Kept as they are when they are known already: an event is no correction of demographics."""


async def run(call: Call) -> Resource:
    message = read(call.parameters.one("content"), call.now, call.base)
    require_coherent(message, call.now)

    async def work(unit: SessionUnit) -> Resource:
        records = Records(unit, base=call.base, now=call.now, checker=call.checker)
        if not call.session.is_open:
            await require_sender(records, message, call.session.caller)
        return await _Processing(unit, records, message, call.now).run()

    action = f"process-message {message.trigger.value}"
    answer = await call.as_service().commit(action, work)
    return answer if call.session.is_open else brief(answer)


class _Processing:
    """One message in one commit."""

    def __init__(self, unit: SessionUnit, records: Records, message: Message, now: int) -> None:
        self._unit = unit
        self._records = records
        self._message = message
        self._now = now
        self._names: dict[str, str] = {}

    async def run(self) -> Resource:
        answered = await self._records.get("OperationOutcome", self._message.id)
        if answered is not None:
            await self._require_same_content()
            return answered
        known = await identified(self._records, self._message.encounter)
        patient = await self._patient(known)
        self._require_same_stay(known, patient)
        ids = [(part, await self._id(part, patient, known)) for part in self._message.parts]
        for part, resource_id in ids:
            for name in part.names:
                self._names[name] = f"{part.resource['resourceType']}/{resource_id}"
        resources = [(part, self._resolved(part, resource_id)) for part, resource_id in ids]
        told = frozenset(self._names.values())
        for part, resource in resources:
            await require_own(self._records, patient, part, resource, told)
        return await self._conclude(await self._effects(known, resources), patient)

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

    async def _patient(self, stay: Resource | None) -> Resource:
        """The Patient that the message is about, as known here or as the message has it."""
        part = self._message.patient
        if part is None:
            return await self._referred()
        known = await identified(self._records, part)
        if known is None and not has_reliable(part.resource):
            known = await self._patient_of(stay, part)
        if known is None:
            return {**part.resource, "id": self._new_id(part)}
        _require_same_person(known, part)
        return known

    async def _referred(self) -> Resource:
        place = f"{self._message.encounter.expression}.subject"
        reference = self._message.encounter.resource["subject"]["reference"]
        found = await self._get(reference)
        if found is None:
            text = f"'{reference}' is not known here, and the message holds no Patient"
            raise FhirError(Kind.INVALID, Issue(text, place, "required"))
        return found

    async def _patient_of(self, stay: Resource | None, part: Part) -> Resource | None:
        """Whom a known stay is about, if that is who the sender means by the same identifier."""
        found = await self._get((stay or {}).get("subject", {}).get("reference", ""))
        return found if found and shares_identifier(found, part.resource) else None

    async def _get(self, reference: str) -> Resource | None:
        local = parse_relative(reference)
        return None if local is None else await self._records.get(local.type, local.id)

    def _require_same_stay(self, known: Resource | None, patient: Resource) -> None:
        """The stay as it is known here must be this person's, and go on as it can from there."""
        if known is None:
            return
        place = self._message.encounter.expression
        if not refers(known.get("subject"), patient):
            raise FhirError.at(
                Kind.BUSINESS_RULE,
                f"{place}.subject",
                "The spell with this identifier is another patient's",
            )
        start = known.get("period", {}).get("start")
        told = status_of(self._message.encounter.resource)
        if told == "finished" and self._message.over <= since(start):
            raise FhirError.at(
                Kind.BUSINESS_RULE,
                f"{place}.period.end",
                f"The stay would end before it began, at {start}",
            )
        is_late = self._message.trigger is Trigger.PREADMIT
        if not (is_late or may_follow(status_of(known), told)):
            raise FhirError.at(
                Kind.BUSINESS_RULE,
                f"{place}.status",
                f"The stay is {status_of(known)} here and cannot become '{told}'; "
                f"{', '.join((*OPEN_STAY, 'finished', *UNDONE_STAY))} are allowed",
            )

    async def _id(self, part: Part, patient: Resource, stay: Resource | None) -> str:
        if part is self._message.patient:
            return str(patient["id"])
        is_stay = part is self._message.encounter
        known = stay if is_stay else await identified(self._records, part)
        if known is None:
            return self._new_id(part)
        _require_about(known, patient, part)
        return str(known["id"])

    def _new_id(self, part: Part) -> str:
        return stable_id(self._message.id, str(part.index))

    def _resolved(self, part: Part, resource_id: str) -> Resource:
        found: Resource = rewrite({**part.resource, "id": resource_id}, self._name)
        return found

    def _name(self, reference: str) -> str | None:
        """What the sender's name of an entry is here, of whichever version of it."""
        return self._names.get(reference) or self._names.get(unversioned(reference))

    async def _effects(
        self,
        known: Resource | None,
        resources: Sequence[tuple[Part, Resource]],
    ) -> list[str]:
        encounter = next(
            resource for part, resource in resources if part is self._message.encounter
        )
        journal = Journal(self._records, encounter["id"])
        happening = told_by(self._message, encounter, known)
        happenings = await journal.add(happening, known)
        came = outcome_of(happenings)
        overtaken = came.happening.id != happening.id
        stay = await self._stored(resources, came.stay, only_new=overtaken)
        await journal.keep(happenings, stay)
        told = Told(
            stay["id"],
            came.happening.effect,
            rewrite(self._message.sender, self._name),
            came.as_stay,
            came.aftercare,
            came.begun,
        )
        followed = await self._unit.settle(told, ("Encounter", stay["id"]))
        if overtaken and stay == known and not self._unit.followed:
            return [f"{_overtaken(stay)}, nothing is changed: {reference_to(stay)}"]
        return [f"The event is stored: {reference_to(stay)}", *followed]

    async def _stored(
        self, resources: Sequence[tuple[Part, Resource]], stay: Resource, *, only_new: bool
    ) -> Resource:
        """Store what the message holds, with the stay as all that was told has it."""
        for part, resource in resources:
            kind = resource["resourceType"]
            if part is self._message.encounter:
                continue
            if not only_new or await self._records.get(kind, resource["id"]) is None:
                await self._store(part, resource)
        return await self._store(self._message.encounter, stay)

    async def _store(self, part: Part, resource: Resource) -> Resource:
        kind = resource["resourceType"]
        if kind in _MASTER:
            known = await self._records.get(kind, resource["id"])
            if known is not None:
                return known
        linked = await self._linked(resource, part)
        try:
            return await self._records.save(linked)
        except FhirError as error:
            raise _located(error, part) from error

    async def _linked(self, resource: Resource, part: Part) -> Resource:
        """The stay points to the keyworking involvement that it falls into."""
        if part is not self._message.encounter or "episodeOfCare" in resource:
            return resource
        known = await self._records.get("Encounter", resource["id"])
        if known is not None and "episodeOfCare" in known:
            return {**resource, "episodeOfCare": known["episodeOfCare"]}
        subject = unversioned(resource["subject"]["reference"])
        patient = {"resourceType": "Patient", "id": subject.split("/")[1]}
        episode = await Person(self._records, patient, self._now).episode()
        if episode is None:
            return resource
        return {**resource, "episodeOfCare": [{"reference": reference_to(episode)}]}

    async def _conclude(self, said: list[str], person: Resource) -> Resource:
        """Keep the answer and the receipt, beside what was done."""
        patient = self._message.patient
        issues = [
            *(Issue(text, severity="information") for text in said),
            *(wrong_numbers(patient) if patient else ()),
        ]
        saved = [one for one in self._records.saved if one["resourceType"] != "Binary"]
        written = [*map(_versioned, saved), *self._unit.followed]
        answer = {**outcome(issues, default_code="informational"), "id": self._message.id}
        await self._records.save(answer)
        await self._records.save(self._receipt(written, person))
        return await self._records.get("OperationOutcome", self._message.id) or answer

    def _receipt(self, written: list[str], patient: Resource) -> Resource:
        """https://hl7.org/fhir/R4/provenance.html: whose message made which versions."""
        message = self._message
        versions = [{"reference": name} for name in written]
        digest = {"system": _DIGEST, "value": message.digest}
        activity = {"system": canonicals.DATA_OPERATION, "code": "UPDATE"}
        part = {"system": canonicals.PROVENANCE_PARTICIPANT, "code": "author"}
        return {
            "resourceType": "Provenance",
            "id": message.id,
            "meta": {"profile": [canonicals.structure_definition("kw-provenance")]},
            "target": [
                *(versions or [{"reference": f"OperationOutcome/{message.id}"}]),
                {"reference": reference_to(patient)},
            ],
            "recorded": instant(self._now),
            "activity": {"coding": [activity], "text": f"message {message.trigger.value}"},
            "agent": [{"type": {"coding": [part]}, "who": rewrite(message.sender, self._name)}],
            "entity": [
                {"role": "source", "what": {"identifier": message.name}},
                {"role": "source", "what": {"identifier": digest}},
            ],
        }


def _versioned(saved: Resource) -> str:
    return f"{reference_to(saved)}/_history/{saved['meta']['versionId']}"


def _overtaken(stay: Resource) -> str:
    """Why what is told of a stay changes nothing of it."""
    status = status_of(stay)
    if status in UNDONE_STAY:
        return f"The stay is {status} already"
    return "The stay has ended already" if status == "finished" else "Later word of it has come"


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
    if named(known) - {reference_to(patient)}:
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
