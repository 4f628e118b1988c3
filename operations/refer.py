"""Patient/$refer: a young person at risk is referred to keyworking.

Eligible is who is on the register with a rating that calls for it, has a learning disability or is
autistic, and is not too old: https://www.westyorkshirekeyworkerservice.org.uk.
"""

from typing import Final

from fhir_server.access.caller import Role
from fhir_server.access.session import SessionUnit
from fhir_server.errors import FhirError, Issue, Kind
from fhir_server.fhir import canonicals
from fhir_server.fhir.json import Resource
from fhir_server.operation.api import Call
from fhir_server.operation.pathway import Pathway
from fhir_server.operation.records import Records, reference_to, stable_id
from operations._ageing import too_old
from operations._diagnosis import is_eligible
from operations._host import is_professional
from operations._person import Person, colour_of, local_day, local_time
from operations.admission_risk import person_of
from operations.pathway.moving import moved, plain
from operations.pathway.states import REFERRED

SCOPES: Final = ("Patient.r", "ServiceRequest.c", "EpisodeOfCare.c")
AS_SERVICE: Final = "a professional refers to keyworking"
"""Whoever refers sees the young person, and has no part in what the host does with it."""


async def run(call: Call) -> Resource:
    caller = call.session.caller
    may = is_professional(caller) or Role.LOAD_TEST in caller.roles
    if not (call.session.is_open or may):
        raise FhirError(Kind.FORBIDDEN, "A professional of an organisation, signed in, may refer")
    await person_of(call)

    async def work(unit: SessionUnit) -> Resource:
        records = Records(unit, base=call.base, now=call.now, checker=call.checker)
        patient = await records.get("Patient", call.id)
        if patient is None:
            raise FhirError(Kind.NOT_FOUND, f"Patient/{call.id} is not known")
        return await _refer(call, records, Person(records, patient, call.now))

    return await call.as_service().commit("refer", work)


async def _refer(call: Call, records: Records, person: Person) -> Resource:
    rating = next(iter(await person.active_ratings()), None)
    needs = [one for one in await person.conditions() if is_eligible(one)]
    host = call.parameters.one("host") or person.patient.get("managingOrganization")
    issues = [
        *_rating_lacks(rating, call.pathway),
        *_person_lacks(person, call.pathway),
        *_records_lack(needs, host),
    ]
    if known := await person.episode():
        text = f"The young person is referred already: {reference_to(known)}"
        issues.append(Issue(text, "EpisodeOfCare"))
    if issues or rating is None or host is None:
        raise FhirError.of(Kind.BUSINESS_RULE, issues)
    referral = await records.save(_referral(call, person, rating, needs))
    episode = await records.save(_episode(call, person, referral, host))
    return {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "episode", "resource": episode},
            {"name": "referral", "resource": referral},
        ],
    }


def _rating_lacks(rating: Resource | None, pathway: Pathway) -> list[Issue]:
    allowed = [canonicals.RED, canonicals.AMBER, canonicals.BLUE]
    if pathway.refer_green:
        allowed.append(canonicals.GREEN)
    colour = None if rating is None else colour_of(rating)
    if colour in allowed:
        return []
    found = f"The rating is {colour}" if colour else "There is no active rating"
    return [Issue(f"{found}: keyworking takes {', '.join(allowed)}", "Flag.code")]


def _person_lacks(person: Person, pathway: Pathway) -> list[Issue]:
    if person.patient.get("deceasedDateTime") or person.patient.get("deceasedBoolean"):
        return [Issue("The young person has died", "Patient.deceased")]
    age = person.age_at(person.now)
    if age is None:
        return [Issue("The date of birth is not known to the day: record it", "Patient.birthDate")]
    if age < 0:
        return [Issue("The date of birth lies ahead", "Patient.birthDate")]
    told = too_old(person, pathway)
    return [Issue(told, "Patient.birthDate")] if told else []


def _records_lack(needs: list[Resource], host: Resource | None) -> list[Issue]:
    found = []
    if not needs:
        text = "No learning disability or autism is on record: write the confirmed Condition"
        found.append(Issue(text, "Condition.code"))
    if host is None:
        text = "It is not known who hosts keyworking: give 'host', or Patient.managingOrganization"
        found.append(Issue(text, "EpisodeOfCare.managingOrganization"))
    return found


def _referral(call: Call, person: Person, rating: Resource, needs: list[Resource]) -> Resource:
    user = call.session.caller.user
    requester = call.parameters.one("requester") if call.session.is_open or not user else None
    by_user = {"reference": user} if user else None
    found: Resource = {
        "resourceType": "ServiceRequest",
        "id": stable_id("referral", person.reference, str(call.now)),
        "status": "active",
        "intent": "order",
        "code": {"text": "Keyworking"},
        "subject": {"reference": person.reference},
        "authoredOn": local_time(call.now),
        "requester": requester or by_user or rating.get("author", {"display": "Not told"}),
        "performerType": {"coding": [{"system": canonicals.CARE_TEAM_ROLE, "code": "keyworker"}]},
        "reasonReference": [{"reference": reference_to(one)} for one in needs],
        "supportingInfo": [{"reference": reference_to(rating)}],
    }
    reason = plain(call.parameters.one("reason"))
    return {**found, "note": [{"text": reason}]} if reason else found


def _episode(call: Call, person: Person, referral: Resource, host: Resource) -> Resource:
    begun: Resource = {
        "resourceType": "EpisodeOfCare",
        "id": stable_id("episode", reference_to(referral)),
        "type": [{"coding": [{"system": canonicals.EPISODE_TYPE, "code": "keyworking"}]}],
        "patient": {"reference": person.reference},
        "managingOrganization": host,
        "period": {"start": local_day(call.now).isoformat()},
        "referralRequest": [{"reference": reference_to(referral)}],
        "diagnosis": [{"condition": one} for one in referral["reasonReference"]],
    }
    return moved(begun, REFERRED, "", call.now)
