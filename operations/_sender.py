"""Who may tell of a stay: the organisation itself, under its own token.

A message is stored with the service's rights, so its sender is checked first, and what its answer
says is what a unit may know that is told nothing of the young person: row 6 of
docs/decision-table.md.
"""

from collections.abc import Iterator, Sequence, Set

from fhir_server.access.caller import Caller, Role
from fhir_server.access.labels import is_test_data
from fhir_server.errors import FhirError, Kind
from fhir_server.fhir import canonicals
from fhir_server.fhir.json import Resource
from fhir_server.fhir.references import parse_relative
from fhir_server.operation.records import Records
from operations._identity import identifiers_of, shared
from operations._message import Message, unversioned


async def require_sender(
    records: Records, message: Message, caller: Caller, units: Set[str]
) -> None:
    """Raise unless the sender's ODS code is that of the token, and the stay the sender's own.

    A load test plays many units.

    Args:
        units: ODS codes of those who may tell of stays; empty where any organisation may.

    Raises:
        FhirError: FORBIDDEN.
    """
    if Role.LOAD_TEST in caller.roles:
        return
    if units and caller.organisation.upper() not in units:
        raise FhirError.at(
            Kind.FORBIDDEN,
            f"{message.header.expression}.sender",
            "The organisation of the token is none of the inpatient units, who tell of stays",
        )
    codes = await _told_codes(records, message, message.sender)
    if not caller.organisation or not codes or not _all_have(codes, caller.organisation):
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
    provider = message.encounter.resource.get("serviceProvider", {})
    if not _all_have(await _told_codes(records, message, provider), caller.organisation):
        raise FhirError.at(
            Kind.FORBIDDEN,
            f"{message.encounter.expression}.serviceProvider",
            "A unit tells of stays with its own organisation, that of the token",
        )


def _all_have(codes: Sequence[set[str]], code: str) -> bool:
    return all(code in some for some in codes)


async def codes_of(records: Records, organisation: Resource) -> list[set[str]]:
    """ODS codes by which a stored reference names an organisation, in each way that it has some."""
    local = parse_relative(unversioned(organisation.get("reference", "")))
    there = await records.get(local.type, local.id) if local else None
    return _named(organisation, identifiers_of(there or {}))


async def _told_codes(records: Records, message: Message, organisation: Resource) -> list[set[str]]:
    """The same of a message's reference: what it holds may be known here as something else."""
    reference = unversioned(organisation.get("reference", ""))
    for part in message.parts:
        if reference in part.names:
            known = await shared(records, part) or {}
            told = _named(organisation, identifiers_of(part.resource))
            return [*told, *_named({}, identifiers_of(known))]
    return await codes_of(records, organisation)


def _named(reference: Resource, identifiers: list[Resource]) -> list[set[str]]:
    ways = ([reference.get("identifier", {})], identifiers)
    return [codes for codes in (set(_ods(way)) for way in ways) if codes]


def _ods(identifiers: list[Resource]) -> Iterator[str]:
    for identifier in identifiers:
        if identifier.get("system") == canonicals.ODS_ORGANIZATION and identifier.get("value"):
            yield str(identifier["value"])


def brief(answer: Resource) -> Resource:
    """That it is stored, and what is wrong with the message itself: no effect of it."""
    first, *rest = answer["issue"]
    told = [first, *(issue for issue in rest if issue.get("severity") != "information")]
    return {**answer, "issue": told}
