"""Patient/$refer: a young person at risk is referred to keyworking.

Eligible is who is on the register with a rating that calls for it, has a learning disability or is
autistic, and is not too old: https://www.westyorkshirekeyworkerservice.org.uk.
"""

import re
from dataclasses import dataclass
from typing import Final

from fhir_server.access.caller import Role, keeps_records
from fhir_server.access.decision import Area, Decision, Right, Sight
from fhir_server.access.session import SessionUnit
from fhir_server.errors import FhirError, Issue, Kind
from fhir_server.fhir import canonicals
from fhir_server.fhir.json import Resource
from fhir_server.fhir.references import localised
from fhir_server.fhir.said import said
from fhir_server.operation.api import Call
from fhir_server.operation.pathway import Pathway
from fhir_server.operation.records import Records, reference_to, stable_id
from operations._ageing import too_old
from operations._diagnosis import is_eligible
from operations._host import is_professional
from operations._person import Person, colour_of, local_day, local_time
from operations._sender import codes_of
from operations.admission_risk import person_of
from operations.pathway.moving import moved
from operations.pathway.states import REFERRED

SCOPES: Final = ("Patient.r", "ServiceRequest.c", "EpisodeOfCare.c")
AS_SERVICE: Final = "a professional refers to keyworking"
"""Whoever refers sees the young person, and has no part in what the host does with it."""
_HOST: Final = "Parameters.parameter.where(name = 'host')"
_ODS: Final = re.compile(r"[A-Za-z0-9]{1,20}", re.ASCII)
_RATING: Final = "an active rating that calls for it"
_DIAGNOSIS: Final = "a confirmed Condition of learning disability or autism"
_NO_OTHER: Final = "that no involvement is open"


@dataclass(frozen=True, slots=True)
class _Sees:
    """What the caller may be told of why nobody is referred."""

    rating: bool = True
    record: bool = True


async def run(call: Call) -> Resource:
    sees = await _require_referrer(call)

    async def work(unit: SessionUnit) -> Resource:
        records = Records(unit, base=call.base, now=call.now, checker=call.checker)
        patient = await records.get("Patient", call.id)
        if patient is None:
            raise FhirError(Kind.NOT_FOUND, f"Patient/{call.id} is not known")
        await _require_other_host(call, records, patient)
        return await _refer(call, records, Person(records, patient, call.now), sees)

    return await call.as_service().commit("refer", work)


async def _require_referrer(call: Call) -> _Sees:
    """Raise unless the caller refers: a professional, or the client that keeps the record.

    Raises:
        FhirError: FORBIDDEN; NOT_FOUND for a young person whom they do not see.
    """
    caller = call.session.caller
    is_test = Role.LOAD_TEST in caller.roles
    may = is_professional(caller) or keeps_records(caller) or is_test
    if not (call.session.is_open or may):
        raise FhirError(
            Kind.FORBIDDEN,
            "A professional of an organisation, signed in, may refer, and the administrators' "
            "client of the organisation that manages the record",
        )
    await person_of(call)
    found = None if call.session.is_open or is_test else await call.session.explain(call.id)
    if found is None:
        return _Sees()
    decision: Decision = found.held.decision
    if not (is_professional(caller) or Right.IDENTITY in decision.rights):
        raise FhirError(Kind.FORBIDDEN, "Another organisation manages the record")
    return _Sees(
        decision.sight(Area.FLAG) is not Sight.NONE, decision.sight(Area.PLAN) is Sight.ALL
    )


async def _require_other_host(call: Call, records: Records, patient: Resource) -> None:
    """Raise for a referral to one's own organisation: the host takes part in what it hosts.

    Where it manages the record it is known to be in charge, whoever refers.

    Raises:
        FhirError: FORBIDDEN.
    """
    own, host = call.session.caller.organisation.upper(), _host(call)
    if call.session.is_open or host is None or Role.LOAD_TEST in call.session.caller.roles:
        return
    managing = patient.get("managingOrganization", {})
    if own not in await _codes(records, managing) and own in await _codes(records, host):
        raise FhirError.at(
            Kind.FORBIDDEN,
            _HOST,
            "Nobody refers to their own organisation, unless it manages the record",
        )


