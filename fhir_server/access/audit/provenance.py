"""Who wrote what came from outside: a Provenance beside the versions, in the same commit.

https://hl7.org/fhir/R4/provenance.html, profiles/kw-provenance. One is written for each sort of
change (created, updated, deleted), where the caller acts for an organisation. The patients are
among its targets, and the labels of its targets its own, so that who may see what was written may
see who wrote it, and nobody else.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from fhir_server.access.audit.events import CLIENT
from fhir_server.access.audit.record import patients_of
from fhir_server.access.caller import Caller
from fhir_server.access.labels import labels_of
from fhir_server.fhir import canonicals, json
from fhir_server.fhir.dates import instant
from fhir_server.fhir.json import Resource
from fhir_server.fhir.references import new_id
from fhir_server.storage.interface import StoredVersion

TYPE: Final = "Provenance"
PROFILE: Final = canonicals.structure_definition("kw-provenance")
_ACTIVITIES: Final = ("CREATE", "UPDATE", "DELETE")
_Labels = tuple[tuple[str, str], ...]
_Group = tuple[str, tuple[str, ...], _Labels]
"""Sort of change, ids of patients, security labels."""


def provenances(
    caller: Caller,
    action: str,
    made: Sequence[StoredVersion],
    gone: Sequence[StoredVersion],
    *,
    by_rules: bool = False,
) -> Iterator[Resource]:
    """What is said of versions that one commit made: by the caller, or by the service's rules.

    One for each sort of change, and for what is about the same patients under the same labels: who
    may not see the one thing learns nothing of it by the other. What is about nobody goes with the
    whole commit.

    Args:
        gone: what was there before deletions, which say nothing of themselves.
    """
    agents = [_service()] if by_rules else [_agent(caller)]
    everybody = patients_of([*made, *gone])
    was = {(one.type, one.id): one for one in gone}
    several: dict[_Group, list[StoredVersion]] = {}
    for one in made:
        said = was.get((one.type, one.id), one) if one.deleted else one
        group = (_activity(one), tuple(patients_of([said]) or everybody), _labels(said))
        several.setdefault(group, []).append(one)
    for group in sorted(several, key=lambda group: _ACTIVITIES.index(group[0])):
        yield _provenance(agents, action, group, several[group])


def _labels(version: StoredVersion) -> _Labels:
    if b'"security"' not in version.body:
        return ()
    return tuple(sorted(labels_of(json.decode_own(version.body))))


def _activity(version: StoredVersion) -> str:
    if version.deleted:
        return "DELETE"
    return "CREATE" if version.version == 1 else "UPDATE"


def _provenance(
    agents: Sequence[Resource], action: str, group: _Group, versions: Sequence[StoredVersion]
) -> Resource:
    activity, patients, labels = group
    made = [f"{one.type}/{one.id}/_history/{one.version}" for one in versions]
    return {
        "resourceType": TYPE,
        "id": new_id(),
        "meta": {"profile": [PROFILE], **_labelled(labels)},
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
        "who": {
            "type": "Device",
            "identifier": {"system": CLIENT, "value": "keyworking-service"},
            "display": "The keyworking service, by its rules",
        },
    }


def _labelled(labels: _Labels) -> Resource:
    """As what it is about; a label has a system, a code or both."""
    told = [{"system": system, "code": code} for system, code in labels]
    kept = [{name: value for name, value in one.items() if value} for one in told]
    return {"security": kept} if kept else {}


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
