"""Whose an operation on an involvement is: the host's while nobody is allocated, else the table's.

Before a keyworker is there nobody has a part in the record by the decision table, and still
somebody has to take the referral up: a professional of the organisation that hosts keyworking.
"""

from fhir_server.access.caller import Caller, Role
from fhir_server.access.session import Session, SessionUnit
from fhir_server.errors import FhirError, Kind
from fhir_server.fhir import canonicals
from fhir_server.fhir.json import Resource
from fhir_server.fhir.references import parse_relative
from fhir_server.operation.api import Call
from fhir_server.operation.records import Lookup
from operations._identity import identifiers_of
from operations.pathway.states import BEFORE_KEYWORKING, is_keyworking, state_of


async def session_for(call: Call, *, allocates: bool = False) -> Session | SessionUnit:
    """With the service's rights for the host, where the involvement is the host's to move.

    Raises:
        FhirError: NOT_FOUND, for what the caller does not see as for what is not there.
    """
    if not call.session.is_open and is_professional(call.session.caller):
        elevated = call.as_service()
        lookup = Lookup(elevated, base=call.base, now=call.now)
        found = await lookup.get("EpisodeOfCare", call.id)
        if found and (allocates or state_of(found) in BEFORE_KEYWORKING):
            hosts = await _hosts(lookup, found)
            if call.session.caller.organisation in hosts:
                return elevated
    await involvement(Lookup(call.session, base=call.base, now=call.now), call.id)
    return call.session


def is_professional(caller: Caller) -> bool:
    """Somebody of an organisation, in person."""
    kind = caller.user.partition("/")[0]
    judged = caller.roles & {Role.COMMISSIONER, Role.LOAD_TEST}
    named = kind in ("Practitioner", "PractitionerRole") and bool(caller.organisation)
    return named and not judged


async def involvement(lookup: Lookup, episode_id: str) -> Resource:
    """The EpisodeOfCare.

    Raises:
        FhirError: NOT_FOUND; BUSINESS_RULE for one of something else than keyworking.
    """
    found = await lookup.get("EpisodeOfCare", episode_id)
    if found is None:
        raise FhirError(Kind.NOT_FOUND, f"EpisodeOfCare/{episode_id} is not known")
    if not is_keyworking(found):
        raise FhirError.at(
            Kind.BUSINESS_RULE,
            "EpisodeOfCare.type",
            f"EpisodeOfCare/{episode_id} is no involvement of keyworking; its type says so",
        )
    return found


async def _hosts(lookup: Lookup, episode: Resource) -> set[str]:
    """ODS codes of the organisation that hosts it."""
    organisation = episode.get("managingOrganization", {})
    local = parse_relative(organisation.get("reference", ""))
    there = await lookup.get(local.type, local.id) if local else None
    told = [*identifiers_of(organisation), *identifiers_of(there or {})]
    return {one["value"] for one in told if one["system"] == canonicals.ODS_ORGANIZATION}
