"""operation: $name on the system, a type or a resource.

https://hl7.org/fhir/R4/operations.html
"""

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlencode

from fhir_server.access.session import Session, SessionUnit
from fhir_server.errors import FhirError, Kind
from fhir_server.fhir import json
from fhir_server.fhir.definitions import is_resource_type
from fhir_server.fhir.json import Resource
from fhir_server.fhir.references import new_id
from fhir_server.interactions import paging
from fhir_server.interactions.asynchronous import NDJSON, accepted
from fhir_server.interactions.content import (
    check,
    checked,
    draft,
    require_one_person,
    settle,
    settled,
)
from fhir_server.interactions.exchange import Answer, Repeat, Request, Server
from fhir_server.interactions.repeats import once
from fhir_server.interactions.routing import checking, refuse_parameters
from fhir_server.jobs import desk
from fhir_server.jobs.desk import Asking
from fhir_server.jobs.record import REQUEST, Job
from fhir_server.jobs.runner import Step, Work
from fhir_server.operation.api import Call, Prepared, Task, Written
from fhir_server.operation.parameters import Inputs, from_body, from_query
from fhir_server.operation.registry import Operation
from fhir_server.validation.report import Question


async def perform(session: Session, request: Request) -> Answer:
    operation = _operation(request)
    lines = _lines(operation, request)
    token = paging.token(request) if operation.paged else None
    call = Call(
        session=session,
        base=request.server.base,
        now=request.server.clock(),
        resource_type=request.resource_type,
        id=request.id,
        parameters=await _inputs(session, operation, request) if token is None else Inputs({}),
        code=operation.code,
        media=request.media,
        pages=paging.pages(request.server, session),
        limits=request.server.limits,
        definition=operation.definition["url"],
        desk=request.server.desk,
        query=urlencode(request.parameters),
        respond_async=request.preferences.respond_async,
        lines=lines,
        max_line=request.server.max_body,
        max_lines=request.server.max_import,
        import_from=request.server.import_from,
        checker=request.server.checker,
        glass_minutes=request.server.glass_minutes,
        inpatient_units=request.server.inpatient_units,
        pathway=request.server.pathway,
        only_reads=not operation.writes_by(request.method),
        service_reason=operation.as_service,
    )
    if token is not None:
        call = replace(call, page=call.pages.opened(call.address, token))
    if request.repeat is not None and lines is not None:
        return await _taken_once(operation, call, request, request.repeat)
    if request.repeat is None or not operation.writes_by(request.method):
        return await _performed(operation, call, request.server)

    async def work(unit: SessionUnit) -> Answer:
        return await once(
            unit,
            request,
            lambda: _performed(operation, replace(call, session=unit), request.server),
        )

    return await session.commit(operation.code, work)


class _SentBefore(Exception):
    """The same lines came before; what was kept of these may go."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.answer = answer


async def _taken_once(operation: Operation, call: Call, request: Request, asked: Repeat) -> Answer:
    """Whether lines came before shows when the last has come: then the job starts, or does not."""
    digest = hashlib.sha256(asked.digest)

    async def counted(lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for piece in lines:
            digest.update(piece)
            yield piece

    async def starting(start: Callable[[Asking], Awaitable[Job]]) -> Job:
        whole = replace(request, repeat=replace(asked, digest=digest.digest()))

        async def work(unit: SessionUnit) -> tuple[Answer, Job | None]:
            job: Job | None = None

            async def accept() -> Answer:
                nonlocal job
                job = await start(unit)
                return accepted(request.server, job)

            return await once(unit, whole, accept), job

        answer, job = await call.session.commit("job", work)
        if job is None:
            raise _SentBefore(answer)
        return job

    lines = None if call.lines is None else counted(call.lines)
    try:
        return await _performed(
            operation, replace(call, lines=lines, starting=starting), request.server
        )
    except _SentBefore as before:
        return before.answer


async def _performed(operation: Operation, call: Call, server: Server) -> Answer:
    try:
        result = await operation.run(call)
    except FhirError as error:
        raise call.parameters.placed(error) from error
    if isinstance(result, Written):
        return Answer(200, body=result.body, media_type=result.media_type, headers=result.headers)
    if isinstance(result, Job):
        return accepted(server, result)
    return Answer(200, body=result if isinstance(result, bytes) else json.encode(result))


async def _inputs(session: Session, operation: Operation, request: Request) -> Inputs:
    body = request.resource
    if body is None:
        return from_query(operation.definition, request.parameters)
    questions = await checking(request, lambda asked: _refuse_unsound(operation, asked, body))
    if questions:
        await settle(questions, session, request.server.checker)
    if body.get("resourceType") == "Parameters":
        refuse_parameters("an operation with Parameters in its body", request)
    return from_body(operation.definition, body, request.parameters)


def _lines(operation: Operation, request: Request) -> AsyncIterator[bytes] | None:
    if request.lines is not None and not operation.takes_lines:
        raise FhirError.at(
            Kind.UNSUPPORTED_MEDIA_TYPE,
            "http.Content-Type",
            f"${operation.code} does not take a body of {NDJSON}",
        )
    return request.lines


def steps(server: Server) -> Mapping[str, Step]:
    """What takes the steps of operations' jobs, by the address of the definition."""
    return {
        operation.definition["url"]: _step(operation, server)
        for operation in server.operations
        if operation.step is not None
    }


