"""Conditional interactions: the resource is named by criteria and not by its id.

https://hl7.org/fhir/R4/http.html#cond-update, #ccreate. The criteria are decided in the commit
that writes, so that no race makes two where one was meant.
"""

from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import parse_qsl

from fhir_server.access.session import Data, StoredVersion
from fhir_server.errors import FhirError, Kind
from fhir_server.fhir.definitions import is_resource_type
from fhir_server.fhir.references import new_id
from fhir_server.interactions.exchange import Request, Server
from fhir_server.search.ast import Query
from fhir_server.search.parse import parse_criteria

_NOT_CRITERIA = ("_format", "_pretty")


async def matches(
    data: Data, request: Request, parameters: Sequence[tuple[str, str]], most: int
) -> Sequence[StoredVersion]:
    """At most `most` resources that the criteria find.

    Raises:
        FhirError: INVALID for what is no criteria, or none at all.
    """
    criteria = [pair for pair in parameters if pair[0] not in _NOT_CRITERIA]
    server = request.server
    where = parse_criteria(
        request.resource_type,
        criteria,
        base=server.base,
        now=server.clock(),
        limits=server.limits,
        known=await data.parameters(),
    )
    page = await data.search(Query(request.resource_type, where), most)
    return page.matches


async def only_match(
    data: Data, request: Request, parameters: Sequence[tuple[str, str]], expression: str
) -> StoredVersion | None:
    """The one resource that the criteria find, None where they find none.

    Raises:
        FhirError: MULTIPLE_MATCHES; INVALID.
    """
    found = await matches(data, request, parameters, 2)
    if len(found) > 1:
        raise FhirError.at(
            Kind.MULTIPLE_MATCHES,
            expression,
            f"More than one {request.resource_type} matches the criteria; "
            "criteria that find at most one are expected",
        )
    return found[0] if found else None


async def referred(data: Data, server: Server, text: str, place: str) -> str:
    """`Type/id` of the one resource that a reference `Type?criteria` finds.

    Raises:
        FhirError: PRECONDITION_FAILED where it finds none; MULTIPLE_MATCHES; INVALID for what
            is no type or no criteria.
    """
    resource_type, _, query = text.partition("?")
    if not is_resource_type(resource_type):
        raise FhirError.at(Kind.INVALID, place, f"'{resource_type}' is not a resource type of R4")
    request = Request(server, resource_type)
    criteria = parse_qsl(query, keep_blank_values=True)
    try:
        found = await only_match(data, request, criteria, place)
    except FhirError as error:
        issues = [replace(issue, expression=place) for issue in error.issues]
        raise FhirError.of(error.kind, issues) from None
    if found is None:
        raise FhirError.at(Kind.PRECONDITION_FAILED, place, f"'{text}' finds nothing")
    return f"{found.type}/{found.id}"


async def resolve_create(data: Data, request: Request) -> Request:
    """With what `If-None-Exist` finds, if anything."""
    if request.if_none_exist is None:
        return request
    criteria = parse_qsl(request.if_none_exist.lstrip("?"), keep_blank_values=True)
    return request.having(matched=await only_match(data, request, criteria, "http.If-None-Exist"))


async def resolve_update(data: Data, request: Request) -> Request:
    """Under the id of the match; without one, under the resource's own id or a new one.

    Raises:
        FhirError: INVALID when the resource has another id than the match.
    """
    found = await only_match(data, request, request.parameters, "http.criteria")
    given = (request.resource or {}).get("id")
    if found is not None and given not in (None, found.id):
        raise FhirError.at(
            Kind.INVALID,
            f"{request.resource_type}.id",
            f"The resource has the id '{given}'; the criteria find '{found.id}'",
        )
    resource_id = found.id if found is not None else given or new_id()
    resource = {**(request.resource or {}), "id": resource_id}
    return request.having(id=resource_id, resource=resource, matched=found)


async def resolve_patch(data: Data, request: Request) -> Request:
    """Under the id of the match.

    Raises:
        FhirError: NOT_FOUND without one.
    """
    found = await only_match(data, request, request.parameters, "http.criteria")
    if found is None:
        raise FhirError(Kind.NOT_FOUND, f"No {request.resource_type} matches the criteria")
    return request.having(id=found.id, matched=found)


async def resolve_delete(data: Data, request: Request) -> Request:
    """Under the id of the match, or under none: then there is nothing to delete.

    Where the server deletes several at once, that is left to the interaction.
    """
    if request.server.conditional_delete == "multiple":
        return request
    found = await only_match(data, request, request.parameters, "http.criteria")
    return request if found is None else request.having(id=found.id, matched=found)
