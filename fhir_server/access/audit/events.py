"""A row of the audit as an AuditEvent of the project's profile.

https://hl7.org/fhir/R4/auditevent.html, profiles/kw-audit-event.
"""

import base64
from collections.abc import Iterator
from typing import Any, Final

from fhir_server.fhir import canonicals
from fhir_server.fhir.dates import instant
from fhir_server.fhir.json import Resource
from fhir_server.storage.audited import AuditEntry, AuditRow

TYPE: Final = "AuditEvent"
PROFILE: Final = canonicals.structure_definition("kw-audit-event")
CALLER: Final = f"{canonicals.KW}/NamingSystem/caller"
CLIENT: Final = f"{canonicals.KW}/NamingSystem/client"
RECORD: Final = f"{canonicals.KW}/NamingSystem/record"
REQUEST: Final = f"{canonicals.KW}/NamingSystem/request"
_EVENT: Final = {
    "system": "http://terminology.hl7.org/CodeSystem/audit-event-type",
    "code": "rest",
    "display": "RESTful Operation",
}
_INTERACTIONS: Final = "http://hl7.org/fhir/restful-interaction"
_SOURCE: Final = {
    "observer": {"display": "Keyworking FHIR server"},
    "type": [
        {
            "system": "http://terminology.hl7.org/CodeSystem/security-source-type",
            "code": "4",
            "display": "Application Server",
        }
    ],
}
_ENTITY: Final = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
_ROLE: Final = "http://terminology.hl7.org/CodeSystem/object-role"
_REASON: Final = canonicals.ACT_REASON
_ROLES: Final = canonicals.code_system("caller-role")
_NETWORK_ADDRESS: Final = "2"
"""http://hl7.org/fhir/R4/valueset-network-type.html"""
_ACTIONS: Final = {
    **dict.fromkeys(("create",), "C"),
    **dict.fromkeys(("update", "patch"), "U"),
    **dict.fromkeys(("delete",), "D"),
    **dict.fromkeys(("read", "vread", "capabilities"), "R"),
    **dict.fromkeys(("history-instance", "history-type", "history-system"), "R"),
    **dict.fromkeys(("search-type", "search-system"), "E"),
    **dict.fromkeys(("transaction", "batch"), "E"),
}
"""http://hl7.org/fhir/R4/valueset-audit-event-action.html: a search is executed."""
_EXECUTED: Final = "E"
_SUBTYPES: Final = {"search-compartment": "search-type", "unknown": "operation"}


def event_of(entry: AuditEntry) -> Resource:
    """The AuditEvent of a row; of one that cannot be read, what is left to say."""
    try:
        row = entry.row
    except ValueError:
        row = AuditRow("unknown", "unknown", outcome="12", description="The row cannot be read")
    return _event(entry, row)


def _event(entry: AuditEntry, row: AuditRow) -> Resource:
    recorded = instant(entry.link.at)
    subtype = _SUBTYPES.get(row.action, row.action)
    code = subtype if subtype in _ACTIONS else "operation"
    told: Resource = {
        "resourceType": TYPE,
        "id": str(entry.link.number),
        "meta": {"versionId": "1", "lastUpdated": recorded, "profile": [PROFILE]},
        "type": _EVENT,
        "subtype": [{"system": _INTERACTIONS, "code": code}],
        "action": _ACTIONS.get(row.action, _EXECUTED),
        "recorded": recorded,
        "outcome": row.outcome,
        "outcomeDesc": row.description,
        "purposeOfEvent": [*_purposes(row)],
        "agent": [*_agents(row)],
        "source": _SOURCE,
        "entity": [*_entities(row)],
    }
    return {name: value for name, value in told.items() if value not in ("", [])}


def _purposes(row: AuditRow) -> Iterator[Resource]:
    if row.purpose:
        yield {"coding": [{"system": _REASON, "code": row.purpose}]}
    if row.break_glass:
        yield {"coding": [{"system": _REASON, "code": "BTG"}], "text": row.break_glass}


def _agents(row: AuditRow) -> Iterator[Resource]:
    """Who asked, and for whom: the user or the system by itself, its client, the organisation."""
    kind, slash, _ = row.user.partition("/")
    who: Resource = {"type": kind if slash else "Device", "identifier": _named(CALLER, row.caller)}
    if slash:
        who["reference"] = row.user
    agent: Resource = {"who": who, "requestor": True}
    if row.roles:
        agent["role"] = [{"coding": [{"system": _ROLES, "code": role}]} for role in row.roles]
    if row.address:
        agent["network"] = {"address": row.address, "type": _NETWORK_ADDRESS}
    yield agent
    if row.client:
        yield _beside("Device", CLIENT, row.client)
    if row.organisation:
        yield _beside("Organization", canonicals.ODS_ORGANIZATION, row.organisation)


def _beside(kind: str, system: str, value: str) -> Resource:
    return {"who": {"type": kind, "identifier": _named(system, value)}, "requestor": False}


def _named(system: str, value: str) -> dict[str, str]:
    return {"system": system, "value": value or "unknown"}


def _entities(row: AuditRow) -> Iterator[Resource]:
    """What was asked, what it was about, and whom."""
    yield _query(row)
    named = set()
    for target in row.targets:
        name = target.partition("/_history/")[0]
        named.add(name)
        yield _entity(target, name)
    for patient in row.patients:
        name = f"Patient/{patient}"
        if name not in named:
            yield _entity(name, name)


def _query(row: AuditRow) -> Resource:
    found: Resource = {
        "what": {"identifier": _named(REQUEST, row.request_id)},
        "type": {"system": _ENTITY, "code": "2", "display": "System Object"},
        "role": {"system": _ROLE, "code": "24", "display": "Query"},
        "detail": [*_details(row)],
    }
    if row.asked:
        found["query"] = base64.b64encode(row.asked.encode()).decode()
    return found


def _details(row: AuditRow) -> Iterator[Any]:
    yield {"type": "action", "valueString": row.action}
    if row.asked:
        yield {"type": "asked", "valueString": row.asked}
    if row.further:
        yield {"type": "further targets", "valueString": str(row.further)}
    for one in row.received:
        yield {"type": "received", "valueString": one}


def _entity(reference: str, name: str) -> Resource:
    resource_type = name.partition("/")[0]
    is_patient = resource_type == "Patient"
    return {
        "what": {
            "reference": reference,
            "type": resource_type,
            "identifier": _named(RECORD, name),
        },
        "type": {
            "system": _ENTITY,
            "code": "1" if is_patient else "2",
            "display": "Person" if is_patient else "System Object",
        },
        "role": {
            "system": _ROLE,
            "code": "1" if is_patient else "4",
            "display": "Patient" if is_patient else "Domain Resource",
        },
    }
