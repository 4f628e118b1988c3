"""EpisodeOfCare/$allocate: a young person is matched with a keyworker, or another takes over.

A caseload is small, so that keyworking can be intensive: about ten, in the pilot of Birmingham and
Solihull (https://www.birminghamandsolihullccg.nhs.uk/our-work/key-worker-pilot).
"""

from typing import Any, Final

from fhir_server.errors import FhirError, Kind
from fhir_server.fhir import json
from fhir_server.fhir.json import Resource
from fhir_server.fhir.references import parse_local
from fhir_server.fhir.said import said
from fhir_server.operation.api import Call
from fhir_server.operation.records import Lookup, Records, walked
from fhir_server.search.parse import parse
from operations._host import session_for
from operations._person import refers
from operations.pathway.moving import move, moved
from operations.pathway.states import INFORMATION_GATHERING, UNDER_WAY, is_keyworking, state_of

SCOPES: Final = ("EpisodeOfCare.ru",)
AS_SERVICE: Final = "the host allocates a keyworker"
"""Whoever is not the keyworker yet has no part in the record; nor sees who else they work with."""
_PLACE: Final = "Parameters.parameter.where(name = 'keyworker')"


async def run(call: Call) -> Resource:
    session, reason = await session_for(call, allocates=True), said(call.parameters.one("reason"))
    keyworker = await _keyworker(call)
    count = await _others(call, keyworker) + 1
    bounds = call.pathway
    if count > bounds.caseload_limit and not reason:
        raise FhirError.at(
            Kind.BUSINESS_RULE,
            _PLACE,
            f"With this one the keyworker would have {count} involvements, above "
            f"{bounds.caseload_limit}: give a reason, or choose somebody else",
        )

    async def prepare(records: Records, before: Resource) -> Resource:  # noqa: ARG001
        link = {"reference": f"{keyworker['resourceType']}/{keyworker['id']}"}
        after = {**before, "careManager": link}
        under_way = state_of(before) in UNDER_WAY
        return after if under_way else moved(after, INFORMATION_GATHERING, reason, call.now)

    return _answer(await move(call, session, prepare), count, bounds.caseload_warning)


def _answer(episode: Resource, count: int, enough: int) -> Resource:
    found: list[dict[str, Any]] = [
        {"name": "episode", "resource": episode},
        {"name": "caseload", "valueInteger": count},
    ]
    if count > enough:
        text = f"The keyworker has {count} involvements with this one; up to {enough} are advised"
        found.append({"name": "warning", "valueString": text})
    return {"resourceType": "Parameters", "parameter": found}


async def _keyworker(call: Call) -> Resource:
    """Who is named.

    Raises:
        FhirError: BUSINESS_RULE unless it is somebody who is known here and at work.
    """
    text = str(call.parameters.one("keyworker").get("reference", ""))
    local = parse_local(text, call.base)
    if local is None or local.type not in ("PractitionerRole", "Practitioner"):
        raise FhirError.at(
            Kind.BUSINESS_RULE,
            _PLACE,
            f"'{text}' is no keyworker; a reference to a PractitionerRole or Practitioner is "
            "expected",
        )
    found = await Lookup(call.session, base=call.base, now=call.now).get(local.type, local.id)
    if found is None or found.get("active") is False:
        problem = "is not known" if found is None else "is not active"
        raise FhirError.at(Kind.BUSINESS_RULE, _PLACE, f"{local} {problem}")
    return found


async def _others(call: Call, keyworker: Resource) -> int:
    """Involvements under way that are theirs, in this post or in person, but this one."""
    service = call.as_service()
    query = parse(
        "EpisodeOfCare",
        [("status", "active,onhold")],
        base=call.base,
        now=call.now,
        known=await service.parameters(),
    ).query
    count = 0
    async for version in walked(service, query):
        episode = json.decode_resource(version.body)
        manager = episode.get("careManager")
        count += is_keyworking(episode) and episode["id"] != call.id and _is(manager, keyworker)
    return count


def _is(manager: Resource | None, keyworker: Resource) -> bool:
    person = keyworker.get("practitioner", {}).get("reference", "")
    in_person = person != "" and (manager or {}).get("reference") == person
    return refers(manager, keyworker) or in_person
