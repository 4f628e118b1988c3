"""Jobs over HTTP: where one stands, its result, its files, its end.

https://hl7.org/fhir/R4/async.html; the result of a search or batch as in R5,
https://hl7.org/fhir/R5/async-bundle.html; manifest and files as in the Bulk Data Access guide,
https://hl7.org/fhir/uv/bulkdata/STU2/export.html
"""

import re
from email.utils import formatdate
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

from fhir_server.access.session import Session
from fhir_server.errors import FhirError, Issue, Kind
from fhir_server.fhir import json
from fhir_server.fhir.bundles import of_rendered
from fhir_server.fhir.dates import instant
from fhir_server.fhir.outcomes import outcome
from fhir_server.interactions.exchange import Answer, Request, Server
from fhir_server.interactions.kept import (
    as_readable_now,
    as_told,
    deletions_readable_now,
    lines_readable_now,
)
from fhir_server.jobs import desk
from fhir_server.jobs.record import REQUEST, Job, State

ANSWERS: Final = "answer"
"""The folder with the entries of the answer to a search or batch."""
NDJSON: Final = "application/fhir+ndjson"
_WAIT: Final = "1"
"""Seconds until it is worth asking again."""
_MOST_PROGRESS: Final = 100
"""Characters of `X-Progress`."""
_SHOWN: Final = re.compile(r"(output|error|deleted)-([0-9]{1,6})\.ndjson", re.ASCII)

_READABLE: Final = {
    "output": lines_readable_now,
    "deleted": deletions_readable_now,
    "error": as_told,
}
"""What is shown of a file by now, by its section of the manifest."""


def accepted(server: Server, job: Job) -> Answer:
    """202: the work goes on, and says where."""
    address = _address(server, job)
    text = f"The request is accepted; {address} tells what becomes of it"
    told = outcome([Issue(text, severity="information")], default_code="informational")
    headers = {"content-location": address}
    return Answer(202, body=json.encode(told), headers=headers, honoured=("respond-async",))


async def perform(session: Session, request: Request) -> Answer:
    """202 while it is not finished, then its result or the refusal."""
    job = await request.server.desk.find(session, request.id)
    match job.state:
        case State.DONE:
            return await _result(session, request.server, job)
        case State.FAILED:
            return Answer(job.status, body=json.encode(job.outcome), headers=_expires(job))
        case _:
            headers = {"x-progress": job.progress[:_MOST_PROGRESS], "retry-after": _WAIT}
            return Answer(202, headers=headers)


async def cancel(session: Session, request: Request) -> Answer:
    """The job ends, and what it made as files is gone; what it has stored stays."""
    await request.server.desk.cancel(session, request.id)
    return Answer(202, body=json.encode(_cancelled()))


def _cancelled() -> dict[str, Any]:
    text = "The job is cancelled, and its result is gone"
    return outcome([Issue(text, severity="information")], default_code="informational")


async def file(session: Session, request: Request) -> Answer:
    """A file of the result: resources, one a line."""
    job = await request.server.desk.find(session, request.id)
    named = _SHOWN.fullmatch(request.version)
    if job.state is not State.DONE or named is None:
        raise FhirError(Kind.NOT_FOUND, "The job has no such file")
    name = f"{named[1]}/{request.member}/{int(named[2]):06}"
    content = await desk.file(session, job.id, name)
    if session.is_limited(request.member):
        content = await _READABLE[named[1]](session, content)
    return Answer(200, body=content, media_type=NDJSON, headers=_expires(job))


async def _result(session: Session, server: Server, job: Job) -> Answer:
    asked = json.decode_own(await desk.file(session, job.id, REQUEST))
    if "url" not in asked:
        body = of_rendered("batch-response", await _entries(session, job))
        is_same = job.reach in ("", await session.reach())
        shown = await as_readable_now(session, body, is_same=is_same)
        return Answer(200, body=shown, headers=_expires(job))
    body = json.encode(await _manifest(session, server, job, asked["url"]))
    return Answer(200, body=body, media_type="application/json", headers=_expires(job))


async def _entries(session: Session, job: Job) -> list[bytes]:
    """Each is in one part or several, called after its number."""
    parts = [
        (name.partition("/")[0], content)
        async for name, content in desk.files(session, job.id, f"{ANSWERS}/")
    ]
    return [b"".join(map(itemgetter(1), some)) for _, some in groupby(parts, itemgetter(0))]


async def _manifest(session: Session, server: Server, job: Job, url: str) -> dict[str, Any]:
    """https://hl7.org/fhir/uv/bulkdata/STU2/export.html#response---complete-status"""
    listed: dict[str, list[dict[str, Any]]] = {"output": [], "deleted": [], "error": []}
    is_same = job.reach in ("", await session.reach())
    async for name, lines in desk.index(session, job.id):
        section, kind, number = name.split("/")
        address = f"{_address(server, job)}/{kind}/{section}-{int(number)}.ndjson"
        count = {"count": lines} if is_same else {}
        listed[section].append({"type": kind, "url": address, **count})
    manifest = {
        "transactionTime": instant(job.created),
        "request": url,
        "requiresAccessToken": not server.open_access,
        **listed,
    }
    return manifest if job.summary is None else {**manifest, "extension": job.summary}


def _address(server: Server, job: Job) -> str:
    return f"{server.base}/_jobs/{job.id}"


def _expires(job: Job) -> dict[str, str]:
    return {"expires": formatdate(job.expires // 1_000_000, usegmt=True)}
