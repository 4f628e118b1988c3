"""Searches, batches and operations that are answered later: `Prefer: respond-async`.

RFC 7240 section 4.1, https://hl7.org/fhir/R4/async.html. A batch takes a step for each entry:
what an entry writes and its answer are one commit, so a resumed batch repeats no entry.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlencode

from fhir_server.access.session import Memo, Session, SessionUnit
from fhir_server.errors import FhirError, Kind
from fhir_server.fhir import json
from fhir_server.fhir.bundles import Entry
from fhir_server.interactions import batch
from fhir_server.interactions.asynchronous import ANSWERS, accepted
from fhir_server.interactions.entries import Planned, entries_of, failure, planned, response
from fhir_server.interactions.exchange import Answer, Preferences, Request, Server
from fhir_server.interactions.permission import require_scopes
from fhir_server.interactions.provenance import refuse
from fhir_server.interactions.repeats import once
from fhir_server.interactions.routing import Interaction, checking, run
from fhir_server.jobs import desk
from fhir_server.jobs.desk import Asking
from fhir_server.jobs.record import REQUEST, Job, State
from fhir_server.jobs.runner import Lost, Step, Work
from fhir_server.operation.registry import Operation

_log: Final = logging.getLogger(__name__)
_BATCH: Final = "batch"
_READ: Final = "interaction"
_ENTRIES: Final = "entry"
"""The folder with the entries of a batch."""


async def run_or_accept(session: Session, interaction: Interaction, request: Request) -> Answer:
    """Carry an interaction out, or later where the client prefers that and it is offered.

    A preference may be ignored (RFC 7240 section 2): by transactions, reads and single writes,
    and by operations that write, which are quick.
    """
    if not (interaction.writes or interaction.code == "batch"):
        refuse(request, interaction.code)
    if request.preferences.respond_async:
        require_scopes(session.caller, interaction.code, request)
        if interaction.code == "batch" and await checking(request, batch.type_of) == "batch":
            refuse(request, "A batch")
            return await _accept_once(session, request)
        if interaction.code.startswith("search-") or _only_reads(request):
            return await _accept_read(session, request)
    return await run(session, interaction, request)


def _only_reads(request: Request) -> bool:
    """Whether it is an operation that changes nothing and is no job by itself."""
    if request.resource is not None:
        return False
    found = _operation(request)
    return found is not None and found.step is None and not found.affects_state


def _operation(request: Request) -> Operation | None:
    if not request.operation:
        return None
    level = "instance" if request.id else "type" if request.resource_type else "system"
    return request.server.operations.find(request.operation, level, request.resource_type)


async def _accept_read(session: Session, request: Request) -> Answer:
    operation = request.operation and f"${request.operation}"
    parts = (request.resource_type, request.id, request.member or operation)
    asked = {
        "address": "/".join(part for part in parts if part),
        "parameters": request.parameters,
        "handling": request.preferences.handling,
    }
    job = request.server.desk.new(session, _READ)
    return await _start(session, request, job, asked)


async def _accept_once(session: Session, request: Request) -> Answer:
    """A batch that is sent again under its `X-Request-ID` is the same job."""

    async def work(unit: SessionUnit) -> Answer:
        return await once(unit, request, lambda: _accept_batch(unit, request))

    return await session.commit("job", work)


async def _accept_batch(session: Asking, request: Request) -> Answer:
    asked = {"returns": request.preferences.returns, "handling": request.preferences.handling}
    job = request.server.desk.new(session, _BATCH)
    entries = entries_of(request)
    files = [
        memo
        for index, entry in enumerate(entries)
        for memo in job.parts(f"{_ENTRIES}/{index:06}", json.encode(entry))
    ]
    return await _start(session, request, job, {**asked, "entries": len(entries)}, *files)


async def _start(
    session: Asking, request: Request, job: Job, asked: Mapping[str, Any], *files: Memo
) -> Answer:
    server = request.server
    told = json.encode({**asked, "base": server.base})
    return accepted(server, await server.desk.start(session, job, told, *files))


def steps(server: Server) -> Mapping[str, Step]:
    """What takes the steps of these jobs, by their kind."""

    async def read(work: Work) -> None:
        await _read(server, work)

    async def one_entry(work: Work) -> None:
        await _one_entry(server, work)

    return {_READ: read, _BATCH: one_entry}


async def _asked(work: Work) -> Any:
    """With the `base` that the client knows the server by, which a proxy may have told."""
    return json.decode_own(await desk.file(work.session, work.job.id, REQUEST))


async def _read(server: Server, work: Work) -> None:
    """A search or operation: all of it in one step, which changes nothing."""
    asked = await _asked(work)
    match = server.router.match("GET", asked["address"])
    parameters = [(name, value) for name, value in asked["parameters"]]
    query = urlencode(parameters)
    work.note(f"job {work.job.id}: GET /{asked['address']}" + (f"?{query}" if query else ""))
    request = Request(
        server=replace(server, base=asked["base"]),
        resource_type=match.resource_type,
        id=match.id,
        operation=match.operation,
        member=match.member,
        parameters=parameters,
        preferences=Preferences(handling=asked["handling"]),
    )
    answer = await run(work.session, match.interaction, request)
    await _keep(work, 0, response(answer), 1)


async def _one_entry(server: Server, work: Work) -> None:
    """The next entry of a batch."""
    asked = await _asked(work)
    index, count = work.job.place or 0, asked["entries"]
    preferences = Preferences(asked["returns"], asked["handling"])
    known_as = replace(server, base=asked["base"])
    outer = Request(server=known_as, method="POST", preferences=preferences)
    try:
        if index < count:
            await _entry(work, index, count, outer)
        else:
            await _finish(work)
    except FhirError as error:
        if error.kind is Kind.UNAVAILABLE:
            raise  # which passes by itself, and then the entry is tried again
        await _keep(work, index, failure(error), count)
    except Lost:
        raise
    except Exception:
        _log.exception("An entry of a batch failed")
        broken = FhirError(Kind.INTERNAL, "The server failed at this entry")
        await _keep(work, index, failure(broken), count)


async def _entry(work: Work, index: int, count: int, outer: Request) -> None:
    raw = await _read_entry(work, index)
    item = planned(index, json.decode_own(raw), replace(outer, size=len(raw)))
    batch.require_in_batch(item)
    ready = await item.interaction.ready(work.session, item.request)
    prepared = replace(item, request=ready)
    if item.interaction.writes or _changes(item.request):
        await _write(work, prepared, count)
    else:
        answer = await item.interaction.perform(work.session, prepared.request)
        await _keep(work, index, response(answer), count)


def _changes(request: Request) -> bool:
    """Whether it is an operation that writes, which it then does in the commit of its answer."""
    found = _operation(request)
    return found is not None and found.affects_state


async def _read_entry(work: Work, index: int) -> bytes:
    folder = f"{_ENTRIES}/{index:06}/"
    parts = [part async for _, part in desk.files(work.session, work.job.id, folder)]
    return b"".join(parts)


async def _write(work: Work, item: Planned, count: int) -> None:
    interaction = item.interaction

    async def commit(asked: Request) -> None:
        async def change(unit: SessionUnit) -> Job:
            answer = await interaction.perform(unit, await interaction.resolved(unit, asked))
            return await _kept(unit, work.job, item.index, response(answer), count)

        await work.commit(interaction.code, change)

    await interaction.committed(work.session, item.request, commit)


async def _keep(work: Work, index: int, entry: Entry, count: int) -> None:
    """Store the answer that was worked out."""

    async def change(unit: SessionUnit) -> Job:
        return await _kept(unit, work.job, index, entry, count)

    await work.commit("job", change)


async def _kept(unit: SessionUnit, job: Job, index: int, entry: Entry, count: int) -> Job:
    for memo in job.parts(f"{ANSWERS}/{index:06}", entry.render()):
        await unit.keep(memo)
    done = index + 1
    state = State.RUNNING if done < count else State.DONE
    return replace(job, place=done, progress=f"{done} of {count} done", state=state)


async def _finish(work: Work) -> None:
    """A batch without entries has nothing to do."""

    async def change(unit: SessionUnit) -> Job:  # noqa: ARG001
        return replace(work.job, state=State.DONE)

    await work.commit("job", change)
