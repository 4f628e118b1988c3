"""Who may tell of a stay: the organisation itself, under its own token.

A message is stored with the service's rights, so its sender is checked first, and what its answer
says is what a unit may know that is told nothing of the young person: row 6 of
docs/decision-table.md.
"""

from collections.abc import Iterator

from fhir_server.access.caller import Caller, Role
from fhir_server.access.labels import is_test_data
from fhir_server.errors import FhirError, Kind
from fhir_server.fhir import canonicals
from fhir_server.fhir.json import Resource
from fhir_server.fhir.references import parse_relative
from fhir_server.operation.records import Records
from operations._identity import identified, identifiers_of
from operations._message import Message, unversioned


async def require_sender(records: Records, message: Message, caller: Caller) -> None:
    """Raise unless the sender's ODS code is that of the token, and the stay the sender's own.

    A load test plays many units.

    Raises:
        FhirError: FORBIDDEN.
    """
    if Role.LOAD_TEST in caller.roles:
        return
    codes = await _codes(records, message, message.sender)
    if not caller.organisation or codes != {caller.organisation}:
        raise FhirError.at(
            Kind.FORBIDDEN,
            f"{message.header.expression}.sender",
            "The sender of a message is the organisation of the token, named by its ODS code",
        )
    for part in message.parts:
        if is_test_data(part.resource):
            raise FhirError.at(
                Kind.FORBIDDEN,
                f"{part.expression}.meta.tag",
                "The tag HTEST marks what load tests send, and shows it to them",
            )
    known = await identified(records, message.encounter) or {}
    for stay in (message.encounter.resource, known):
        codes = await _codes(records, message, stay.get("serviceProvider", {}))
        if codes and caller.organisation not in codes:
            raise FhirError.at(
                Kind.FORBIDDEN,
                f"{message.encounter.expression}.serviceProvider",
                "A unit tells of stays with its own organisation, that of the token",
            )


async def _codes(records: Records, message: Message, organisation: Resource) -> set[str]:
    """ODS codes by which a reference names an organisation, and those of what it refers to."""
    found = [*_ods([organisation.get("identifier", {})])]
    reference = unversioned(organisation.get("reference", ""))
    for part in message.parts:
        if reference in part.names:
            return {*found, *_ods(identifiers_of(part.resource))}
    local = parse_relative(reference)
    there = await records.get(local.type, local.id) if local else None
    return {*found, *_ods(identifiers_of(there or {}))}


def _ods(identifiers: list[Resource]) -> Iterator[str]:
    for identifier in identifiers:
        if identifier.get("system") == canonicals.ODS_ORGANIZATION and identifier.get("value"):
            yield str(identifier["value"])


def brief(answer: Resource) -> Resource:
    """That it is stored, and what is wrong with the message itself: no effect of it."""
    first, *rest = answer["issue"]
    told = [first, *(issue for issue in rest if issue.get("severity") != "information")]
    return {**answer, "issue": told}
