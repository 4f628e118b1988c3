"""Who wrote what came from outside: a Provenance beside the versions, in the same commit.

https://hl7.org/fhir/R4/provenance.html, profiles/kw-provenance. One is written for each sort of
change (created, updated, deleted), where the caller acts for an organisation. The patients are
among its targets, so that who may see the record may see who wrote it, and nobody else.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from fhir_server.access.audit.events import CLIENT
from fhir_server.access.caller import Caller
from fhir_server.fhir import canonicals
from fhir_server.fhir.dates import instant
from fhir_server.fhir.json import Resource
from fhir_server.fhir.references import new_id
from fhir_server.storage.interface import StoredVersion

TYPE: Final = "Provenance"
PROFILE: Final = canonicals.structure_definition("kw-provenance")
_ACTIVITIES: Final = ("CREATE", "UPDATE", "DELETE")


def provenances(
    caller: Caller,
    action: str,
    versions: Sequence[StoredVersion],
    patients: Sequence[str],
    *,
    by_rules: bool = False,
) -> Iterator[Resource]:
    """What is said of versions that one commit made: by the caller, or by the service's rules."""
    agents = [_service()] if by_rules else [_agent(caller)]
    for activity in _ACTIVITIES:
        of_these = [one for one in versions if _activity(one) == activity]
        if of_these:
            yield _provenance(agents, action, activity, of_these, patients)


def _activity(version: StoredVersion) -> str:
    if version.deleted:
        return "DELETE"
    return "CREATE" if version.version == 1 else "UPDATE"


def _provenance(
    agents: Sequence[Resource],
    action: str,
    activity: str,
    versions: Sequence[StoredVersion],
    patients: Sequence[str],
) -> Resource:
    made = [f"{one.type}/{one.id}/_history/{one.version}" for one in versions]
    return {
        "resourceType": TYPE,
        "id": new_id(),
        "meta": {"profile": [PROFILE]},
        "target": [{"reference": name} for name in (*made, *(f"Patient/{p}" for p in patients))],
        "recorded": instant(max(one.last_updated for one in versions)),
        "activity": {
            "coding": [{"system": canonicals.DATA_OPERATION, "code": activity}],
            "text": action,
        },
        "agent": [*agents],
    }


def _service() -> Resource:
    """The service itself, whose rules wrote what follows from what somebody else did."""
    coding = {"system": canonicals.PROVENANCE_PARTICIPANT, "code": "assembler"}
    return {
        "type": {"coding": [coding]},
        "who": {"type": "Device", "display": "The keyworking service, by its rules"},
    }


def _agent(caller: Caller) -> Resource:
    system = canonicals.PROVENANCE_PARTICIPANT
    by_user = "/" in caller.user
    client = {"system": CLIENT, "value": caller.client or caller.name}
    organisation = {"system": canonicals.ODS_ORGANIZATION, "value": caller.organisation}
    return {
        "type": {"coding": [{"system": system, "code": "author" if by_user else "enterer"}]},
        "who": {"reference": caller.user} if by_user else {"type": "Device", "identifier": client},
        "onBehalfOf": {"type": "Organization", "identifier": organisation},
    }
