"""operation: $name on the system, a type or a resource.

https://hl7.org/fhir/R4/operations.html
"""

from dataclasses import replace

from fhir_server.access.session import Session, SessionUnit
from fhir_server.errors import FhirError, Kind
from fhir_server.fhir import json
from fhir_server.fhir.json import Resource
from fhir_server.interactions import paging
from fhir_server.interactions.content import check
from fhir_server.interactions.exchange import Answer, Request
from fhir_server.interactions.repeats import once
from fhir_server.interactions.routing import refuse_parameters
from fhir_server.operation.api import Call
from fhir_server.operation.parameters import Inputs, from_body, from_query
from fhir_server.operation.registry import Operation


async def perform(session: Session, request: Request) -> Answer:
    operation = _operation(request)
    token = paging.token(request) if operation.paged else None
    call = Call(
        session=session,
        base=request.server.base,
        now=request.server.clock(),
        resource_type=request.resource_type,
        id=request.id,
        parameters=_inputs(operation, request) if token is None else Inputs({}),
        code=operation.code,
        pages=paging.pages(request.server, session),
        limits=request.server.limits,
    )
    if token is not None:
        call = replace(call, page=call.pages.opened(call.address, token))
    if request.repeat is None or not operation.affects_state:
        return await _performed(operation, call)

    async def work(unit: SessionUnit) -> Answer:
        return await once(unit, request, lambda: _performed(operation, replace(call, session=unit)))

    return await session.commit(operation.code, work)


async def _performed(operation: Operation, call: Call) -> Answer:
    result = await operation.run(call)
    return Answer(200, body=result if isinstance(result, bytes) else json.encode(result))


def _inputs(operation: Operation, request: Request) -> Inputs:
    body = _checked_body(request)
    if body is None:
        return from_query(operation.definition, request.parameters)
    refuse_parameters("an operation with a body", request)
    return from_body(operation.definition, body)


def _operation(request: Request) -> Operation:
    level = "instance" if request.id else "type" if request.resource_type else "system"
    found = request.server.operations.find(request.operation, level, request.resource_type)
    if found is None:
        place = "/".join(part for part in (request.resource_type, request.id) if part)
        raise FhirError(
            Kind.NOT_FOUND,
            f"There is no operation ${request.operation} on {place or 'the system'}",
        )
    if request.method in ("GET", "HEAD") and found.affects_state:
        raise FhirError(
            Kind.METHOD_NOT_ALLOWED,
            f"${request.operation} changes what is stored; POST is allowed, GET is not",
            allowed_methods=("POST",),
        )
    return found


def _checked_body(request: Request) -> Resource | None:
    if request.resource is None:
        return None
    check(request.resource, str(request.resource.get("resourceType")))
    return request.resource
