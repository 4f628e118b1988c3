"""Consent/$withdraw: whoever has given consents withdraws them, whatever they may read by now.

"Withdrawal at any time by parent, carer or young person" does not end when a parent's own access
does, as at the 13th birthday (row 9 of docs/decision-table.md): by then they find no consent to
change. It takes back what they have given, as of when it was given, and nothing of others.
https://greenwichcommunitydirectory.org.uk/add-child-dynamic-support-register/information-held-dsr
"""

from typing import Final

from fhir_server.access.session import SessionUnit
from fhir_server.errors import FhirError, Kind
from fhir_server.fhir import canonicals
from fhir_server.fhir.json import Resource
from fhir_server.fhir.references import parse_relative
from fhir_server.fhir.said import said
from fhir_server.operation.api import Call
from fhir_server.operation.records import Records, reference_to
from operations._calendar import working_days_after
from operations._consenting import WITHDRAWN
from operations._person import Person, local_day, status_of, with_extension
from operations._work import Work, task_of

SCOPES = ("Consent.u",)
AS_SERVICE: Final = "whoever gave a consent withdraws it"
_GIVERS: Final = ("Patient", "RelatedPerson")
_OPEN: Final = ("draft", "proposed", "active")
_LONGEST: Final = 500


async def run(call: Call) -> Resource:
    giver = call.session.caller.user
    if giver.partition("/")[0] not in _GIVERS:
        raise FhirError(
            Kind.FORBIDDEN,
            "A consent is withdrawn so by the young person or somebody related who gave it, signed "
            "in; the keyworker updates it",
        )
    reason = _reason(call)

    async def work(unit: SessionUnit) -> int:
        records = Records(unit, base=call.base, now=call.now, checker=call.checker)
        found = [
            one
            async for one in records.each_referring("Consent", "consentor", giver)
            if status_of(one) in _OPEN and _is_of(call.session.caller.patient, one)
        ]
        for consent in found:
            await _withdraw(call, records, consent, reason)
        return len(found)

    count = await call.as_service().commit("withdraw", work)
    return {
        "resourceType": "Parameters",
        "parameter": [{"name": "withdrawn", "valueUnsignedInt": count}],
    }


def _reason(call: Call) -> str:
    given = said(call.parameters.one("reason"))
    if len(given) > _LONGEST:
        raise FhirError.at(
            Kind.INVALID,
            "Parameters.parameter.where(name='reason')",
            f"The reason has {len(given)} characters; {_LONGEST} are allowed",
        )
    return given or "Withdrawn by whoever gave it"


def _is_of(context: str, consent: Resource) -> bool:
    """Whether it is about the patient of the launch context, where the token has one."""
    return not context or consent["patient"].get("reference") == f"Patient/{context}"


async def _withdraw(call: Call, records: Records, consent: Resource, reason: str) -> None:
    """Its dateTime stays: what was given later, by whomever, was given by them."""
    coding = {"system": canonicals.CONSENT_STATUS_REASON, "code": "OTHER"}
    why = {
        "url": canonicals.CONSENT_STATUS_REASON_EXTENSION,
        "valueCodeableConcept": {"coding": [coding], "text": reason},
    }
    # Never refused: an old consent may fit no profile of today.
    ended = await records.amend({**with_extension(consent, why), "status": "inactive"})
    patient = parse_relative(consent["patient"].get("reference", ""))
    known = await records.get(patient.type, patient.id) if patient else None
    if known is not None:
        days = call.pathway.consent_review_days
        await records.save(await _talk(Person(records, known, call.now), ended, days))


async def _talk(person: Person, consent: Resource, days: int) -> Resource:
    """A Task of its own, whatever state of the pathway asks for one."""
    text = "Talk about consent again: one was withdrawn"
    due = working_days_after(local_day(person.now), days)
    focus = reference_to(consent)
    owner = (await person.episode() or {}).get("careManager")
    work = Work("review-consent", text, due, focus, key=WITHDRAWN)
    return task_of(work, person.reference, person.now, owner)