def _host(call: Call) -> Resource | None:
    """Who is to host it, named as it will be stored: this server's addresses are relative.

    Raises:
        FhirError: INVALID for what is no ODS code; with blanks around it, it names nobody.
    """
    named: Resource | None = call.parameters.one("host")
    identifier = (named or {}).get("identifier", {})
    code = str(identifier.get("value", ""))
    if identifier.get("system") == canonicals.ODS_ORGANIZATION and not _ODS.fullmatch(code):
        text = f"'{code[:40]}' is no ODS code: letters and digits alone are allowed, 20 at most"
        raise FhirError.at(Kind.INVALID, _HOST, text)
    return named and localised(named, call.base)


async def _codes(records: Records, organisation: Resource) -> set[str]:
    """Its ODS codes in capitals: access takes them without regard to case."""
    found = await codes_of(records, organisation)
    return {code.upper() for codes in found for code in codes}


async def _refer(call: Call, records: Records, person: Person, sees: _Sees) -> Resource:
    rating = next(iter(await person.active_ratings()), None)
    needs = [one for one in await person.conditions() if is_eligible(one)]
    host = _host(call) or person.patient.get("managingOrganization")
    rated = _rating_lacks(rating, call.pathway)
    recorded = _records_lack(needs, await person.episode())
    about = [*_person_lacks(person, call.pathway), *_host_lacks(host)]
    issues = _told(rated, about, recorded, sees)
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


def _told(
    rated: list[Issue], about: list[Issue], recorded: list[Issue], sees: _Sees
) -> list[Issue]:
    """All that stands against it; of what the caller does not see, that something does, and only
    where nothing else does.

    Else a referral that is bound to be refused would ask, as often as somebody likes, who has an
    involvement or a diagnosis; and one that is refused for either says which.
    """
    seen = [*(rated if sees.rating else ()), *about, *(recorded if sees.record else ())]
    if seen or not (rated or recorded):
        return seen
    needed = [] if sees.rating else [_RATING]
    needed += [] if sees.record else [_DIAGNOSIS, _NO_OTHER]
    text = f"What the caller may not see stands against it; needed are {', '.join(needed)}"
    return [Issue(text, "Patient")]


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


def _host_lacks(host: Resource | None) -> list[Issue]:
    if host is not None:
        return []
    text = "It is not known who hosts keyworking: give 'host', or Patient.managingOrganization"
    return [Issue(text, "EpisodeOfCare.managingOrganization")]


def _records_lack(needs: list[Resource], known: Resource | None) -> list[Issue]:
    found = []
    if not needs:
        text = "No learning disability or autism is on record: write the confirmed Condition"
        found.append(Issue(text, "Condition.code"))
    if known is not None:
        text = f"The young person is referred already: {reference_to(known)}"
        found.append(Issue(text, "EpisodeOfCare"))
    return found


def _referral(call: Call, person: Person, rating: Resource, needs: list[Resource]) -> Resource:
    found: Resource = {
        "resourceType": "ServiceRequest",
        "id": stable_id("referral", person.reference, str(call.now)),
        "status": "active",
        "intent": "order",
        "code": {"text": "Keyworking"},
        "subject": {"reference": person.reference},
        "authoredOn": local_time(call.now),
        "requester": _requester(call) or rating.get("author", {"display": "Not told"}),
        "performerType": {"coding": [{"system": canonicals.CARE_TEAM_ROLE, "code": "keyworker"}]},
        "reasonReference": [{"reference": reference_to(one)} for one in needs],
        "supportingInfo": [{"reference": reference_to(rating)}],
    }
    reason = said(call.parameters.one("reason"))
    return {**found, "note": [{"text": reason}]} if reason else found


def _requester(call: Call) -> Resource | None:
    """Who asks; who is named, where nobody is known to."""
    caller = call.session.caller
    if not call.session.is_open and caller.user:
        return {"reference": caller.user}
    if not call.session.is_open and keeps_records(caller):
        code = {"system": canonicals.ODS_ORGANIZATION, "value": caller.organisation}
        return {"identifier": code}
    named: Resource | None = call.parameters.one("requester")
    return named


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
