"""$process-message: an inpatient unit tells what happened, and all its effects are stored.

One commit holds the message's resources, the rating, the plan, the tasks and the answer. The
same message again answers the same and writes nothing.
https://hl7.org/fhir/R4/messageheader-operation-process-message.html
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from fhir_server.access.caller import Caller, Role
from fhir_server.access.labels import as_test_data, is_test_data
from fhir_server.access.session import SessionUnit
from fhir_server.errors import FhirError, Issue, Kind
from fhir_server.fhir import canonicals
from fhir_server.fhir.dates import instant
from fhir_server.fhir.json import Resource
from fhir_server.fhir.outcomes import outcome
from fhir_server.fhir.references import rewrite
from fhir_server.operation.api import Call
from fhir_server.operation.records import Records, reference_to
from operations._coherence import require_coherent
from operations._event import Told
from operations._finding import Finder, not_here
from operations._happenings import Journal, outcome_of, told_by
from operations._identity import wrong_numbers
from operations._message import Message, Part, Trigger, read, unversioned
from operations._own import OwnFinder, require_own_terms
from operations._person import OPEN_STAY, UNDONE_STAY, Person, refers, since, status_of
from operations._sender import brief, require_sender
from operations._sound import PROFESSIONALS, are, is_as_sent, is_identifier, is_name
from operations._stay import may_follow
from operations._whose import require_own

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


async def run(call: Call, *, is_checked: bool = True) -> Resource:
    """`is_checked`: the message was found sound, as what an operation gets in FHIR is."""
    is_open, caller = call.session.is_open, call.session.caller
    sender = "" if is_open else _sender(caller)
    message = read(call.parameters.one("content"), call.now, call.base, sender)
    require_coherent(message, call.now)
    bound = not is_open and Role.LOAD_TEST not in caller.roles
    if bound:
        require_own_terms(message)
        await _require_seen(call, message)

    async def work(unit: SessionUnit) -> Resource:
        records = Records(unit, base=call.base, now=call.now, checker=call.checker)
        finder = Finder(records, message)
        if bound:
            await require_sender(records, message, caller, call.inpatient_units)
            register = call.pathway.register_organisation
            finder = OwnFinder(records, message, caller.organisation, register)
        processing = _Processing(unit, records, message, finder, call.now, is_checked=is_checked)
        return await processing.run()

    action = f"process-message {message.trigger.value}"
    answer = await call.as_service().commit(action, work)
    return answer if is_open else brief(answer)


def _sender(caller: Caller) -> str:
    """Among whose messages an identifier counts: a load test plays many, and is none of them."""
    if Role.LOAD_TEST in caller.roles:
        return f"load test {caller.name}"
    return f"ods {caller.organisation}"


async def _require_seen(call: Call, message: Message) -> None:
    """Raise for a Patient of this server whom the sender may not see, as for one who is not here.

    Raises:
        FhirError: INVALID.
    """
    if message.patient is None:
        reference = unversioned(message.encounter.resource["subject"]["reference"])
        kind, _, resource_id = reference.partition("/")
        found = await call.session.read(kind, resource_id)
        if found is None or found.deleted:
            raise not_here(message)


class _Processing:
    """One message in one commit."""

    def __init__(
        self,
        unit: SessionUnit,
        records: Records,
        message: Message,
        finder: Finder,
        now: int,
        *,
        is_checked: bool,
    ) -> None:
        self._unit = unit
        self._records = records
        self._message = message
        self._finder = finder
        self._now = now
        self._is_checked = is_checked
        self._names: dict[str, str] = {}

    async def run(self) -> Resource:
        answered = await self._records.get("OperationOutcome", self._message.id)
        if answered is not None and not self._finder.passes_over(answered):
            await self._require_same_content()
            return answered
        known = await self._finder.stay()
        patient = await self._finder.patient(known)
        self._records.expect_questions(reference_to(patient))
        self._require_same_stay(known, patient)
        ids = [(part, await self._id(part, patient, known)) for part in self._message.parts]
        for part, resource_id in ids:
            for name in part.names:
                self._names[name] = f"{part.resource['resourceType']}/{resource_id}"
        resources = [(part, self._resolved(part, resource_id)) for part, resource_id in ids]
        told = frozenset(self._names.values())
        for part, resource in resources:
            await require_own(self._records, patient, part, resource, told)
        answer = await self._conclude(await self._effects(known, resources), patient)
        stay = next(resource for part, resource in resources if part is self._message.encounter)
        await self._finder.ask_whose(stay, self._now)
        return answer

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
        known = stay if is_stay else await self._finder.resource(part, patient)
        return self._finder.new_id(part) if known is None else str(known["id"])

    def _resolved(self, part: Part, resource_id: str) -> Resource:
        told = self._finder.told({**part.resource, "id": resource_id})
        found: Resource = rewrite(told, self._name)
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
        happening = told_by(self._message, encounter, known, self._now)
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
        # By the stay alone: the first line goes to senders who may know of nothing that follows.
        late = f". {_overtaken(stay)}, nothing of it is changed"
        overtaken = overtaken and stay == known
        first = f"The event is stored{late if overtaken else ''}: {reference_to(stay)}"
        return [first, *followed]

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
            if known is not None and not self._finder.passes_over(known):
                return known
            resource = await self._finder.first(resource)
        linked = await self._linked(resource, part)
        is_sound = self._is_checked and is_as_sent(linked, part.resource)
        try:
            return await self._records.save(linked, is_sound=is_sound)
        except FhirError as error:
            raise _located(error, part) from error

    async def _linked(self, resource: Resource, part: Part) -> Resource:
        """The stay points to the keyworking involvement that it falls into."""
        if part is not self._message.encounter:
            return resource
        known = await self._records.get("Encounter", resource["id"])
        if known is not None and is_test_data(known):
            resource = as_test_data(resource)  # which it stays, though the sender does not say so
        if "episodeOfCare" in resource:
            return resource
        if known is not None and "episodeOfCare" in known:
            return {**resource, "episodeOfCare": known["episodeOfCare"]}
        subject = unversioned(resource["subject"]["reference"])
        patient = {"resourceType": "Patient", "id": subject.split("/")[1]}
        episode = await Person(self._records, patient, self._now).involvement()
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
        texts = are("string", *(one["diagnostics"] for one in answer["issue"]))
        stored = await self._records.save(answer, is_sound=texts)
        receipt = self._receipt(written, person)
        (agent,) = receipt["agent"]
        is_sound = is_name(agent["who"], PROFESSIONALS) and is_identifier(self._message.name)
        await self._records.save(receipt, is_sound=is_sound)
        return stored

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
