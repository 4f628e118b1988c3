"""Patient/$break-glass: one record is read without consent, for a reason and for a short time.

Row 1 of docs/decision-table.md. The keyworker learns of it by a Task that lands in the
same commit: without the Task the glass stays whole. Whom it is broken for is kept by caller and
patient; nothing in a later request breaks it.
"""

from typing import Final

from fhir_server.access.caller import Caller, Role
from fhir_server.access.glass import MOST, SPACE, key_of
from fhir_server.access.session import SessionUnit
from fhir_server.errors import FhirError, Kind
from fhir_server.fhir import canonicals, nhs_number
from fhir_server.fhir.dates import instant
from fhir_server.fhir.json import Resource
from fhir_server.fhir.said import said
from fhir_server.operation.api import Call
from fhir_server.operation.records import Records, reference_to, stable_id
from operations._calendar import working_days_after
from operations._person import Person, local_day, local_time

SCOPES = ("Patient.r",)
AS_SERVICE: Final = "a professional breaks the glass"
_SHORTEST, _LONGEST = 20, 500
_MINUTE: Final = 60_000_000
_CODE: Final = "review-break-glass"
_TEXT: Final = "Review why this record was read without consent"
_NOT_FOR_FAMILY: Final = {"system": canonicals.ACT_CODE, "code": "TBOO"}
"""A reason such as safeguarding is for the keyworker, not for whoever it may be about."""


async def run(call: Call) -> Resource:
    caller = call.session.caller
    _require_professional(caller)
    reason = _reason(call)
    until = call.now + call.glass_minutes * _MINUTE

    async def work(unit: SessionUnit) -> Resource:
        records = Records(unit, base=call.base, now=call.now, checker=call.checker)
        several = await _patients(records, call)
        await _require_few(unit, [key_of(caller, str(one["id"])) for one in several])
        patient = _only(several, call)
        task = await records.save(await _task(records, patient, call, reason))
        await unit.break_glass(str(patient["id"]), reason, until)
        return _answer(patient, until, task)

    return await call.as_service().commit("break-glass", work)


def _require_professional(caller: Caller) -> None:
    kind = caller.user.partition("/")[0]
    is_professional = kind in ("Practitioner", "PractitionerRole") and bool(caller.organisation)
    if not is_professional or caller.roles & {Role.COMMISSIONER, Role.LOAD_TEST}:
        raise FhirError(
            Kind.FORBIDDEN, "A professional of an organisation, signed in, may break the glass"
        )


def _reason(call: Call) -> str:
    reason = said(call.parameters.one("reason"))
    if not _SHORTEST <= len(reason) <= _LONGEST:
        raise FhirError.at(
            Kind.INVALID,
            "Parameters.parameter.where(name='reason')",
            f"The reason has {len(reason)} characters; {_SHORTEST} to {_LONGEST} are allowed",
        )
    return reason


async def _patients(records: Records, call: Call) -> list[Resource]:
    """By the address, or by NHS number.

    Raises:
        FhirError: INVALID.
    """
    if call.id:
        found = await records.get("Patient", call.id)
        return [] if found is None else [found]
    given = call.parameters.one("patient") or {}
    number = str(given.get("value", "")).replace(" ", "")
    if given.get("system") != canonicals.NHS_NUMBER or not nhs_number.is_valid(number):
        raise FhirError.at(
            Kind.INVALID,
            "Parameters.parameter.where(name='patient')",
            f"The patient is named by NHS number, of the system {canonicals.NHS_NUMBER}",
        )
    identifier = {"system": canonicals.NHS_NUMBER, "value": number}
    return await records.by_identifier("Patient", [identifier])


def _only(several: list[Resource], call: Call) -> Resource:
    """
    Raises:
        FhirError: NOT_FOUND; CONFLICT where two have the number.
    """
    if not several:
        nobody = f"Patient/{call.id} is not" if call.id else "No patient with this NHS number is"
        raise FhirError(Kind.NOT_FOUND, f"{nobody} known")
    if len(several) > 1:
        raise FhirError(Kind.CONFLICT, "Several patients have this NHS number; name one by its id")
    return several[0]


async def _require_few(unit: SessionUnit, keys: list[str]) -> None:
    """Raise where no more may be broken, before it is told whether there is such a patient.

    Else whoever has broken the most could ask for anybody, and no keyworker would learn of it.

    Raises:
        FhirError: TOO_COSTLY.
    """
    opened = {one.key for one in await unit.memos(SPACE, "", MOST)}
    if len(opened) >= MOST and opened.isdisjoint(keys):
        raise FhirError(
            Kind.TOO_COSTLY, f"The glass is broken for {MOST} records already; wait for one to end"
        )


async def _task(records: Records, patient: Resource, call: Call, reason: str) -> Resource:
    caller, person = call.session.caller, Person(records, patient, call.now)
    episode = await person.episode() or {}
    due = working_days_after(local_day(call.now), 1)
    task: Resource = {
        "resourceType": "Task",
        "id": stable_id("task", _CODE, caller.name, person.reference, str(call.now)),
        "meta": {"security": [_NOT_FOR_FAMILY]},
        "status": "requested",
        "intent": "order",
        "priority": "urgent",
        "code": {"coding": [{"system": canonicals.TASK, "code": _CODE}], "text": _TEXT},
        "description": reason,
        "focus": {"reference": person.reference},
        "for": {"reference": person.reference},
        "authoredOn": local_time(call.now),
        "requester": {"reference": caller.user},
        "restriction": {"period": {"end": due.isoformat()}},
    }
    owner = episode.get("careManager") or episode.get("managingOrganization")
    return {**task, "owner": owner} if owner else task


def _answer(patient: Resource, until: int, task: Resource) -> Resource:
    return {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "patient", "valueReference": {"reference": reference_to(patient)}},
            {"name": "until", "valueInstant": instant(until)},
            {"name": "task", "valueReference": {"reference": reference_to(task)}},
        ],
    }
