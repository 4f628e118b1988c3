"""Patient/$explain-access: which row of the decision table holds for somebody, and why.

It is told to auditors and the keyworker about anybody, to others about themselves, and to nobody
else: for them there is no such patient (docs/access.md).
"""

from typing import Any, Final

from fhir_server.access.caller import Caller, Role
from fhir_server.access.decision import Decision, Sight
from fhir_server.errors import FhirError, Kind
from fhir_server.fhir.dates import instant
from fhir_server.fhir.json import Resource
from fhir_server.fhir.references import parse_relative
from fhir_server.operation.api import Call

SCOPES = ("Patient.r",)
_USERS: Final = ("Practitioner", "PractitionerRole", "Patient", "RelatedPerson")


async def run(call: Call) -> Resource:
    if call.session.is_open:
        raise FhirError(
            Kind.UNSUPPORTED, "This server is open: everybody sees everything, by no decision"
        )
    found = await call.session.explain(call.id, _other(call))
    if found is None:
        raise FhirError(Kind.NOT_FOUND, f"Patient/{call.id} is not known")
    held = found.held
    parameters: list[dict[str, Any]] = [{"name": "row", "valueInteger": held.decision.row}]
    parameters += _allowed(held.decision)
    if held.consent:
        parameters.append({"name": "consent", "valueReference": {"reference": held.consent}})
    if held.since:
        parameters.append({"name": "since", "valueInstant": instant(held.since)})
    parameters += [
        {
            "name": "before",
            "part": [{"name": "row", "valueInteger": row}, {"name": "reason", "valueString": why}],
        }
        for row, why in found.reasons
    ]
    return {"resourceType": "Parameters", "parameter": parameters}


def _other(call: Call) -> Caller | None:
    """Whom it is asked about, None for whoever asks.

    Raises:
        FhirError: INVALID.
    """
    user = str(call.parameters.one("caller") or "")
    organisation = str(call.parameters.one("organisation") or "")
    roles = _roles(call)
    if not user and not organisation and not roles:
        return None
    named = parse_relative(user)
    if user and (named is None or named.type not in _USERS or named.version is not None):
        raise FhirError.at(
            Kind.INVALID,
            "http.caller",
            f"'{user}' is no user; a reference to {', '.join(_USERS)} is, such as Practitioner/12",
        )
    purpose = str(call.parameters.one("purpose") or "")
    name = f"{user}@{organisation}"
    return Caller(name, user=user, organisation=organisation, roles=roles, purpose=purpose)


def _roles(call: Call) -> frozenset[Role]:
    """
    Raises:
        FhirError: INVALID.
    """
    told = frozenset(map(str, call.parameters.all("role")))
    known = {role.value: role for role in Role}
    unknown = sorted(told - known.keys())
    if unknown:
        text = f"'{unknown[0]}' is no role of a token; {', '.join(known)} are"
        raise FhirError.at(Kind.INVALID, "http.role", text)
    return frozenset(known[one] for one in told)


def _allowed(decision: Decision) -> list[dict[str, Any]]:
    sees: list[dict[str, Any]] = [
        {
            "name": "sees",
            "part": [
                {"name": "area", "valueCode": area.value},
                {"name": "sight", "valueCode": sight.name.lower()},
            ],
        }
        for area, sight in decision.reads
        if sight is not Sight.NONE
    ]
    written = [one.value for one in (*decision.writes, *decision.rights)]
    return sees + [{"name": "writes", "valueCode": one} for one in sorted(written)]