def _step(operation: Operation, server: Server) -> Step:
    take = operation.step
    assert take is not None  # noqa: S101 - `steps` saw to it

    async def step(work: Work) -> None:
        told = json.decode_own(await desk.file(work.session, work.job.id, REQUEST))
        known_as = replace(server, base=told["base"])
        now, limits = server.clock(), server.limits
        prepare = _preparing(known_as, work.session)
        asked, base = told["asked"], known_as.base
        await take(Task(work, asked, base, now, limits, prepare, server.import_from))

    return step


def _preparing(server: Server, session: Session) -> Callable[[Resource], Awaitable[Prepared]]:
    async def prepare(resource: Resource) -> Prepared:
        name, size = _type_of(resource), len(json.encode(resource))
        request = Request(server=server, resource_type=name, resource=resource, size=size)
        told = (await settled(await checking(request, checked), session)).told
        whole = _with_id(resource)
        ready = draft(whole, server)

        async def write(unit: SessionUnit) -> str:
            current = await unit.read(ready.type, ready.id)
            stored = await unit.put(whole, "PUT", ready)
            await require_one_person(whole, unit, server)
            if current is None or current.deleted:
                return "created"
            return "unchanged" if stored.version == current.version else "updated"

        return Prepared(write, told)

    return prepare


def _type_of(resource: Resource) -> str:
    name = resource.get("resourceType")
    if not (isinstance(name, str) and is_resource_type(name)):
        raise FhirError.at(
            Kind.MALFORMED, "resourceType", f"{name!r} is not a resource type of FHIR R4"
        )
    return name


def _with_id(resource: Resource) -> Resource:
    return resource if "id" in resource else {**resource, "id": new_id()}


def _operation(request: Request) -> Operation:
    level = "instance" if request.id else "type" if request.resource_type else "system"
    found = request.server.operations.find(request.operation, level, request.resource_type)
    if found is None:
        place = "/".join(part for part in (request.resource_type, request.id) if part)
        raise FhirError(
            Kind.NOT_FOUND,
            f"There is no operation ${request.operation} on {place or 'the system'}",
        )
    if request.method in ("GET", "HEAD") and found.writes_by(request.method):
        raise FhirError(
            Kind.METHOD_NOT_ALLOWED,
            f"${request.operation} changes what is stored; POST is allowed, GET is not",
            allowed_methods=("POST",),
        )
    return found


def _refuse_unsound(operation: Operation, request: Request, body: Resource) -> tuple[Question, ...]:
    """Raise for a body that R4 or a profile refuses; what could not be told at once.

    Where the operation takes faulty resources, those pass and only what is around them counts.
    """
    name = str(body.get("resourceType"))
    if not operation.takes_faulty:
        return check(body, name, request.server.checker).questions
    if name == "Parameters":
        check(_without_resources(body), name, request.server.checker)
    return ()


_SOUND: Final = {"resourceType": "Basic", "code": {"text": "stands for any resource"}}


def _without_resources(parameters: Resource) -> Resource:
    """With a sound resource wherever there is one; what is no object at all stays as it is."""
    given = parameters.get("parameter")
    if not isinstance(given, list):
        return parameters
    return {**parameters, "parameter": [*map(_without_resource, given)]}


def _without_resource(part: Any) -> Any:
    if isinstance(part, dict) and isinstance(part.get("resource"), dict):
        return {**part, "resource": _SOUND}
    return part
